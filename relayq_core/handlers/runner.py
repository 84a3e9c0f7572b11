"""The runner function's handler: one handoff, one job."""

from __future__ import annotations

import os
from typing import Any

import relayq_core.engine.runner  # noqa: F401 - in the start, and not while the first job waits for it
from relayq_core import api
from relayq_core.adapters.aws_lambda import LambdaInvoke
from relayq_core.client import RelayQ
from relayq_core.errors import InvalidOption
from relayq_core.events.listeners import events
from relayq_core.handlers.lambda_events import LambdaContext, parse_runner_event
from relayq_core.handlers.starting import refuse_another_python, starting
from relayq_core.handlers.telemetry import counted, flushing, own_metrics, structured_logger
from relayq_core.jobs.registry import import_jobs
from relayq_core.settings import Settings

metrics = own_metrics()
counted(events, metrics)


def _relayq() -> RelayQ:
    """A function cannot name itself in its own template: unless told otherwise, the runner is this one."""
    settings = Settings.from_environ().needed("jobs_table", "failed_table")
    this = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    return RelayQ(settings.evolve(runner_function=settings.runner_function or this))


with starting():
    refuse_another_python()
    _made = _relayq()
    # what jobs log with logging.getLogger(__name__) is structured too
    logger = structured_logger(*{name.partition(".")[0] for name in _made.settings.job_modules})
    api.use(_made)  # dispatch() within a job finds this runner too
    # a module that fails to import fails the start: nothing is claimed that could not be run
    import_jobs(_made.settings.job_modules)
    _made.connect()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run one job. Answers `{"job_id", "ended"}`, or `{"error"}` for an event that is not a handoff."""
    with flushing(metrics), _made.publishing(context.get_remaining_time_in_millis):
        try:
            asked = parse_runner_event(event)
        except InvalidOption as error:
            logger.error("the event is not a handoff: %s", error)
            return {"error": str(error)}
        logger.append_keys(job_id=asked.job_id)
        if isinstance(_made.handoff, LambdaInvoke):
            _made.handoff.invoked_as(getattr(context, "invoked_function_arn", ""))
        try:
            ran = _made.runner.run(
                asked.job_id, asked.run_at, context.get_remaining_time_in_millis, asked.name, asked.queue
            )
            logger.debug("run ended: %s", ran.ended)
        finally:
            logger.remove_keys(["job_id"])
        return {"job_id": asked.job_id, "ended": ran.ended.value}
