"""Operations: where is it, cancel it, bring it back, forget it; and what the queues look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relayq_core import InvalidOption, Job, JobContext, KeyTaken, StoreError, cancel, get, job
from relayq_core.engine.results import RunOutcome
from relayq_core.errors import Bury, Snooze
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations import jobs as operations
from relayq_core.operations.health import QueueView
from relayq_core.testing import Bench, Offer
from tests.support.factories import NOW
from tests.support.faulty_bench import FaultyBench

SECOND = 1_000
MINUTE = 60_000
Crash = Callable[[str], JobRecord]


@pytest.fixture
def failed(bench: Bench) -> Callable[..., JobRecord]:
    """A job that has failed; keywords are the dispatch's."""

    @job(max_attempts=1)
    def pay(n: int = 1) -> None:
        raise Bury("no")

    def fail(job_id: str, **options: Any) -> JobRecord:
        bench.relayq.dispatch(pay, job_id=job_id, **options)
        assert bench.run(job_id).ended is RunOutcome.FAILED
        bench.handoff.offers.clear()
        return bench.store.failures[job_id]

    return fail


# --- get ---


def test_a_job_has_a_status_from_dispatch_to_its_end(bench: Bench) -> None:
    """One question, whatever table holds the answer."""
    seen: list[str] = []

    def look() -> None:
        record = bench.relayq.get("mine")
        assert record is not None
        seen.append(record.status)

    @job(max_attempts=2, backoff=0)
    def pay() -> None:
        look()
        raise ValueError

    bench.relayq.dispatch(pay, job_id="mine")
    look()
    bench.run("mine")
    look()
    bench.run("mine")
    look()
    bench.relayq.redrive("mine")
    look()
    assert seen == ["pending", "processing", "retrying", "processing", "failed", "pending"]


def test_a_job_that_was_never_there_is_none(bench: Bench) -> None:
    """An id that cannot be one is an error, not a miss."""
    assert bench.relayq.get("nobody") is None
    with pytest.raises(InvalidOption, match="job_id"):
        bench.relayq.get("no/body")


def test_a_redrive_between_two_reads_does_not_hide_the_job(
    bench: Bench, failed: Callable[..., JobRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left the failed table after the first look and before the second: look in the first again."""
    failed("mine")
    original = bench.store.get_failed

    def brought_back_first(job_id: str) -> JobRecord | None:
        monkeypatch.undo()
        bench.relayq.redrive(job_id)
        return original(job_id)

    monkeypatch.setattr(bench.store, "get_failed", brought_back_first)
    found = bench.relayq.get("mine")
    assert found is not None
    assert found.status is Status.PENDING


def test_get_and_cancel_are_plain_functions_too(bench: Bench) -> None:
    """On whatever RelayQ is in use."""
    with bench.installed():
        bench.relayq.dispatch("greet", job_id="mine")
        cancelled = cancel("mine")
        assert cancelled is not None
        assert get("mine") == cancelled


# --- cancel ---


def test_a_waiting_job_is_cancelled_and_never_runs(bench: Bench, told: list[str]) -> None:
    """The handoff that is under way finds it ended."""

    @job
    def greet() -> None:
        raise AssertionError

    bench.relayq.dispatch(greet, job_id="mine")
    cancelled = bench.relayq.cancel("mine")
    assert cancelled is not None
    assert (cancelled.status, cancelled.finished_at, cancelled.due_at) == (Status.CANCELLED, NOW, None)
    assert bench.run("mine").ended is RunOutcome.NOT_CLAIMED
    assert bench.relayq.get("mine") == cancelled
    assert told == ["dispatched", "cancelled"]


def test_a_retry_that_waits_is_cancelled_too(bench: Bench) -> None:
    """Its error stays to be read."""

    @job(backoff=600)
    def pay() -> None:
        raise ValueError("no")

    bench.relayq.dispatch(pay, job_id="mine")
    bench.run("mine")
    cancelled = bench.relayq.cancel("mine")
    assert cancelled is not None
    assert (cancelled.status, cancelled.attempt) == (Status.CANCELLED, 1)
    assert (cancelled.error or "").startswith("ValueError: no")


def test_a_running_job_that_succeeds_after_its_cancel_has_succeeded(bench: Bench) -> None:
    """The work is done; the mark stays to be seen."""

    @job
    def greet() -> str:
        marked = bench.relayq.cancel("mine")
        assert marked is not None
        assert (marked.status, marked.cancel_requested_at) == (Status.PROCESSING, NOW)
        return "done"

    bench.relayq.dispatch(greet, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    done = bench.relayq.get("mine")
    assert done is not None
    assert (done.status, done.result, done.cancel_requested_at) == (Status.COMPLETED, "done", NOW)


@pytest.mark.parametrize("error", [ValueError("no"), Snooze(5), Bury("no")])
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_running_job_that_does_not_succeed_after_its_cancel_is_cancelled(
    bench: Bench, error: Exception, max_attempts: int, told: list[str]
) -> None:
    """No retry, no failed table, no snooze: the caller does not want it any more."""

    @job(max_attempts=max_attempts, backoff=0)
    def greet() -> None:
        bench.relayq.cancel("mine")
        raise error

    bench.relayq.dispatch(greet.job().with_options(unique="k"), job_id="mine")
    bench.handoff.offers.clear()
    assert bench.run("mine").ended is RunOutcome.CANCELLED
    ended = bench.relayq.get("mine")
    assert ended is not None
    assert (ended.status, ended.attempt, ended.lease_id) == (Status.CANCELLED, 1, None)
    assert (bench.handoff.offers, bench.store.failures) == ([], {})
    assert told[-1] == "cancelled"
    assert not bench.relayq.dispatch("greet", unique="k").duplicate


def test_an_unknown_name_that_is_cancelled_is_not_tried_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given back it would come again for a quarter of an hour."""
    bench.relayq.dispatch("nobody", job_id="mine")
    original = bench.store.claim

    def cancelled_at_once(*args: Any) -> Any:
        answer = original(*args)
        bench.relayq.cancel("mine")
        return answer

    monkeypatch.setattr(bench.store, "claim", cancelled_at_once)
    assert bench.run("mine").ended is RunOutcome.CANCELLED


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "nobody"])
def test_a_cancel_that_comes_too_late_answers_with_what_is(
    bench: Bench, failed: Callable[..., JobRecord], how: str
) -> None:
    """It changes nothing."""

    @job
    def greet() -> None: ...

    if how == "failed":
        failed("mine")
    elif how != "nobody":
        bench.relayq.dispatch(greet, job_id="mine")
        _ = bench.run("mine") if how == "completed" else bench.relayq.cancel("mine")
    before = bench.relayq.get("mine")
    bench.clock.advance(minutes=1)
    assert bench.relayq.cancel("mine") == before
    assert (before and before.status.value) == (None if how == "nobody" else how)


def test_a_cancel_that_meets_a_claim_marks_instead(bench: Bench, crash: Crash, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look and its write a runner came: it looks again."""
    bench.relayq.dispatch("greet", job_id="mine")
    original = bench.store.cancel_waiting

    def claimed_first(*args: Any) -> bool:
        monkeypatch.undo()
        crash("mine")
        return original(*args)

    monkeypatch.setattr(bench.store, "cancel_waiting", claimed_first)
    marked = bench.relayq.cancel("mine")
    assert marked is not None
    assert (marked.status, marked.cancel_requested_at) == (Status.PROCESSING, NOW)


def test_a_cancel_that_never_meets_the_same_row_twice_gives_up_in_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That many changes in a row are no chance any more."""
    bench.relayq.dispatch("greet", job_id="mine")
    monkeypatch.setattr(bench.store, "cancel_waiting", lambda *_: False)
    with pytest.raises(StoreError, match="'mine' kept changing while it was being cancelled; try again"):
        bench.relayq.cancel("mine")


def test_a_cancelled_job_outlasts_a_dispatch_that_is_repeated(bench: Bench) -> None:
    """Without any retention the same dispatch, sent again, would bring it back."""
    bench = Bench(retention_seconds=0)
    bench.relayq.dispatch("greet", job_id="mine")
    bench.relayq.cancel("mine")
    bench.clock.advance(minutes=30)
    assert not bench.relayq.dispatch("greet", job_id="mine").handed_off
    found = bench.relayq.get("mine")
    assert found is not None
    assert found.status is Status.CANCELLED


def test_a_cancel_of_an_exhausted_job_ends_it(bench: Bench, crash: Crash) -> None:
    """Its last runner died; before failed() could run, a caller cancelled."""
    bench.relayq.dispatch("greet", job_id="mine", max_attempts=1)
    crash("mine")
    bench.clock.advance(minutes=3)
    bench.sweep()
    cancelled = bench.relayq.cancel("mine")
    assert cancelled is not None
    assert cancelled.status is Status.CANCELLED


# --- redrive, forget ---


def test_a_redriven_job_keeps_its_id_and_begins_again(bench: Bench, failed: Callable[..., JobRecord]) -> None:
    """Attempt 0, no error of the present, all those of the past; and it is handed off at once."""
    failed("mine")
    bench.clock.advance(minutes=5)
    redriven = bench.relayq.redrive("mine")
    assert redriven is not None
    assert (redriven.id, redriven.status, redriven.attempt, redriven.error) == ("mine", Status.PENDING, 0, None)
    assert redriven.available_at == bench.clock.now()
    assert [error["error"] for error in redriven.errors] == ["Bury: no"]
    assert (redriven.finished_at, redriven.expires_at, redriven.settled_by) == (None, None, None)
    assert bench.handoff.offers == [Offer("mine", "default", bench.clock.now())]
    assert bench.store.failures == {}


def test_a_redriven_job_runs_to_its_end(bench: Bench) -> None:
    """The bug is mended, the jobs come back."""
    mended: list[bool] = []

    class Pay(Job, max_attempts=1):
        amount: int

        def handle(self, context: JobContext) -> int:
            if not mended:
                raise ValueError("bug")
            return self.amount * context.attempt

    bench.relayq.dispatch(Pay(amount=5), job_id="mine")
    bench.run("mine")
    mended.append(True)
    bench.relayq.redrive("mine")
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    done = bench.relayq.get("mine")
    assert done is not None
    assert done.result == 5


def test_a_redrive_needs_the_key_again_or_says_who_has_it(bench: Bench, failed: Callable[..., JobRecord]) -> None:
    """At most one job per key holds for those that come back too."""
    failed("mine", unique="k")
    bench.relayq.dispatch("pay", unique="k", job_id="other")
    with pytest.raises(KeyTaken, match="'mine' cannot be redriven: its unique key is held by job 'other'"):
        bench.relayq.redrive("mine")
    assert "mine" in bench.store.failures
    bench.relayq.cancel("other")
    assert bench.relayq.redrive("mine") is not None
    assert bench.relayq.dispatch("pay", unique="k").job_id == "mine"


def test_a_redrive_of_what_is_not_failed_is_none(bench: Bench) -> None:
    """It lives, or it never was."""
    bench.relayq.dispatch("greet", job_id="mine")
    assert bench.relayq.redrive("mine") is None
    assert bench.relayq.redrive("nobody") is None


def test_a_redrive_whose_answer_was_lost_is_handed_off_all_the_same() -> None:
    """The store met the redrive's own row: the job is back, and its runner should know."""
    bench = FaultyBench()

    @job
    def pay() -> None:
        raise Bury("no")

    bench.relayq.dispatch(pay, job_id="mine")
    bench.run("mine")
    bench.handoff.offers.clear()
    bench.faults["redrive"] = ["resent"]
    redriven = bench.relayq.redrive("mine")
    assert redriven is not None
    assert redriven.status is Status.PENDING
    assert bench.handoff.offers == [Offer("mine", "default", 0)]


def test_a_second_redrive_leaves_the_job_that_lives_alone(
    bench: Bench, failed: Callable[..., JobRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators press the button; the second is shown what the first did, and there is one handoff."""
    failed("mine")
    original = bench.store.redrive

    def another_first(*args: Any) -> Any:
        monkeypatch.undo()
        bench.clock.advance(seconds=1)
        bench.relayq.redrive("mine")
        return original(*args)

    monkeypatch.setattr(bench.store, "redrive", another_first)
    shown = bench.relayq.redrive("mine")
    assert shown == bench.store.jobs["mine"]
    assert len(bench.handoff.offers) == 1


def test_forget_deletes_a_failure(bench: Bench, failed: Callable[..., JobRecord]) -> None:
    """For good."""
    failed("mine")
    assert bench.relayq.forget("mine")
    assert not bench.relayq.forget("mine")
    assert bench.relayq.get("mine") is None


# --- lists ---


def test_failures_are_listed_newest_first_over_all_queues(bench: Bench, failed: Callable[..., JobRecord]) -> None:
    """What broke last is what one looks for."""
    for job_id, queue in (("a", "one"), ("b", "two"), ("c", "one")):
        failed(job_id, queue=queue)
        bench.clock.advance(seconds=1)
    assert [record.id for record in bench.relayq.failed()] == ["c", "b", "a"]
    assert [record.id for record in bench.relayq.failed("one")] == ["c", "a"]
    assert [record.id for record in bench.relayq.failed(limit=2)] == ["c", "b"]
    with pytest.raises(InvalidOption, match="queue"):
        bench.relayq.failed("no such/queue")


def test_live_jobs_are_listed_by_when_they_are_looked_at(bench: Bench, crash: Crash) -> None:
    """What waits and what runs; what has ended is not among them."""
    for n, job_id in enumerate(("late", "running", "ended", "soon")):
        bench.relayq.dispatch("greet", job_id=job_id, delay=3_600 if job_id == "late" else n)
    bench.relayq.cancel("ended")
    bench.clock.advance(seconds=2)
    crash("running")
    assert [record.id for record in bench.relayq.live()] == ["running", "soon", "late"]
    assert [record.id for record in bench.relayq.live(status=Status.PROCESSING)] == ["running"]
    assert [record.id for record in bench.relayq.live("default", limit=2)] == ["running", "soon"]
    assert bench.relayq.live("other") == []


def test_a_status_is_looked_for_up_to_a_bound(bench: Bench, crash: Crash, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of millions is not read for it: the answer says how far it looked, and a larger limit looks further."""
    monkeypatch.setattr(operations, "LIVE_LOOKED_AT", 5)
    for n in range(9):
        bench.relayq.dispatch("greet", job_id=f"job-{n}", queue="one" if n % 2 else "two")
        bench.clock.advance(seconds=1)
    for job_id in ("job-4", "job-7"):
        crash(job_id)
    looks = bench.relayq.operations.find_live
    near = looks(status=Status.PROCESSING, limit=2)
    assert ([record.id for record in near.jobs], near.looked_at, near.capped) == (["job-4"], 5, True)
    far = looks(status=Status.PROCESSING, limit=8)
    assert ([record.id for record in far.jobs], far.looked_at, far.capped) == (["job-4", "job-7"], 8, True)
    all_of_them = looks(limit=9)
    assert (len(all_of_them.jobs), all_of_them.looked_at, all_of_them.capped) == (9, 9, False)


def test_what_has_ended_since_the_index_was_read_leaves_no_gap_in_a_list(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one takes its place."""
    for n in range(4):
        bench.relayq.dispatch("greet", job_id=f"job-{n}")
        bench.clock.advance(seconds=1)
    ended, real = ["job-0", "job-1"], bench.store.get_many
    monkeypatch.setattr(bench.store, "get_many", lambda ids: real([each for each in ids if each not in ended]))
    assert [record.id for record in bench.relayq.live(limit=2)] == ["job-2", "job-3"]


def test_queues_are_shown_at_a_glance(bench: Bench) -> None:
    """How many live, how many are late, and since when; an empty one is shown too."""
    for n in range(12):
        bench.relayq.dispatch("greet", queue="busy", delay=0 if n < 5 else 3_600)
    bench.relayq.cancel(bench.relayq.dispatch("greet", queue="quiet").job_id)
    bench.clock.advance(seconds=100)
    assert bench.relayq.queues() == [
        QueueView(queue="busy", live=12, overdue=5, oldest_due_age_ms=70 * SECOND, capped=False),
        QueueView(queue="quiet", live=0, overdue=0, oldest_due_age_ms=0, capped=False),
    ]
    (busy, _) = bench.relayq.queues(limit=10)
    assert (busy.live, busy.capped) == (10, True)


def test_no_question_scans_a_table(bench: Bench) -> None:
    """Each is a read of the index or of one row: none is dearer for what has ended."""
    bench = FaultyBench()
    bench.relayq.dispatch("greet", job_id="mine")
    bench.faulty.calls.clear()
    bench.relayq.get("mine")
    assert bench.faulty.calls == ["get"]
    bench.faulty.calls.clear()
    bench.relayq.queues()
    assert bench.faulty.calls == ["list_queues", *["list_due"] * 8]


@pytest.fixture(autouse=True)
def no_job_is_both_alive_and_failed(bench: Bench) -> Iterator[None]:
    """Whatever the story: a job is in one table."""
    yield
    assert not bench.store.jobs.keys() & bench.store.failures.keys()


def test_a_queue_that_was_forgotten_is_known_again_after_the_next_dispatch_to_it(bench: Bench) -> None:
    """This process has registered it a moment ago, and forgets that with the queue."""
    bench.relayq.dispatch("greet", queue="emails")
    bench.relayq.clear("emails")
    assert bench.relayq.queues_forget("emails")
    bench.relayq.dispatch("greet", queue="emails")
    bench.clock.advance(days=2)
    assert bench.store.list_queues() == ["emails"]
