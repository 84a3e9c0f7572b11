"""Sweep: whatever was dropped, delayed or killed is picked up, and nothing can wedge the one who does it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from relayq_core.engine.sweeper import Scope
from relayq_core.errors import JobCrashed, StoreUnavailable
from relayq_core.model import settling
from relayq_core.model.record import JobRecord, Status, compute_shard, list_shards
from relayq_core.ports import Due
from relayq_core.process.budget import calls_within, seconds_left
from relayq_core.testing import Bench, Offer
from tests.support.factories import NOW, a_job
from tests.support.faulty_bench import Fault, FaultyBench
from tests.support.rows import read_row

SECOND = 1_000
MINUTE = 60_000
Crash = Callable[[str], JobRecord]


def offered(bench: Bench) -> list[str]:
    """Who was handed off since one last asked, in order."""
    ids = [offer.job_id for offer in bench.handoff.offers]
    bench.handoff.offers.clear()
    return ids


# --- lost handoffs ---


def test_a_job_that_no_runner_claimed_is_handed_off_again(bench: Bench) -> None:
    """The invocation was dropped: half a minute later there is another handoff."""
    bench.relayq.dispatch("greet", job_id="a", queue="greetings")
    offered(bench)
    bench.clock.advance(seconds=29)
    assert bench.sweep(Scope()).counts == {}
    bench.clock.advance(seconds=1)
    swept = bench.sweep(Scope())
    assert swept.counts == {"nudged": 1}
    assert bench.handoff.offers == [Offer("a", "greetings", 0)]
    assert read_row(bench, "a").nudges == 1


def test_nudges_of_one_job_come_ever_further_apart(bench: Bench) -> None:
    """A queue whose runner is broken must not cost an invocation a minute for each of its jobs."""
    bench.relayq.dispatch("greet", job_id="a")
    gaps = []
    for _ in range(8):
        due_at = read_row(bench, "a").due_at or 0
        gaps.append((due_at - bench.clock.now()) // SECOND)
        bench.clock.sleep(due_at - bench.clock.now())
        assert bench.sweep(Scope()).counts == {"nudged": 1}
    assert gaps == [30, 30, 60, 120, 240, 480, 900, 900]


def test_a_nudge_whose_handoff_fails_is_counted_all_the_same(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Else a throttled runner would be asked again at once."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.handoff.error = RuntimeError("throttled")
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"nudged": 1}
    assert bench.sweep(Scope()).counts == {}
    assert "the sweeper will start the job" in caplog.text


def test_sweepers_that_overlap_hand_off_once(bench: Bench) -> None:
    """Ticks come late, twice, or on top of each other."""
    bench.relayq.dispatch("greet", job_id="a")
    offered(bench)
    bench.clock.advance(minutes=1)
    bench.sweep(Scope())
    bench.sweep(Scope())
    assert offered(bench) == ["a"]


# --- delays ---


def test_a_long_delay_ends_at_its_moment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-ahead waits for each row: it is handed off when the time has come, not at the next tick."""

    def remember(job_id: str, queue: str | None, run_at: int, **hints: object) -> None:
        moments.append((job_id, bench.clock.now() - NOW))

    moments: list[tuple[str, int]] = []
    for job_id, delay in (("late", 170), ("early", 130), ("later", 400)):
        bench.relayq.dispatch("greet", job_id=job_id, delay=delay)
    monkeypatch.setattr(bench.handoff, "offer", remember)
    bench.clock.advance(minutes=2)
    swept = bench.sweep()
    assert moments == [("early", 130 * SECOND), ("late", 170 * SECOND)]
    assert swept.counts == {"nudged": 2}
    assert read_row(bench, "later").nudges == 0


def test_each_delay_is_in_time_whatever_the_tick(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks a minute apart, each looking 75 seconds ahead: nothing falls between two."""
    moments: dict[str, int] = {}

    def remember(job_id: str, queue: str | None, run_at: int, **hints: object) -> None:
        moments.setdefault(job_id, bench.clock.now() - run_at)

    for delay in range(66, 400, 7):
        bench.relayq.dispatch("greet", job_id=f"job-{delay}", delay=delay)
    monkeypatch.setattr(bench.handoff, "offer", remember)
    for tick in range(1, 8):
        if (ahead := NOW + tick * MINUTE - bench.clock.now()) > 0:
            bench.clock.sleep(ahead)
        bench.sweep()
    assert len(moments) == len(range(66, 400, 7))
    assert set(moments.values()) == {0}


def test_what_is_overdue_comes_before_what_is_ahead(bench: Bench) -> None:
    """A wait for a delay must not keep a job that is late already, whatever shard it is in."""
    for n in range(40):
        bench.store.add(a_job(id=f"ahead-{n}", available_at=NOW + 5 * SECOND, due_at=NOW + 5 * SECOND))
        bench.store.add(a_job(id=f"overdue-{n}", due_at=NOW - n))
    bench.store.register_queue("emails")
    assert bench.sweep().counts == {"nudged": 80}
    told = offered(bench)
    assert {job_id.partition("-")[0] for job_id in told[:40]} == {"overdue"}
    assert bench.clock.now() == NOW + 5 * SECOND


def test_the_look_ahead_ends_before_its_invocation_does(bench: Bench) -> None:
    """What lies beyond it is the next tick's; the tick is recorded."""
    bench.store.register_queue("emails")
    for seconds in (10, 20, 70):
        moment = NOW + seconds * SECOND
        bench.store.add(a_job(id=f"in-{seconds}", available_at=moment, due_at=moment))
    assert bench.sweep(seconds=30).counts == {"nudged": 2}
    assert bench.clock.now() == NOW + 20 * SECOND
    assert bench.store.read_last_tick() == (NOW, {"nudged": 2})


# --- leases ---


def test_a_lease_that_ran_out_is_released_with_the_jobs_backoff(
    bench: Bench, crash: Crash, caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    """The crash spent its attempt; the next one waits as after any failure, and knows what happened."""
    bench.relayq.dispatch("greet", job_id="a", max_attempts=3, backoff=45)
    crash("a")
    offered(bench)
    bench.clock.advance(minutes=3)
    assert bench.sweep(Scope()).counts == {"released": 1}
    released = read_row(bench, "a")
    assert (released.status, released.attempt, released.lease_id) == (Status.RETRYING, 1, None)
    assert released.available_at == bench.clock.now() + 45 * SECOND
    assert (released.error or "").startswith("JobCrashed: the runner of attempt 1 ended without settling")
    assert bench.handoff.offers == [Offer("a", "default", released.available_at)]
    assert "the runner of attempt 1 ended without settling" in caplog.text
    assert told == ["dispatched", "failed"]


def test_a_live_lease_is_looked_at_again_when_it_has_run_out(bench: Bench, crash: Crash) -> None:
    """A long job is no dead one, and a margin of two seconds is for clocks that differ."""
    bench.relayq.dispatch("greet", job_id="a")
    lease_until = crash("a").lease_until or 0
    bench.clock.advance(seconds=31)
    assert bench.sweep(Scope()).counts == {"postponed": 1}
    assert read_row(bench, "a").due_at == lease_until + 2 * SECOND
    assert read_row(bench, "a").status is Status.PROCESSING
    assert bench.sweep(Scope()).counts == {}
    bench.clock.sleep(lease_until + 2 * SECOND - 1 - bench.clock.now())
    assert bench.sweep(Scope()).counts == {}
    bench.clock.sleep(1)
    assert bench.sweep(Scope()).counts == {"released": 1}


def test_after_the_last_attempt_the_release_leaves_failed_its_chance(bench: Bench, crash: Crash) -> None:
    """It is marked exhausted and handed off at once: a runner, which has the code, runs failed() and buries."""
    bench.relayq.dispatch("greet", job_id="a", max_attempts=1, backoff=600)
    crash("a")
    offered(bench)
    bench.clock.advance(minutes=3)
    assert bench.sweep(Scope()).counts == {"released": 1}
    assert read_row(bench, "a").exhausted
    assert bench.handoff.offers == [Offer("a", "default", bench.clock.now())]


def test_an_exhausted_job_whose_runner_dies_too_is_buried(bench: Bench, crash: Crash, told: list[str]) -> None:
    """The sweeper has no code to run, so failed() is not called; the job is not lost."""
    bench.relayq.dispatch("greet", job_id="a", max_attempts=1)
    for action in ("released", "buried"):
        crash("a")
        bench.clock.advance(minutes=3)
        assert bench.sweep(Scope()).counts == {action: 1}
    assert bench.store.jobs == {}
    assert bench.store.failures["a"].attempt == 1
    assert told == ["dispatched", "failed", "failed"]


def test_a_crashed_job_that_is_to_be_cancelled_is_cancelled(bench: Bench, crash: Crash, told: list[str]) -> None:
    """The caller does not want it to be tried again."""
    bench.relayq.dispatch("greet", job_id="a")
    crash("a")
    bench.relayq.cancel("a")
    bench.clock.advance(minutes=3)
    assert bench.sweep(Scope()).counts == {"cancelled": 1}
    assert read_row(bench, "a").status is Status.CANCELLED


def test_a_cancel_that_comes_in_the_middle_of_a_release_is_heeded(
    bench: Bench, crash: Crash, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sweeper's look and its write."""
    bench.relayq.dispatch("greet", job_id="a")
    crash("a")
    bench.clock.advance(minutes=3)
    original = bench.store.settle

    def cancelled_first(*args: Any) -> Any:
        monkeypatch.undo()
        bench.relayq.cancel("a")
        return original(*args)

    monkeypatch.setattr(bench.store, "settle", cancelled_first)
    assert bench.sweep(Scope()).counts == {"cancelled": 1}


def test_a_job_that_settles_in_the_middle_of_a_look_is_left(
    bench: Bench, crash: Crash, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index nominates, the row decides, and the write asks once more."""
    bench.relayq.dispatch("greet", job_id="a")
    before = crash("a")
    bench.clock.advance(minutes=3)
    original = bench.store.settle

    def settled_first(*args: Any) -> Any:
        monkeypatch.undo()
        done = settling.cancel(before, bench.relayq.policy, now=bench.clock.now())
        original(before, done)
        return original(*args)

    monkeypatch.setattr(bench.store, "settle", settled_first)
    assert bench.sweep(Scope()).counts == {"left": 1}
    assert read_row(bench, "a").status is Status.CANCELLED
    assert bench.handoff.offers == [Offer("a", "default", 0)]


@pytest.mark.parametrize("stale", ["ended", "gone", "moved"])
def test_a_row_that_the_index_shows_late_is_left(bench: Bench, stale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index may be seconds behind: acting on what it says would run finished jobs again."""
    bench.relayq.dispatch("greet", job_id="a")
    seen = bench.store.list_due(compute_shard("default", "a"), 10**15, 10)
    if stale == "ended":
        bench.relayq.cancel("a")
    elif stale == "gone":
        bench.store.jobs.clear()
    else:
        bench.store.postpone(seen.rows[0], NOW + 600 * SECOND)
    offered(bench)
    monkeypatch.setattr(
        bench.store, "list_due", lambda shard, *_: seen if shard == compute_shard("default", "a") else EMPTY
    )
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"left": 1}
    assert offered(bench) == []


EMPTY = type("Empty", (), {"rows": (), "cursor": None})()


# --- never wedged ---


def test_a_row_that_cannot_be_read_is_set_aside_for_an_hour(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, counted and kept, and the one behind it is not kept waiting."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.relayq.dispatch("greet", job_id="b")
    offered(bench)
    bench.store.spoil("a")
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"unreadable": 1, "nudged": 1}
    assert offered(bench) == ["b"]
    assert "the row of job 'a' cannot be read" in caplog.text
    assert bench.store.jobs["a"].due_at == bench.clock.now() + 60 * MINUTE
    bench.clock.advance(seconds=1)
    assert bench.sweep(Scope()).counts == {}


def test_a_row_that_cannot_even_be_set_aside_does_not_stop_the_sweep() -> None:
    """The write that moves it may fail like any other."""
    bench = FaultyBench()
    bench.relayq.dispatch("greet", job_id="a")
    bench.relayq.dispatch("greet", job_id="b")
    offered(bench)
    bench.store.spoil("a")
    bench.faults["postpone"] = ["unsent"]
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"unreadable": 1, "nudged": 1}
    assert offered(bench) == ["b"]


def test_a_row_that_cannot_be_worked_on_does_not_stop_the_sweep(caplog: pytest.LogCaptureFixture) -> None:
    """Its turn comes at the next tick."""
    bench = FaultyBench()
    for n in range(3):
        bench.relayq.dispatch("greet", job_id=f"job-{n}")
    bench.faults["nudge"] = ["unsent"]
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"error": 1, "nudged": 2}
    assert bench.sweep(Scope()).counts == {"nudged": 1}
    assert "a row could not be worked on" in caplog.text


def test_a_defect_met_at_one_row_does_not_stop_the_sweep(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a bug of RelayQ's own must not keep every other job from being looked at."""
    for n in range(3):
        bench.relayq.dispatch("greet", job_id=f"job-{n}")
    original = bench.store.nudge

    def odd(row: Due, *args: int) -> Any:
        if row.job_id == "job-1":
            raise TypeError
        return original(row, *args)

    monkeypatch.setattr(bench.store, "nudge", odd)
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"error": 1, "nudged": 2}


def test_rows_that_cannot_be_worked_on_among_good_ones_end_no_sweep() -> None:
    """Only failures in a row are the table's: more than enough of them, scattered, keep no other job waiting."""
    bench = FaultyBench()
    for number in range(90):
        bench.relayq.dispatch("greet", job_id=f"job-{number:02}", delay=100)
    bench.clock.advance(minutes=10)
    scattered: list[Fault | None] = ["unsent", None, None] * 30
    bench.faults["nudge"] = scattered
    assert bench.sweep(Scope()).counts == {"error": 30, "nudged": 60}
    assert len(offered(bench)) == 60


def test_a_table_in_trouble_ends_the_sweep_instead_of_the_invocation(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty-five failures in a row are no matter of rows."""
    bench = FaultyBench()
    for n in range(40):
        bench.relayq.dispatch("greet", job_id=f"job-{n}")
    bench.faults["nudge"] = ["unsent"] * 100
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"error": 25}
    assert "25 rows in a row could not be worked on; the sweep ends here" in caplog.text


def test_it_pages_past_rows_that_nothing_can_be_done_about(bench: Bench, crash: Crash) -> None:
    """A full page of running jobs must not hide the lost one behind it."""
    bench = Bench(sweep_limit=3)
    shard_of_all = compute_shard("emails", "job-0")
    ids = [f"job-{n}" for n in range(400) if compute_shard("emails", f"job-{n}") == shard_of_all][:20]
    for job_id in ids[:-1]:
        bench.store.add(
            a_job(id=job_id, status=Status.PROCESSING, lease_id="l", lease_until=NOW + 60 * MINUTE, due_at=NOW)
        )
    bench.store.add(a_job(id=ids[-1], due_at=NOW + 1))
    bench.store.register_queue("emails")
    bench.clock.advance(seconds=1)
    assert bench.sweep(Scope()).counts == {"postponed": 19, "nudged": 1}
    assert offered(bench) == [ids[-1]]


def test_it_stops_before_its_invocation_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a page too: what is left comes first at the next tick, and this one is recorded."""
    bench.store.register_queue("emails")
    for n in range(100):
        bench.store.add(a_job(id=f"job-{n}", due_at=NOW))
    original = bench.store.nudge

    def slow(row: Due, nudges: int, due_at: int) -> Any:
        bench.clock.advance(seconds=1)
        return original(row, nudges, due_at)

    monkeypatch.setattr(bench.store, "nudge", slow)
    swept = bench.sweep(Scope(), seconds=20)
    assert 10 <= swept.counts["nudged"] <= 16
    assert bench.clock.now() < NOW + 20 * SECOND
    assert bench.store.read_last_tick() == (NOW, {"nudged": swept.counts["nudged"]})


def test_it_begins_at_a_random_shard(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick that always ran out of time at the same place would never reach the rest."""
    bench.store.register_queue("a")
    bench.store.register_queue("b")
    asked: list[str] = []
    original = bench.store.list_due

    def noted(shard: str, *args: Any) -> Any:
        asked.append(shard)
        return original(shard, *args)

    monkeypatch.setattr(bench.store, "list_due", noted)
    shards = [f"{queue}#{n}" for queue in "ab" for n in range(8)]
    for drawn in range(len(shards)):
        asked.clear()
        monkeypatch.setattr("random.randrange", {len(shards): drawn}.__getitem__)
        bench.sweep(Scope())
        assert asked == shards[drawn:] + shards[:drawn]


def test_a_sweep_of_nothing_is_recorded(bench: Bench) -> None:
    """Whether the sweeper lives is what one asks when jobs are late."""
    assert bench.sweep().counts == {}
    assert bench.store.read_last_tick() == (NOW, {})


def test_the_age_of_the_oldest_due_row_is_measured(bench: Bench) -> None:
    """The one number to put an alarm on."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.clock.advance(minutes=10)
    assert bench.sweep(Scope()).oldest_due_age_ms == 10 * MINUTE - 30 * SECOND


# --- time ---


def test_rows_get_the_time_of_their_tick_and_its_record_is_written_after_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that a throttle draws out end before Lambda ends the tick; else health says that no sweep has run."""
    for job_id in ("a", "b"):
        bench.relayq.dispatch("greet", job_id=job_id)
    bench.clock.advance(minutes=1)
    budgets: dict[str, list[float]] = {"nudge": [], "record_tick": []}
    for verb, budget in budgets.items():
        original = getattr(bench.store, verb)

        def note(*args: Any, original: Any = original, budget: list[float] = budget) -> Any:
            budget.append(seconds_left())
            return original(*args)

        monkeypatch.setattr(bench.store, verb, note)
    assert bench.relayq.sweeper.sweep(lambda: 20_000).counts == {"nudged": 2}
    assert all(11 < seconds <= 12 for seconds in budgets["nudge"])
    assert len(budgets["nudge"]) == 2
    assert budgets["record_tick"] == [math.inf]


def test_nothing_is_begun_that_the_tick_cannot_end(bench: Bench) -> None:
    """If less time is left than a call may take, the next tick does it."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.clock.advance(minutes=1)
    offered(bench)
    assert bench.relayq.sweeper.sweep(lambda: 8_999).counts == {}
    assert offered(bench) == []
    assert bench.store.read_last_tick() is not None


def test_a_handoff_for_which_no_time_is_left_fails_like_any_other(bench: Bench) -> None:
    """The row says when it is looked at again."""
    with calls_within(0):
        dispatched = bench.relayq.dispatch("greet", job_id="a")
    assert not dispatched.duplicate
    assert offered(bench) == []


def test_a_throttled_shard_keeps_no_other_from_being_swept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where no shard at all can be read has the sweep failed."""
    for number in range(20):
        bench.relayq.dispatch("greet", job_id=f"job-{number}")
    bench.clock.advance(minutes=1)
    list_due = bench.store.list_due
    throttled = {compute_shard("default", "job-0")}

    def list_due_unless_throttled(shard: str, *args: Any) -> Any:
        if shard in throttled:
            raise StoreUnavailable("Query", "ThrottlingException")
        return list_due(shard, *args)

    monkeypatch.setattr(bench.store, "list_due", list_due_unless_throttled)
    elsewhere = [number for number in range(20) if compute_shard("default", f"job-{number}") not in throttled]
    assert bench.sweep(Scope()).counts == {"nudged": len(elsewhere)}
    assert bench.store.read_last_tick() is not None
    throttled.update(list_shards("default"))
    with pytest.raises(StoreUnavailable):
        bench.sweep(Scope())


# --- scope ---


def test_a_dry_run_says_what_it_would_do_and_does_nothing(bench: Bench, crash: Crash) -> None:
    """To look before one leaps."""
    bench.relayq.dispatch("greet", job_id="lost")
    for job_id in ("running", "crashed", "poison", "unreadable"):
        bench.relayq.dispatch("greet", job_id=job_id, max_attempts=1 if job_id == "poison" else 3)
    crash("crashed")
    crash("poison")
    bench.clock.advance(minutes=3)
    crash("running")
    bench.store.spoil("unreadable")
    offered(bench)
    before = dict(bench.store.jobs)
    swept = bench.sweep(Scope(dry_run=True))
    assert swept.counts == {"nudged": 1, "postponed": 1, "released": 2, "unreadable": 1}
    assert {(due.job_id, action) for due, action in swept.rows} == {
        ("lost", "nudged"),
        ("running", "postponed"),
        ("crashed", "released"),
        ("poison", "released"),
        ("unreadable", "unreadable"),
    }
    assert bench.store.jobs == before
    assert offered(bench) == []
    assert bench.store.read_last_tick() is None


@pytest.mark.parametrize(
    ("stale", "found"), [(10, ["old", "older", "young"]), (90, ["old", "older"]), (250, ["older"])]
)
def test_stale_chooses_by_the_age_of_the_handoff(bench: Bench, stale: int, found: list[str]) -> None:
    """Sooner or later than the usual thirty seconds."""
    for job_id in ("older", "old", "young"):
        bench.relayq.dispatch("greet", job_id=job_id)
        bench.clock.advance(seconds=20 if job_id == "young" else 180 if job_id == "older" else 100)
    offered(bench)
    bench.sweep(Scope(stale_ms=stale * SECOND))
    assert sorted(offered(bench)) == found


def test_vt_chooses_what_to_release_by_the_age_of_its_claim(bench: Bench, crash: Crash) -> None:
    """Only what was claimed that long ago; a live lease is never cut, however old."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.relayq.dispatch("greet", job_id="b", timeout=3_000)
    crash("a")
    crash("b")
    bench.clock.advance(minutes=10)
    assert bench.sweep(Scope(claimed_before_ms=11 * MINUTE)).counts == {"left": 1, "postponed": 1}
    assert bench.sweep(Scope(claimed_before_ms=10 * MINUTE)).counts == {"released": 1}
    assert read_row(bench, "b").status is Status.PROCESSING


def test_limit_bounds_how_many_rows_are_acted_on(bench: Bench) -> None:
    """The rest waits."""
    for n in range(10):
        bench.relayq.dispatch("greet", job_id=f"job-{n}")
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope(limit=4)).counts == {"nudged": 4}
    assert bench.sweep(Scope()).counts == {"nudged": 6}


def test_only_the_queues_asked_for_are_swept(bench: Bench) -> None:
    """One queue's jobs can be pushed without touching another's."""
    bench.relayq.dispatch("greet", job_id="a", queue="one")
    bench.relayq.dispatch("greet", job_id="b", queue="two")
    offered(bench)
    bench.clock.advance(minutes=1)
    bench.sweep(Scope(queues=["two"]))
    assert offered(bench) == ["b"]


# --- what listeners hear ---


def test_a_release_is_published_as_a_crash_that_is_tried_again(bench: Bench, crash: Crash) -> None:
    """Metrics count it with the failures."""
    from relayq_core.events.listeners import events

    heard: list[tuple[object, bool | None]] = []
    events.on("failed")(lambda event: heard.append((type(event.error), event.will_retry)))
    bench.relayq.dispatch("greet", job_id="a", max_attempts=1)
    for _ in range(2):
        crash("a")
        bench.clock.advance(minutes=3)
        bench.sweep(Scope())
    assert heard == [(JobCrashed, True), (JobCrashed, False)]
