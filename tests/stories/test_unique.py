"""Unique keys: of all callers who ask for the same thing one gets it, and the others hear which job has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core import Bury, Dispatched, Job, RetryAfter, Snooze, job
from relayq_core.engine.results import RunOutcome
from relayq_core.model.record import JobRecord
from relayq_core.testing import Bench
from tests.support.factories import NOW
from tests.support.faulty_bench import FaultyBench


def define_welcome() -> None:
    """A job to be sent once."""

    @job
    def welcome(user_id: int = 7) -> None: ...


def test_the_first_dispatch_wins_and_the_second_gets_its_id(bench: Bench) -> None:
    """Two clicks, one mail: the second caller gets a job to point at, and nothing is written or handed off for it."""
    first = bench.relayq.dispatch("welcome", {"user_id": 7}, unique="welcome:7", unique_for=300)
    second = bench.relayq.dispatch("welcome", {"user_id": 8}, unique="welcome:7")
    assert first == Dispatched(first.job_id, duplicate=False, handed_off=True)
    assert second == Dispatched(first.job_id, duplicate=True, handed_off=False)
    assert list(bench.store.jobs) == [first.job_id]
    assert len(bench.handoff.offers) == 1


def test_without_a_window_a_key_is_held_until_the_job_has_ended(bench: Bench) -> None:
    """However long it waits, and however often it is tried."""
    tries: list[Exception] = [RetryAfter(0), Snooze(0)]

    @job(max_attempts=9)
    def sync() -> None:
        if tries:
            raise tries.pop(0)

    first = bench.relayq.dispatch(sync.job().with_options(unique="k", delay=3_600))
    bench.clock.advance(hours=1)
    for ended in (RunOutcome.RETRYING, RunOutcome.SNOOZED):
        assert bench.run(first.job_id).ended is ended
        assert bench.relayq.dispatch("sync", unique="k").job_id == first.job_id
    assert bench.run(first.job_id).ended is RunOutcome.COMPLETED
    assert not bench.relayq.dispatch("sync", unique="k").duplicate


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "crashed", "unknown"])
def test_whatever_ends_the_job_frees_its_key(bench: Bench, crash: Callable[[str], JobRecord], how: str) -> None:
    """A key that is never given back would lock its thing out forever."""

    class Work(Job, max_attempts=1):
        def handle(self) -> None:
            if how == "failed":
                raise Bury("no")

    name = "Nobody" if how == "unknown" else "Work"
    bench.relayq.dispatch(name, unique="k", job_id="mine")
    if how == "cancelled":
        bench.relayq.cancel("mine")
    if how == "crashed":
        crash("mine")
        bench.clock.advance(minutes=3)
        bench.sweep()
    bench.run("mine")
    if how == "unknown":
        bench.clock.advance(minutes=15)
        bench.run("mine")
    assert bench.relayq.dispatch(name, unique="k").duplicate is False


def test_a_window_outlasts_the_job(bench: Bench) -> None:
    """At most once in five minutes means that, also if it took a second."""
    define_welcome()
    first = bench.relayq.dispatch("welcome", unique="k", unique_for=300)
    assert bench.run(first.job_id).ended is RunOutcome.COMPLETED
    bench.clock.advance(seconds=299)
    assert bench.relayq.dispatch("welcome", unique="k", unique_for=300).job_id == first.job_id
    bench.clock.advance(seconds=2)
    second = bench.relayq.dispatch("welcome", unique="k", unique_for=300)
    assert not second.duplicate
    assert bench.relayq.dispatch("welcome", unique="k").job_id == second.job_id


def test_a_window_that_is_over_is_over_though_the_job_still_runs(bench: Bench) -> None:
    """The window is what was asked for; its end must not break the end of the first job."""

    @job
    def slow() -> None:
        bench.clock.advance(seconds=30)
        second.append(bench.relayq.dispatch("slow", unique="k", unique_for=300))

    second: list[Dispatched] = []
    bench.relayq.dispatch("slow", unique="k", unique_for=10, job_id="first")
    assert bench.run("first").ended is RunOutcome.COMPLETED
    assert not second[0].duplicate
    assert bench.relayq.dispatch("slow", unique="k").job_id == second[0].job_id


def test_keys_belong_to_the_job_of_a_name(bench: Bench) -> None:
    """Two jobs may call different things by the same key; two queues may not."""
    first = bench.relayq.dispatch("welcome", unique="7")
    assert not bench.relayq.dispatch("goodbye", unique="7").duplicate
    assert bench.relayq.dispatch("welcome", unique="7", queue="vip").job_id == first.job_id


def test_a_key_may_be_long_or_look_like_another_jobs(bench: Bench) -> None:
    """Long ones are hashed; no spelling reaches into another job's keys."""
    long = "k" * 10_000
    first = bench.relayq.dispatch("welcome", unique=long)
    assert bench.relayq.dispatch("welcome", unique=long).job_id == first.job_id
    assert not bench.relayq.dispatch("welcome", unique=long + "!").duplicate
    bench.relayq.dispatch("a", unique="b#c")
    assert not bench.relayq.dispatch("a.b", unique="c").duplicate
    assert not bench.relayq.dispatch("a", unique="b").duplicate


def test_the_same_dispatch_sent_again_is_no_duplicate_of_itself(bench: Bench) -> None:
    """Its own row is judged before its own key."""
    first = bench.relayq.dispatch("welcome", unique="k", job_id="mine")
    bench.clock.advance(seconds=1)
    again = bench.relayq.dispatch("welcome", unique="k", job_id="mine")
    assert first == again == Dispatched("mine", duplicate=False, handed_off=True)


def test_a_put_that_was_not_answered_holds_its_key(told: list[str]) -> None:
    """It was accepted, so the next one with this key is a duplicate of it."""
    bench = FaultyBench()
    bench.faults["add"] = ["lost"]
    first = bench.relayq.dispatch("welcome", unique="k")
    assert not first.duplicate
    assert bench.relayq.dispatch("welcome", unique="k") == Dispatched(first.job_id, duplicate=True, handed_off=False)


def test_a_unique_job_may_be_delayed(bench: Bench) -> None:
    """The key is held from dispatch, not from start; the first one's time stands."""
    first = bench.relayq.dispatch("welcome", unique="k", delay=60)
    bench.relayq.dispatch("welcome", unique="k", delay=5)
    assert bench.store.jobs[first.job_id].available_at == NOW + 60_000


def test_a_duplicate_is_not_a_child(bench: Bench) -> None:
    """A handler that dispatches what exists gets its id; the first job's parentage does not change."""

    @job
    def parent() -> str:
        return bench.relayq.dispatch("welcome", unique="k").job_id

    first = bench.relayq.dispatch("welcome", unique="k")
    bench.relayq.dispatch(parent, job_id="mine")
    bench.run("mine")
    done = bench.relayq.get("mine")
    assert done is not None
    assert done.result == first.job_id
    assert bench.store.jobs[first.job_id].parent_id is None
