"""Run: the progress that a handler reports, and what queues and retries come to."""

from __future__ import annotations

import json
import logging

import pytest

from relayq_core import Job, JobContext, job
from relayq_core.engine.results import RunOutcome
from relayq_core.testing import Bench, Offer
from tests.stories.running import SECOND, next_run
from tests.support.factories import NOW
from tests.support.faulty_bench import FaultyBench
from tests.support.rows import read_row

# --- progress ---


def test_progress_is_written_at_most_every_two_seconds(bench: Bench) -> None:
    """A handler may call it in a loop of a million rows; the first and the last always count."""
    written: list[tuple[float, bool]] = []

    @job
    def export(context: JobContext) -> None:
        for percent in range(0, 101, 10):
            written.append((percent / 100, context.progress(percent / 100, f"{percent} %")))
            bench.clock.advance(seconds=0.5)
        assert read_row(bench).progress == {"fraction": 1.0, "note": "100 %"}

    bench.relayq.dispatch(export, job_id="mine")
    next_run(bench)
    assert [fraction for fraction, was in written if was] == [0.0, 0.4, 0.8, 1.0]
    assert read_row(bench).progress == {"fraction": 1.0, "note": "100 %"}


def test_progress_raises_when_the_lease_is_lost(bench: Bench) -> None:
    """It may stop: what it does is not wanted any more."""
    answers: list[bool] = []

    @job(backoff=0)
    def export(context: JobContext) -> None:
        answers.append(context.progress(0.1))
        bench.clock.advance(minutes=20)
        bench.sweep()
        answers.append(context.progress(0.2))

    bench.relayq.dispatch(export, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert answers == [True, False]


def test_progress_that_cannot_be_written_does_not_fail_the_job(caplog: pytest.LogCaptureFixture) -> None:
    """It is a courtesy."""
    bench = FaultyBench()

    @job
    def export(context: JobContext) -> None:
        assert context.progress(0.1) is False

    bench.relayq.dispatch(export, job_id="mine")
    bench.faults["save_progress"] = ["unsent"]
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    assert "progress was not kept" in caplog.text


def test_progress_is_a_fraction(bench: Bench) -> None:
    """Fifty per cent is 0.5: the sentence says so."""

    @job(max_attempts=1)
    def export(context: JobContext) -> None:
        context.progress(50)

    bench.relayq.dispatch(export, job_id="mine")
    assert next_run(bench) is RunOutcome.FAILED
    assert "InvalidOption: progress: expected a fraction from 0 to 1, got 50" in (read_row(bench).error or "")


# --- queues and retries ---


def test_a_retry_is_handed_to_the_runner_of_its_queue(bench: Bench) -> None:
    """A queue may have a function of its own."""

    @job(queue="reports", backoff=5)
    def report() -> None:
        raise ValueError

    bench.relayq.dispatch(report, job_id="mine")
    bench.handoff.offers.clear()
    bench.run("mine")
    assert bench.handoff.offers == [Offer("mine", "reports", NOW + 5 * SECOND)]


def test_a_retry_whose_handoff_fails_is_the_sweepers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The row waits in the index all the same."""

    @job(backoff=5)
    def flaky() -> None:
        raise ValueError

    bench.relayq.dispatch(flaky, job_id="mine")
    bench.handoff.offers.clear()
    bench.handoff.error = RuntimeError("throttled")
    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert read_row(bench).due_at == NOW + 35 * SECOND
    assert "the sweeper will start the job" in caplog.text


def test_no_log_line_and_no_stored_error_shows_the_payload(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A payload may hold what only the handler is to see."""
    caplog.set_level(logging.DEBUG)

    class Login(Job, max_attempts=2, backoff=0):
        password: str

        def handle(self) -> None:
            raise ValueError("wrong")

        def failed(self, error: BaseException) -> None:
            Login.model_validate({"password": {self.password: 1}})

    bench.relayq.dispatch(Login(password="hunter2"), job_id="mine")
    next_run(bench)
    next_run(bench)
    assert "hunter2" in bench.store.failures["mine"].payload_json
    assert "hunter2" not in caplog.text
    assert "hunter2" not in json.dumps([bench.store.failures["mine"].error, bench.store.failures["mine"].errors])
