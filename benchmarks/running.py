"""Measure the runner's own work for a job that does nothing, against the two updates it makes."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.aws import build_relayq, make_tuned_client, record_calls, set_environment, start_stand
from benchmarks.measuring import CONTROL, compare
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.server import OF_A_CLASS
from relayq_core import Job, RelayQ, job

GROUP = "Run"
JOB_ID = "01JD9Z3K4M5N6P7Q8R9S0T1V2W"
AGAINST = "two update_item, tuned"


@job(queue="emails", timeout=30)
def send_email(to: str, subject: str, user_id: int) -> None:
    """Do nothing, so that only the runner is measured."""


class SendEmail(Job, queue="emails", timeout=30):
    """The same job as a class."""

    to: str
    subject: str
    user_id: int

    def handle(self) -> None:
        """Do nothing."""


class Invocation:
    """Lambda's context, with plenty of time left."""

    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds that are left."""
        return 900_000


def measure(scale: Scale) -> Iterator[Row]:
    """Yield the core alone, and the whole handler with its log line and its metrics."""
    logging.getLogger("relayq").setLevel(logging.WARNING)
    with start_stand() as aws, set_environment(aws.environ):
        relayq = build_relayq()
        # the core first: once the handler's module is imported, every run counts metrics
        core = compare(
            _make_raw_calls(relayq),
            {"run": lambda: _run(relayq), "class": lambda: _run(relayq, OF_A_CLASS)},
            rounds=scale.rounds,
            batch=scale.batch,
        )
        handler = compare(_make_raw_calls(relayq), {"run": _load_handler()}, rounds=scale.rounds, batch=scale.batch)
    for name, ratios, key, goal, note in (
        ("a warm job: claim, build, handle, settle", core, "run", 1.10, "a function with an empty body"),
        ("the same for a Job class", core, "class", 1.10, "built by pydantic"),
        ("the function in the Lambda handler", handler, "run", None, "with a structured log line and EMF metrics"),
    ):
        ratio = ratios[key]
        yield Row(
            GROUP,
            name,
            AGAINST,
            ratio.cpu,
            goal,
            unit="× CPU",
            spread=(ratio.cpu_from, ratio.cpu_to),
            control=ratios[CONTROL].cpu,
            note=note,
        )


def _run(relayq: RelayQ, job_id: str = JOB_ID) -> None:
    result = relayq.runner.run(job_id, None, lambda: 900_000)
    assert result.ended == "completed", result.ended


def _make_raw_calls(relayq: RelayQ) -> Callable[[], None]:
    with record_calls(relayq, "dynamodb") as calls:
        _run(relayq)
    (_, claim), (_, settle) = calls
    update = make_tuned_client("dynamodb").update_item

    def send() -> None:
        update(**claim)
        update(**settle)

    return send


def _load_handler() -> Callable[[], object]:
    """Return a call of the runner function's handler, without its output: writing logs is not the runner's work."""
    settings = {
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_RUNNER_FUNCTION": "runner",
        "RELAYQ_JOB_MODULES": "benchmarks.running",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    sink = io.StringIO()
    with set_environment({**os.environ, **settings}), contextlib.redirect_stdout(sink):
        module: Any = importlib.import_module("relayq_core.handlers.runner")
    event, context = {"job_id": JOB_ID, "run_at": 0}, Invocation()

    def invoke() -> None:
        sink.seek(0)
        sink.truncate()
        with contextlib.redirect_stdout(sink):
            module.handler(event, context)

    return invoke
