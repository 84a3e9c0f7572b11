"""The sweeper function's handler: one tick of the schedule."""

from __future__ import annotations

from typing import Any

from relayq_core.client import RelayQ
from relayq_core.engine.sweeper import Scope
from relayq_core.events.listeners import events
from relayq_core.extras import extra
from relayq_core.handlers.lambda_events import LambdaContext
from relayq_core.handlers.starting import starting
from relayq_core.handlers.telemetry import counted, flushing, own_metrics, structured_logger
from relayq_core.settings import Settings

with extra("lambda"):
    from aws_lambda_powertools.metrics import MetricUnit

logger = structured_logger()
metrics = own_metrics()
counted(events, metrics)

with starting():
    _made = RelayQ(Settings.from_environ().needed("jobs_table", "failed_table", "runner_function"))
    _made.connect()


def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Sweep once. Whatever the event holds, a tick is a tick. Answers with the counts by action."""
    with flushing(metrics), _made.publishing(context.get_remaining_time_in_millis):
        scope = Scope(lookahead_ms=_made.settings.lookahead_seconds * 1000)
        swept = _made.sweeper.sweep(context.get_remaining_time_in_millis, scope)
        metrics.add_metric("OldestDueAge", MetricUnit.Milliseconds, swept.oldest_due_age_ms)
        if swept.counts:
            logger.info("swept", extra={"counts": dict(swept.counts)})
        return {"counts": dict(swept.counts), "oldest_due_age_ms": swept.oldest_due_age_ms}
