"""The runner function's handler: one handoff, one job."""

from __future__ import annotations

import os
from typing import Any

import relayq_core.engine.runner  # noqa: F401 - imported during the start, so that the first job does not wait for it
from relayq_core import api
from relayq_core.adapters.aws_lambda import LambdaInvoke
from relayq_core.client import RelayQ
from relayq_core.errors import InvalidOption
from relayq_core.events.listeners import events
from relayq_core.handlers.lambda_events import LambdaContext, parse_runner_event
from relayq_core.handlers.starting import check_python, pause_gc
from relayq_core.handlers.telemetry import build_logger, build_metrics, count_events, flush_at_end
from relayq_core.jobs.registry import import_jobs
from relayq_core.settings import Settings

metrics = build_metrics()
count_events(events, metrics)


def _build_relayq() -> RelayQ:
    """Build it with this function as the runner, unless the settings name one: a template cannot refer to itself."""
    settings = Settings.from_environ().require("jobs_table", "failed_table")
    this = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    return RelayQ(settings.evolve(runner_function=settings.runner_function or this))


with pause_gc():
    check_python()
    _relayq = _build_relayq()
    # so that what jobs log with logging.getLogger(__name__) is structured too
    logger = build_logger(*{name.partition(".")[0] for name in _relayq.settings.job_modules})
    api.use(_relayq)  # for dispatch() within a job
    # a module that cannot be imported fails the start, so that no job is claimed that could not run
    import_jobs(_relayq.settings.job_modules)
    _relayq.connect()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run one job. Return `{"job_id", "ended"}`, or `{"error"}` for an event that is not a handoff."""
    with flush_at_end(metrics), _relayq.publishing(context.get_remaining_time_in_millis):
        try:
            handoff = parse_runner_event(event)
        except InvalidOption as error:
            logger.error("the event is not a handoff: %s", error)
            return {"error": str(error)}
        logger.append_keys(job_id=handoff.job_id)
        if isinstance(_relayq.handoff, LambdaInvoke):
            _relayq.handoff.invoked_as(getattr(context, "invoked_function_arn", ""))
        try:
            result = _relayq.runner.run(
                handoff.job_id, handoff.run_at, context.get_remaining_time_in_millis, handoff.name, handoff.queue
            )
            logger.debug("run ended: %s", result.ended)
        finally:
            logger.remove_keys(["job_id"])
        return {"job_id": handoff.job_id, "ended": result.ended.value}
