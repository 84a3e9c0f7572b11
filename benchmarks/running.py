"""The runner's own work for a job that does nothing, against the two updates it consists of."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.aws import environment, relayq, sent_by, stand, tuned
from benchmarks.measuring import CONTROL, paired
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.server import OF_A_CLASS
from relayq_core import Job, RelayQ, job

GROUP = "Run"
JOB_ID = "01JD9Z3K4M5N6P7Q8R9S0T1V2W"
AGAINST = "two update_item, tuned"


@job(queue="emails", timeout=30)
def send_email(to: str, subject: str, user_id: int) -> None:
    """The handler that does nothing: what is left is the runner."""


class SendEmail(Job, queue="emails", timeout=30):
    """The same as a class."""

    to: str
    subject: str
    user_id: int

    def handle(self) -> None:
        """Do nothing."""


class Invocation:
    """Lambda's context, with plenty of time left."""

    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds."""
        return 900_000


def rows(scale: Scale) -> Iterator[Row]:
    """The core alone, and the whole handler with its log line and its metrics."""
    logging.getLogger("relayq").setLevel(logging.WARNING)
    with stand() as aws, environment(aws.environ):
        made = relayq()
        # the core first: the handler's module makes every run count its metrics
        core = paired(
            _raw(made),
            {"run": lambda: _ran(made), "class": lambda: _ran(made, OF_A_CLASS)},
            rounds=scale.rounds,
            batch=scale.batch,
        )
        handler = paired(_raw(made), {"run": _whole_handler()}, rounds=scale.rounds, batch=scale.batch)
    for name, found, key, goal, note in (
        ("a warm job: claim, build, handle, settle", core, "run", 1.10, "a function with an empty body"),
        ("the same for a Job class", core, "class", 1.10, "built by pydantic"),
        ("the function in the Lambda handler", handler, "run", None, "with a structured log line and EMF metrics"),
    ):
        ratio = found[key]
        yield Row(
            GROUP,
            name,
            AGAINST,
            ratio.cpu,
            goal,
            unit="× CPU",
            spread=(ratio.cpu_from, ratio.cpu_to),
            control=found[CONTROL].cpu,
            note=note,
        )


def _ran(made: RelayQ, job_id: str = JOB_ID) -> None:
    ran = made.runner.run(job_id, None, lambda: 900_000)
    assert ran.ended == "completed", ran.ended


def _raw(made: RelayQ) -> Callable[[], None]:
    with sent_by(made, "dynamodb") as seen:
        _ran(made)
    (_, claim), (_, settle) = seen
    update = tuned("dynamodb").update_item

    def send() -> None:
        update(**claim)
        update(**settle)

    return send


def _whole_handler() -> Callable[[], object]:
    """The runner function's module, with its output thrown away: writing it is the log's, not the runner's."""
    settings = {
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_RUNNER_FUNCTION": "runner",
        "RELAYQ_JOB_MODULES": "benchmarks.running",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    sink = io.StringIO()
    with environment({**os.environ, **settings}), contextlib.redirect_stdout(sink):
        module: Any = importlib.import_module("relayq_core.handlers.runner")
    event, context = {"job_id": JOB_ID, "run_at": 0}, Invocation()

    def invoke() -> None:
        sink.seek(0)
        sink.truncate()
        with contextlib.redirect_stdout(sink):
            module.handler(event, context)

    return invoke
