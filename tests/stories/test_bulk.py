"""Many jobs at once: clear a queue, redrive and forget what failed, at a pace, and with an end in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relayq_core import InvalidOption, StoreError, job
from relayq_core.errors import Bury
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.bulk import BulkOutcome, Tally
from relayq_core.operations.jobs import Failures
from relayq_core.testing import Bench
from tests.support.factories import NOW
from tests.support.faulty_bench import FaultyBench

Crash = Callable[[str], JobRecord]


@pytest.fixture
def fail(bench: Bench) -> Callable[..., None]:
    """Make a job fail: under this id, with this name and this error; further keywords are the dispatch's."""

    def failed(job_id: str, name: str = "pay", error: str = "no", **options: Any) -> None:
        @job(name=name, max_attempts=1)
        def handler() -> None:
            raise Bury(error)

        bench.relayq.dispatch(name, job_id=job_id, **options)
        bench.run(job_id)
        bench.handoff.offers.clear()

    return failed


def ids(outcomes: Any) -> list[tuple[str, str]]:
    """Each job with what became of it, in the order of their ids."""
    return sorted((outcome.job_id, outcome.what) for outcome in outcomes)


# --- clear ---


def test_clear_cancels_what_waits_and_leaves_what_runs(bench: Bench, crash: Crash) -> None:
    """Pending, delayed and retrying; of this queue only."""
    for job_id, delay in (("now", 0), ("later", 86_400), ("running", 0)):
        bench.relayq.dispatch("greet", job_id=job_id, queue="emails", delay=delay)
    bench.relayq.dispatch("greet", job_id="elsewhere", queue="reports")
    crash("running")

    @job(name="stumble", backoff=60)
    def stumble() -> None:
        raise ValueError("not this time")

    bench.relayq.dispatch("stumble", job_id="retrying", queue="emails")
    bench.run("retrying")
    assert bench.store.jobs["retrying"].status is Status.RETRYING

    assert bench.relayq.clear("emails").counts == {"cancelled": 3, "running": 1}
    assert {job_id: row.status.value for job_id, row in bench.store.jobs.items()} == {
        "now": "cancelled",
        "later": "cancelled",
        "retrying": "cancelled",
        "running": "processing",
        "elsewhere": "pending",
    }
    assert bench.store.jobs["running"].cancel_requested_at is None


def test_a_dry_run_of_clear_changes_nothing(bench: Bench, crash: Crash) -> None:
    """It says what would be."""
    for n in range(3):
        bench.relayq.dispatch("greet", job_id=f"job-{n}")
    crash("job-0")
    before = dict(bench.store.jobs)
    assert bench.relayq.clear("default", dry_run=True).counts == {"cancelled": 2, "running": 1}
    assert bench.store.jobs == before


def test_clear_pages_through_a_queue_of_any_length(bench: Bench) -> None:
    """Its rows leave the index while it is read."""
    for n in range(2_000):
        bench.relayq.dispatch("greet", job_id=f"job-{n}", delay=3_600)
    assert bench.relayq.clear("default").counts == {"cancelled": 2_000}
    assert bench.relayq.live() == []


def test_clear_releases_unique_keys_and_calls_listeners(bench: Bench, told: list[str]) -> None:
    """As a cancel of each would."""
    bench.relayq.dispatch("greet", unique="k")
    bench.relayq.clear("default")
    assert told.count("cancelled") == 1
    assert not bench.relayq.dispatch("greet", unique="k").duplicate


def test_a_job_that_is_claimed_while_its_queue_is_cleared_runs(
    bench: Bench, crash: Crash, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the write a runner came: the write is conditional."""
    bench.relayq.dispatch("greet", job_id="mine")
    original = bench.store.cancel_waiting

    def claimed_first(*args: Any) -> bool:
        monkeypatch.undo()
        crash("mine")
        return original(*args)

    monkeypatch.setattr(bench.store, "cancel_waiting", claimed_first)
    assert bench.relayq.clear("default").counts == {"running": 1}
    assert bench.store.jobs["mine"].status is Status.PROCESSING


def test_what_is_dispatched_while_a_queue_is_cleared_stays(bench: Bench) -> None:
    """Else a clear beside a busy producer would never end. A clock may be two seconds off."""
    bench.relayq.dispatch("greet", job_id="before")
    cleared = bench.relayq.bulk.clear("default")
    bench.clock.advance(seconds=3)
    bench.relayq.dispatch("greet", job_id="after")
    assert ids(cleared) == [("before", "cancelled")]
    assert bench.store.jobs["after"].status is Status.PENDING


def test_a_queue_that_is_none_is_refused_and_an_empty_one_is_clear(bench: Bench) -> None:
    """Nothing is done by chance."""
    with pytest.raises(InvalidOption, match="queue"):
        bench.relayq.clear("no such/queue")
    assert bench.relayq.clear("unknown") == Tally()


# --- which failures ---


def test_failures_are_chosen_by_queue_name_error_and_age(bench: Bench, fail: Callable[..., None]) -> None:
    """All that is said has to hold; the newest come first, whatever their queue."""
    fail("a", "pay", "Card declined", queue="one")
    bench.clock.advance(minutes=10)
    fail("b", "pay", "Timed out", queue="two")
    bench.clock.advance(minutes=10)
    fail("c", "post", "card lost", queue="one")

    def chosen(**meant: Any) -> list[str]:
        return [record.id for record in bench.relayq.operations.failures(Failures(**meant))]

    assert chosen() == ["c", "b", "a"]
    assert chosen(queue="one") == ["c", "a"]
    assert chosen(job="pay") == ["b", "a"]
    assert chosen(error="CARD") == ["c", "a"]
    assert chosen(since=NOW + 600_000) == ["c", "b"]
    assert chosen(queue="one", job="pay", error="card") == ["a"]
    assert chosen(error="nothing like it") == []


def test_a_caller_that_bounds_the_reading_sees_what_is_not_selected_too(
    bench: Bench, fail: Callable[..., None]
) -> None:
    """From a moment on, to the age that was asked for."""
    for n, error in enumerate(["old", "card", "no", "card", "new"]):
        fail(f"job-{n}", error=error)
        bench.clock.advance(seconds=1)
    meant = Failures(error="card", since=NOW + 1000)
    seen = bench.relayq.operations.looked_through(meant, until=NOW + 3000)
    assert [(job.id, is_meant) for job, is_meant in seen] == [("job-3", True), ("job-2", False), ("job-1", True)]


def test_a_failure_whose_time_is_up_is_not_listed(fail: Callable[..., None], bench: Bench) -> None:
    """TTL deletes days late, and the list's index does not know when."""
    fail("old")
    bench.clock.advance(days=89)
    fail("new")
    assert [record.id for record in bench.relayq.failed()] == ["new", "old"]
    bench.clock.advance(days=2)
    assert "old" in bench.store.failures
    assert [record.id for record in bench.relayq.failed()] == ["new"]
    assert bench.relayq.redrive_many(Failures()).counts == {"redriven": 1}


def test_a_failure_that_is_kept_for_longer_elsewhere_is_listed(
    fail: Callable[..., None], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop does not know the stack's retention: the row is asked, and none that is kept is hidden."""
    fail("mine")
    bench.store.failures["mine"] = bench.store.failures["mine"].evolve(expires_at=NOW // 1000 + 365 * 86_400)
    bench.clock.advance(days=91)
    assert [record.id for record in bench.relayq.failed()] == ["mine"]


# --- redrive and forget many ---


def test_many_are_redriven_and_each_is_handed_off(bench: Bench, fail: Callable[..., None]) -> None:
    """The bug is mended; they come back."""
    for n in range(5):
        fail(f"job-{n}")
    assert bench.relayq.redrive_many(Failures(job="pay")).counts == {"redriven": 5}
    assert bench.store.failures == {}
    assert len(bench.handoff.offers) == 5


def test_a_redrive_of_many_registers_their_queue_once() -> None:
    """All registrations write the same row, which takes only a limited number of writes a second."""
    bench = FaultyBench()

    @job
    def pay() -> None:
        raise Bury("no")

    for n in range(5):
        bench.relayq.dispatch(pay, job_id=f"job-{n}")
        bench.run(f"job-{n}")
    bench.faulty.calls.clear()
    bench.clock.advance(minutes=5)  # until then this process knows that it is registered
    assert bench.relayq.redrive_many(Failures()).counts == {"redriven": 5}
    assert bench.faulty.calls.count("register_queue") == 1
    assert bench.faulty.calls.count("redrive") == 5


def test_many_are_redriven_at_the_rate_that_was_asked_for(bench: Bench, fail: Callable[..., None]) -> None:
    """Five hundred at ten a second: the last is handed off 49.9 seconds after the first."""
    ids = [f"job-{n}" for n in range(500)]
    for job_id in ids:
        fail(job_id)
    began = bench.clock.now()
    assert bench.relayq.redrive_many(ids, rate=10).counts == {"redriven": 500}
    first, *others = [offer.run_at for offer in bench.handoff.offers]
    assert first == 0, "at once, whatever the clock says"
    assert others == [began + 100 * n for n in range(1, 500)]


def test_what_was_slow_is_not_made_up_for_by_a_burst(bench: Bench, fail: Callable[..., None]) -> None:
    """What stands behind the jobs is to be spared, also after a pause."""
    for n in range(4):
        fail(f"job-{n}")
    outcomes = bench.relayq.bulk.redrive([f"job-{n}" for n in range(4)], rate=1)
    next(outcomes)
    bench.clock.advance(seconds=60)
    began = bench.clock.now()
    assert len(list(outcomes)) == 3
    assert [offer.run_at - began for offer in bench.handoff.offers[1:]] == [0, 1_000, 2_000]


def test_a_refused_redrive_does_not_keep_the_next_from_coming_back(bench: Bench, fail: Callable[..., None]) -> None:
    """Its key is another's; the answer names the holder, and the job stays failed."""
    fail("a")
    fail("b", unique="k")
    fail("c")
    bench.relayq.dispatch("pay", unique="k", job_id="other")
    tally = bench.relayq.redrive_many(["a", "b", "c", "nobody"])
    assert tally.counts == {"redriven": 2, "refused": 1, "gone": 1}
    (refused,) = tally.refused
    assert (refused.job_id, refused.what) == ("b", "refused")
    assert "its unique key is held by job 'other'" in refused.reason
    assert list(bench.store.failures) == ["b"]


def test_one_may_stop_in_between(bench: Bench, fail: Callable[..., None]) -> None:
    """Also while it waits for its pace: what was not reached is untouched."""
    for n in range(4):
        fail(f"job-{n}")
    stopped: list[bool] = []
    outcomes = bench.relayq.bulk.redrive([f"job-{n}" for n in range(4)], rate=0.01, stop=lambda: bool(stopped))
    assert next(outcomes) == BulkOutcome("job-0", "redriven")
    stopped.append(True)
    assert list(outcomes) == []
    assert bench.clock.now() == NOW
    assert sorted(bench.store.failures) == ["job-1", "job-2", "job-3"]


def test_many_are_forgotten(bench: Bench, fail: Callable[..., None]) -> None:
    """Those that were selected, and no others."""
    fail("a", error="card declined")
    fail("b", error="timed out")
    assert bench.relayq.forget_many(Failures(error="card")).counts == {"forgotten": 1}
    assert list(bench.store.failures) == ["b"]


def test_a_table_that_refuses_all_ends_it_with_its_error() -> None:
    """The same sentence is not repeated five hundred times."""
    bench = FaultyBench()
    bench.faults["forget"] = ["denied"] * 6
    with pytest.raises(StoreError, match="forget was denied"):
        bench.relayq.forget_many(f"job-{n}" for n in range(10))
    assert bench.faulty.calls == ["forget"] * 5
    assert bench.relayq.forget_many(["one", "more"]).counts == {"refused": 1, "gone": 1}


@pytest.mark.parametrize("rate", [0, -1, 0.001, 5_000, float("nan")])
def test_a_rate_that_is_none_is_refused_before_anything_is_done(
    bench: Bench, fail: Callable[..., None], rate: float
) -> None:
    """A slip of the finger must not take a year, nor a runner's whole concurrency."""
    fail("mine")
    with pytest.raises(InvalidOption, match=r"rate: expected 0.01 to 1000 a second"):
        bench.relayq.redrive_many(["mine"], rate=rate)
    assert "mine" in bench.store.failures


def test_a_single_id_is_not_taken_for_many(bench: Bench) -> None:
    """Its letters would be."""
    with pytest.raises(InvalidOption, match="expected several ids"):
        bench.relayq.forget_many("job-1")
