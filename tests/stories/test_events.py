"""Listeners: they hear what happens, and nothing that they do can harm a job."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from relayq_core import Bury, InvalidOption, Job, JobEvent, RetryAfter, Snooze, job, on
from relayq_core.engine.results import RunOutcome
from relayq_core.events.listeners import KINDS, events
from relayq_core.testing import Bench
from tests.support.factories import NOW


@pytest.fixture
def heard() -> list[JobEvent]:
    """Every event, in order."""
    found: list[JobEvent] = []
    for kind in KINDS:
        on(kind)(found.append)
    return found


def kinds(heard: list[JobEvent]) -> list[str]:
    """What they were."""
    return [event.kind for event in heard]


def test_a_success_is_heard_from_dispatch_to_its_end(bench: Bench, heard: list[JobEvent]) -> None:
    """The events say how long it waited and how long it took."""

    @job
    def greet() -> None:
        bench.clock.advance(milliseconds=1_500)

    bench.relayq.dispatch(greet, job_id="mine")
    bench.clock.advance(milliseconds=250)
    bench.run("mine")
    assert kinds(heard) == ["dispatched", "started", "processed"]
    dispatched, started, processed = heard
    assert (dispatched.job.status, dispatched.job.created_at) == ("pending", NOW)
    assert (started.job.attempt, started.wait_ms) == (1, 250)
    assert (processed.job.status, processed.duration_ms) == ("completed", 1_500)


def test_a_failure_is_published_with_its_error_and_whether_it_is_tried_again(
    bench: Bench, heard: list[JobEvent]
) -> None:
    """Each attempt once."""

    @job(max_attempts=2, backoff=0)
    def pay(n: int = 0) -> None:
        bench.clock.advance(seconds=1)
        raise RetryAfter(0, "busy")

    bench.relayq.dispatch(pay, job_id="mine")
    bench.run("mine")
    bench.run("mine")
    assert kinds(heard) == ["dispatched", "started", "failed", "started", "failed"]
    first, last = heard[2], heard[4]
    assert (first.will_retry, last.will_retry) == (True, False)
    assert (first.job.status, last.job.status) == ("retrying", "failed")
    assert (str(first.error), first.duration_ms) == ("busy", 1_000)


def test_a_snooze_is_no_failure(bench: Bench, heard: list[JobEvent]) -> None:
    """It has an event of its own."""

    @job
    def wait() -> None:
        raise Snooze(30)

    bench.relayq.dispatch(wait, job_id="mine")
    bench.run("mine")
    assert kinds(heard) == ["dispatched", "started", "snoozed"]


def test_a_job_of_an_unknown_name_is_not_said_to_have_started(bench: Bench, heard: list[JobEvent]) -> None:
    """No handler ran; when it is buried, that is an event."""
    bench.relayq.dispatch("nobody", job_id="mine")
    bench.run("mine")
    assert kinds(heard) == ["dispatched"]
    bench.clock.advance(minutes=15)
    bench.run("mine")
    assert kinds(heard) == ["dispatched", "failed"]
    assert type(heard[-1].error).__name__ == "UnknownJob"


def test_a_listener_that_raises_harms_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The job, the dispatch and the listeners after it go on."""
    after: list[str] = []
    for kind in KINDS:

        @on(kind)
        def broken(event: JobEvent) -> None:
            raise RuntimeError(f"no {event.kind}")

        on(kind)(lambda event: after.append(event.kind))

    @job(max_attempts=1)
    def pay(fails: bool) -> None:
        if fails:
            raise Bury("no")

    bench.relayq.dispatch("pay", {"fails": False}, job_id="good")
    bench.relayq.dispatch("pay", {"fails": True}, job_id="bad")
    assert bench.run("good").ended is RunOutcome.COMPLETED
    assert bench.run("bad").ended is RunOutcome.FAILED
    assert after == ["dispatched", "dispatched", "started", "processed", "started", "failed"]
    assert "no processed" in caplog.text
    assert "a listener raised" in caplog.text


def test_a_listener_that_raises_does_not_show_a_payload(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It may have tried to read it."""
    caplog.set_level(logging.DEBUG)

    class Login(Job):
        password: int

        def handle(self) -> None: ...

    @on("dispatched")
    def audit(event: JobEvent) -> None:
        Login.model_validate(event.job.payload)

    bench.relayq.dispatch("Unknown", {"password": "hunter2"})
    assert "a listener raised" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_listener_may_dispatch_and_be_taken_off(bench: Bench) -> None:
    """An event is sent after its job is written."""

    @on("failed")
    def alert(event: JobEvent) -> None:
        if not event.will_retry:
            bench.relayq.dispatch("alert", {"job_id": event.job.id}, job_id="alert")

    @job(max_attempts=1)
    def pay() -> None:
        raise ValueError

    bench.relayq.dispatch(pay, job_id="mine")
    bench.run("mine")
    assert bench.store.jobs["alert"].payload == {"job_id": "mine"}
    events.off(alert)
    bench.relayq.dispatch(pay, job_id="other")
    del bench.store.jobs["alert"]
    bench.run("other")
    assert "alert" not in bench.store.jobs


def test_an_event_that_does_not_exist_is_an_error_where_it_is_written() -> None:
    """A listener that is never called is worse than none."""
    with pytest.raises(InvalidOption, match=r"there is no 'procesed'\. Did you mean \"processed\"\?"):
        on("procesed")


def test_a_failed_handoff_is_published(bench: Bench, heard: list[JobEvent]) -> None:
    """It costs time, never a job: a metric, no alarm."""
    bench.handoff.error = RuntimeError("throttled")
    bench.relayq.dispatch("greet", job_id="mine")
    assert kinds(heard) == ["dispatched", "handoff_failed"]
    assert str(heard[-1].error) == "throttled"


def test_a_cancelled_wait_and_a_cancelled_run_are_published_alike(bench: Bench, heard: list[JobEvent]) -> None:
    """Each once."""

    @job
    def pay() -> None:
        bench.relayq.cancel("running")
        raise ValueError

    bench.relayq.dispatch(pay, job_id="waiting")
    bench.relayq.cancel("waiting")
    bench.relayq.dispatch(pay, job_id="running")
    bench.run("running")
    told: list[Any] = [(event.kind, event.job.id) for event in heard if event.kind == "cancelled"]
    assert told == [("cancelled", "waiting"), ("cancelled", "running")]
