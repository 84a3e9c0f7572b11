"""Dispatch: what is accepted is written down first, and handed to a runner second."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relayq_core import DispatchUnknown, Exponential, Fixed, InvalidOption, Job, StoreError, job
from relayq_core.model.record import JobRecord, Status
from relayq_core.testing import Bench, Offer
from tests.support.factories import NOW, a_burial, a_lease
from tests.support.faulty_bench import FaultyBench
from tests.support.rows import read_row

SECOND = 1_000


def define_greet() -> Any:
    """A job with options of its own."""

    class Greet(Job, queue="greetings", max_attempts=5, backoff=[30, 120], timeout=60):
        name: str

        def handle(self) -> None: ...

    return Greet


# --- the row and the handoff ---


def test_a_job_is_written_down_and_then_handed_off(bench: Bench) -> None:
    """The row holds all that a runner needs; the handoff carries an id and a time."""
    Greet = define_greet()
    dispatched = bench.relayq.dispatch(Greet(name="Ada"))
    assert (dispatched.duplicate, dispatched.handed_off) == (False, True)
    assert read_row(bench, dispatched.job_id) == JobRecord(
        id=dispatched.job_id,
        name="Greet",
        queue="greetings",
        max_attempts=5,
        backoff=read_row(bench, dispatched.job_id).backoff,
        timeout_ms=60_000,
        payload_json='{"name":"Ada"}',
        created_at=NOW,
        updated_at=NOW,
        available_at=NOW,
        due_at=NOW + 30 * SECOND,
    )
    assert str(read_row(bench, dispatched.job_id).backoff) == "30,120"
    assert bench.handoff.offers == [Offer(dispatched.job_id, "greetings", 0)]


def test_the_queue_is_made_known_before_its_first_job() -> None:
    """A job in a queue that the sweeper does not know of could be lost; the second dispatch need not ask again."""
    bench = FaultyBench()
    bench.relayq.dispatch("greet", queue="new")
    bench.relayq.dispatch("greet", queue="new")
    assert bench.faulty.calls == ["register_queue", "add", "add"]
    assert bench.store.list_queues() == ["new"]


@pytest.mark.parametrize("fault", ["denied", "unsent", "lost"])
def test_a_queue_that_cannot_be_made_known_fails_the_dispatch(fault: str) -> None:
    """Nothing is written, so nothing can be lost; the next dispatch tries again."""
    bench = FaultyBench()
    bench.faults["register_queue"] = [fault]  # type: ignore[list-item]
    with pytest.raises(StoreError):
        bench.relayq.dispatch("greet", queue="new")
    assert bench.store.jobs == {}
    assert bench.relayq.dispatch("greet", queue="new").handed_off


@pytest.mark.parametrize("ahead", [timedelta(days=3650, seconds=1), timedelta(days=36_500), "the end of time"])
def test_a_moment_ends_where_a_delay_does(bench: Bench, ahead: timedelta | str) -> None:
    """Ten years ahead: no caller needs a moment beyond, and not even every calendar has it."""
    now = datetime.fromtimestamp(NOW / 1000, UTC)
    at = datetime.max.replace(tzinfo=UTC) if isinstance(ahead, str) else now + ahead
    with pytest.raises(InvalidOption, match="at: expected 0 to 315360000 seconds"):
        bench.relayq.dispatch("greet", at=at)
    assert bench.store.jobs == {}
    assert bench.relayq.dispatch("greet", at=now + timedelta(days=3650)).job_id


def test_a_queue_is_registered_again_after_some_minutes(bench: Bench) -> None:
    """Its name may have been taken back, or the list of queues overwritten: then nothing would be swept again."""
    bench.relayq.dispatch("greet", queue="emails")
    assert bench.relayq.queues_forget("reports") is False
    bench.store._queues.clear()
    bench.clock.advance(minutes=5)
    bench.relayq.dispatch("greet", queue="emails")
    assert bench.store.list_queues() == ["emails"]


@pytest.mark.parametrize("what", ["waits", "runs", "has failed"])
def test_a_queue_with_jobs_is_not_forgotten(bench: Bench, what: str) -> None:
    """What waits there would never be swept, and what failed there never listed."""
    bench.relayq.dispatch("greet", queue="emails", job_id="mine", max_attempts=1, delay=864_000 * (what == "waits"))
    if what != "waits":
        claimed = bench.store.claim("mine", a_lease()).record
        assert claimed is not None
        if what == "has failed":
            bench.store.settle(claimed, a_burial(claimed))
    with pytest.raises(InvalidOption, match="has failed jobs" if what == "has failed" else "wait or run"):
        bench.relayq.queues_forget("emails")
    assert bench.store._queues == {"emails"}


def test_a_queue_whose_job_came_in_between_is_not_forgotten(bench: Bench) -> None:
    """It is looked for again once the name is gone."""
    bench.relayq.dispatch("greet", queue="emails", job_id="mine")
    bench.relayq.cancel("mine")
    forget = bench.store.forget_queue

    def dispatched_first(queue: str) -> bool:
        bench.relayq.dispatch("greet", queue="emails")
        return forget(queue)

    bench.store.forget_queue = dispatched_first  # type: ignore[method-assign]
    with pytest.raises(InvalidOption, match="wait or run"):
        bench.relayq.queues_forget("emails")
    assert bench.store._queues == {"emails"}


def test_an_empty_queue_is_forgotten(bench: Bench) -> None:
    """It is known again with its next job."""
    bench.relayq.dispatch("greet", queue="emails", job_id="mine")
    bench.relayq.cancel("mine")
    assert bench.relayq.queues_forget("emails")
    bench.clock.advance(days=1)
    assert bench.store.list_queues() == []
    bench.relayq.dispatch("greet", queue="emails")
    assert bench.store.list_queues() == ["emails"]


@pytest.mark.parametrize("way", ["drops it", "raises"])
def test_a_lost_handoff_never_fails_a_dispatch(
    bench: Bench, way: str, caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    """The row is the truth: the sweeper starts each job whose handoff was lost."""
    if way == "raises":
        bench.handoff.error = RuntimeError("throttled")
    dispatched = bench.relayq.dispatch("greet")
    assert read_row(bench, dispatched.job_id).status is Status.PENDING
    assert dispatched.handed_off is (way == "drops it")
    if way == "raises":
        assert "the sweeper will start the job" in caplog.text
        assert told == ["dispatched", "handoff_failed"]
    bench.handoff.error = None
    bench.handoff.offers.clear()
    bench.clock.advance(seconds=30)
    bench.sweep()
    assert bench.handoff.offers == [Offer(dispatched.job_id, "default", 0)]


# --- delays ---


@pytest.mark.parametrize("delay", [0, 0.5, 5, 65])
def test_a_short_delay_is_handed_off_at_once_with_its_moment(bench: Bench, delay: float) -> None:
    """A runner sleeps it; the sweeper looks only if that came to nothing."""
    dispatched = bench.relayq.dispatch("greet", delay=delay)
    moment = NOW + round(delay * SECOND)
    assert bench.handoff.offers == [Offer(dispatched.job_id, "default", moment if delay else 0)]
    assert read_row(bench, dispatched.job_id).available_at == moment
    assert read_row(bench, dispatched.job_id).due_at == moment + 30 * SECOND


@pytest.mark.parametrize("delay", [timedelta(seconds=65, milliseconds=1), timedelta(days=3_000)])
def test_a_long_delay_is_the_sweepers(bench: Bench, delay: timedelta) -> None:
    """No runner sleeps through it: the index has the row at its very moment."""
    dispatched = bench.relayq.dispatch("greet", delay=delay)
    moment = NOW + round(delay / timedelta(milliseconds=1))
    assert not dispatched.handed_off
    assert bench.handoff.offers == []
    record = read_row(bench, dispatched.job_id)
    assert (record.available_at, record.due_at) == (moment, moment)


def test_a_moment_is_as_good_as_a_delay(bench: Bench) -> None:
    """In any time zone."""
    at = datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(seconds=20)
    dispatched = bench.relayq.dispatch("greet", at=at)
    assert read_row(bench, dispatched.job_id).available_at == NOW + 20 * SECOND


def test_a_moment_that_has_passed_is_now(bench: Bench) -> None:
    """An appointment in the past is one that is due."""
    dispatched = bench.relayq.dispatch("greet", at=datetime(2020, 1, 1, tzinfo=UTC))
    assert read_row(bench, dispatched.job_id).available_at == NOW
    assert dispatched.handed_off


def test_without_handoff_everything_is_the_sweepers() -> None:
    """HANDOFF=none: for callers that may not invoke the runner."""
    bench = Bench(handoff="none")
    dispatched = bench.relayq.dispatch("greet")
    assert not dispatched.handed_off
    assert bench.handoff.offers == []
    assert read_row(bench, dispatched.job_id).due_at == NOW


def test_without_waiting_only_what_is_due_now_is_handed_off() -> None:
    """MAX_WAIT 0: nothing is ever slept in a runner."""
    bench = Bench(max_wait_seconds=0)
    assert bench.relayq.dispatch("greet").handed_off
    assert not bench.relayq.dispatch("greet", delay=0.001).handed_off


# --- the ways to say it ---


def test_all_ways_to_name_a_job_write_the_same_row(bench: Bench) -> None:
    """By object, by type and data, by name, as a request; the type's options come along where it is known."""
    Greet = define_greet()
    ids = [
        bench.relayq.dispatch(Greet(name="Ada")).job_id,
        bench.relayq.dispatch(Greet, {"name": "Ada"}).job_id,
        bench.relayq.dispatch("Greet", {"name": "Ada"}).job_id,
        bench.relayq.dispatch(Greet(name="Ada").with_options()).job_id,
    ]
    rows = [read_row(bench, job_id).evolve(id="same", due_at=None) for job_id in ids]
    assert all(found == rows[0] for found in rows)


def test_a_function_is_dispatched_by_its_request(bench: Bench) -> None:
    """Its signature is the payload; by name it is the same."""

    @job(queue="emails")
    def send_email(to: str, subject: str = "Hi") -> None: ...

    first = bench.relayq.dispatch(send_email.job("a@b.c", subject="Hi")).job_id
    second = bench.relayq.dispatch("send_email", {"to": "a@b.c", "subject": "Hi"}).job_id
    assert read_row(bench, first).payload == read_row(bench, second).payload == {"to": "a@b.c", "subject": "Hi"}
    assert read_row(bench, first).queue == read_row(bench, second).queue == "emails"


def test_a_caller_without_the_jobs_code_writes_only_what_it_knows(bench: Bench) -> None:
    """The runner completes the rest from the type; the caller's settings must not stand in for it."""
    dispatched = bench.relayq.dispatch("somebody_elses_job", {"n": 1}, max_attempts=9)
    found = read_row(bench, dispatched.job_id)
    assert (found.queue, found.max_attempts, found.backoff, found.timeout_ms) == ("default", 9, None, None)


def test_the_call_overrides_the_request_and_the_request_the_type(bench: Bench) -> None:
    """Options come from the nearest place that says something."""
    Greet = define_greet()
    request = Greet(name="Ada").with_options(queue="vip", max_attempts=2, backoff=7, timeout=30)
    dispatched = bench.relayq.dispatch(request.with_options(timeout=20), max_attempts=4)
    found = read_row(bench, dispatched.job_id)
    assert (found.queue, found.max_attempts, found.backoff, found.timeout_ms) == ("vip", 4, Fixed(7), 20_000)


def test_a_backoff_is_kept_to_the_letter(bench: Bench) -> None:
    """Cap and jitter too."""
    backoff = Exponential(3, cap=600, jitter=0.25)
    dispatched = bench.relayq.dispatch("greet", backoff=backoff)
    assert read_row(bench, dispatched.job_id).backoff == backoff


def test_the_default_queue_is_the_settings(bench: Bench) -> None:
    """It is for dispatches that name none."""
    bench = Bench(default_queue="misc")
    assert read_row(bench, bench.relayq.dispatch("greet").job_id).queue == "misc"


# --- the same dispatch again ---


def test_dispatching_again_with_the_same_id_is_the_same_job(bench: Bench) -> None:
    """A caller that does not know whether it was accepted asks again: accepted once, handed off twice, no duplicate."""
    first = bench.relayq.dispatch("greet", {"n": 1}, job_id="mine")
    bench.clock.advance(seconds=2)
    again = bench.relayq.dispatch("greet", {"n": 1}, job_id="mine")
    assert first == again
    assert list(bench.store.jobs) == ["mine"]
    assert bench.handoff.offers == [Offer("mine", "default", 0)] * 2


def test_dispatching_again_does_not_wake_what_is_running_or_done(bench: Bench) -> None:
    """It was accepted: that is all the caller wants to know."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    bench.run("mine")
    bench.handoff.offers.clear()
    again = bench.relayq.dispatch(greet, job_id="mine")
    assert (again.job_id, again.duplicate, again.handed_off) == ("mine", False, False)
    assert bench.handoff.offers == []
    assert read_row(bench, "mine").status is Status.COMPLETED


def test_dispatching_again_does_not_restart_a_failed_job(bench: Bench) -> None:
    """It has had its tries, and is in the failed table under that id: to redrive it is an operator's decision."""

    @job(max_attempts=1)
    def greet(n: int) -> None:
        raise OSError

    bench.relayq.dispatch("greet", {"n": 1}, job_id="mine")
    bench.run("mine")
    again = bench.relayq.dispatch("greet", {"n": 1}, job_id="mine")
    assert (again.job_id, again.duplicate, again.handed_off) == ("mine", False, False)
    assert bench.store.jobs == {}
    with pytest.raises(InvalidOption, match="belongs to another job"):
        bench.relayq.dispatch("greet", {"n": 2}, job_id="mine")


def test_a_caller_that_may_not_read_failures_dispatches_all_the_same() -> None:
    """The look for a failure under the same id is a courtesy, not a condition."""
    bench = FaultyBench()
    bench.faults["get_failed"] = ["denied"]
    assert bench.relayq.dispatch("greet", {"n": 1}, job_id="mine").handed_off


def test_a_look_for_failures_without_an_answer_is_raised_before_anything_is_written() -> None:
    """To take that for a no would begin a failed job again; to ask again is safe."""
    bench = FaultyBench()
    bench.faults["get_failed"] = ["unsent"]
    with pytest.raises(StoreError, match="no answer"):
        bench.relayq.dispatch("greet", {"n": 1}, job_id="mine")
    assert bench.store.jobs == {}
    assert bench.relayq.dispatch("greet", {"n": 1}, job_id="mine").handed_off


def test_only_an_id_of_the_callers_own_is_looked_up() -> None:
    """The happy path has no reads."""
    bench = FaultyBench()
    bench.relayq.dispatch("greet", {"n": 1})
    assert bench.faulty.calls == ["register_queue", "add"]


def test_an_id_of_another_job_is_refused(bench: Bench) -> None:
    """Calling that accepted would lose a job without a word."""
    bench.relayq.dispatch("greet", {"n": 1}, job_id="mine")
    with pytest.raises(InvalidOption, match="job_id: 'mine' belongs to another job"):
        bench.relayq.dispatch("greet", {"n": 2}, job_id="mine")
    with pytest.raises(InvalidOption, match="another job, 'greet'"):
        bench.relayq.dispatch("part", {"n": 1}, job_id="mine")


# --- no answer ---


def test_a_put_that_was_not_answered_is_looked_up(told: list[str]) -> None:
    """It is there, as it was sent: accepted, and handed off like any other."""
    bench = FaultyBench()
    bench.faults["add"] = ["lost"]
    dispatched = bench.relayq.dispatch("greet")
    assert dispatched.handed_off
    assert bench.store.get(dispatched.job_id) is not None
    assert bench.handoff.offers == [Offer(dispatched.job_id, "default", 0)]
    assert told == ["dispatched"]


@pytest.mark.parametrize(("add", "get"), [("unsent", None), ("lost", "unsent"), ("lost", "denied")])
def test_only_if_put_and_read_have_no_answer_is_a_dispatch_unknown(add: str, get: str | None) -> None:
    """A put that is not there yet may still arrive; asking again under the same id is safe either way."""
    bench = FaultyBench()
    bench.faults["add"] = [add]  # type: ignore[list-item]
    bench.faults["get"] = [get] if get else []  # type: ignore[list-item]
    with pytest.raises(DispatchUnknown, match="safe") as unknown:
        bench.relayq.dispatch("greet", {"n": 1})
    again = bench.relayq.dispatch("greet", {"n": 1}, job_id=unknown.value.job_id)
    assert (again.job_id, again.duplicate, again.handed_off) == (unknown.value.job_id, False, True)
    assert len(bench.store.jobs) == 1


def test_a_dispatch_that_is_refused_for_good_is_no_maybe() -> None:
    """Access denied, table missing: the job was certainly not accepted, and the sentence says what to do."""
    bench = FaultyBench()
    bench.faults["add"] = ["denied"]
    with pytest.raises(StoreError, match="add was denied; grant it"):
        bench.relayq.dispatch("greet")
    assert bench.store.jobs == {}


def test_a_first_try_whose_answer_was_lost_is_an_event_once(told: list[str]) -> None:
    """The store met the dispatch's own row: the job is new, and a listener that counts dispatches counts it."""
    bench = FaultyBench()
    bench.faults["add"] = ["resent"]
    dispatched = bench.relayq.dispatch("greet")
    assert (dispatched.duplicate, dispatched.handed_off) == (False, True)
    assert told == ["dispatched"]


# --- events ---


def test_a_dispatch_is_published_once_and_a_duplicate_is_not(bench: Bench, told: list[str]) -> None:
    """The event means: accepted and written."""
    bench.relayq.dispatch("greet", unique="k")
    bench.relayq.dispatch("greet", unique="k")
    assert told == ["dispatched"]


def test_no_log_line_shows_the_payload(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Logs are read by more people than tables."""
    caplog.set_level(logging.DEBUG)
    bench.handoff.error = RuntimeError("no")
    bench.relayq.dispatch("greet", {"password": "hunter2"}, unique="k")
    bench.relayq.dispatch("greet", {"password": "hunter2"}, unique="k")
    assert caplog.records
    assert "hunter2" not in caplog.text


# --- a caller's clock ---


@pytest.mark.parametrize("ahead", [3, 30, 80, 600])
def test_a_job_without_a_delay_starts_at_once_however_far_its_callers_clock_is_ahead(ahead: int) -> None:
    """Callers are laptops too. Nothing sleeps, and the sweeper is not needed."""
    bench = Bench()
    bench.clock.advance(seconds=ahead)
    job_id = bench.relayq.dispatch("greet").job_id
    bench.clock.advance(seconds=-ahead)
    began = bench.clock.now()
    (offer,) = bench.handoff.offers
    bench.relayq.runner.run(offer.job_id, offer.run_at, bench.clock.countdown(seconds=60))
    record = bench.store.get(job_id)
    assert record is not None
    assert record.started_at == began
    assert bench.clock.now() == began
