"""The sweeper function's handler: one tick of the schedule."""

from __future__ import annotations

from typing import Any

from relayq_core.client import RelayQ
from relayq_core.engine.sweeper import Scope
from relayq_core.events.listeners import events
from relayq_core.handlers.lambda_events import LambdaContext
from relayq_core.handlers.starting import pause_gc
from relayq_core.handlers.telemetry import build_logger, build_metrics, count_events, flush_at_end
from relayq_core.process.extras import extra
from relayq_core.settings import Settings

with extra("lambda"):
    from aws_lambda_powertools.metrics import MetricUnit

logger = build_logger()
metrics = build_metrics()
count_events(events, metrics)

with pause_gc():
    _relayq = RelayQ(Settings.from_environ().require("jobs_table", "failed_table", "runner_function"))
    _relayq.connect()


def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Sweep once. The event is ignored. Return the counts by action, and the age of the oldest due job."""
    with flush_at_end(metrics), _relayq.publishing(context.get_remaining_time_in_millis):
        scope = Scope(lookahead_ms=_relayq.settings.lookahead_seconds * 1000)
        swept = _relayq.sweeper.sweep(context.get_remaining_time_in_millis, scope)
        metrics.add_metric("OldestDueAge", MetricUnit.Milliseconds, swept.oldest_due_age_ms)
        if swept.counts:
            logger.info("swept", extra={"counts": dict(swept.counts)})
        return {"counts": dict(swept.counts), "oldest_due_age_ms": swept.oldest_due_age_ms}
