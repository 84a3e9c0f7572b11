"""Runners against runners, against the sweeper, and against callers who cancel. Runner.run is the real one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from relayq_core import Bury, JobContext, Snooze, job
from relayq_core.client import RelayQ
from relayq_core.engine.results import RunOutcome, RunResult
from relayq_core.engine.sweeper import Scope
from relayq_core.model.record import JobRecord, Status
from relayq_core.testing import ManualClock
from tests.adversity.races.track import Track
from tests.support.figures import tell

pytestmark = [pytest.mark.dynamodb_local, pytest.mark.timeout(300)]

RUNNERS = 16
#: The promise is older than the test: in this many rounds one runner of 16 wins.
CLAIM_ROUNDS = 200
ROUNDS = 25


def _run(relayq: RelayQ, job_id: str) -> RunResult:
    return relayq.runner.run(job_id, None, lambda: 900_000)


def test_of_16_runners_one_starts_the_job_in_each_of_200_rounds(track: Track) -> None:
    """A handoff that is doubled, late and nudged at once starts a job once; the others leave quietly."""
    left = threading.Semaphore(0)
    starts: list[int] = []

    @job
    def work(n: int) -> None:
        """Runs until all others have given up, so that none can come after its end."""
        starts.append(n)
        for _ in range(RUNNERS - 1):
            assert left.acquire(timeout=30)

    relayqs = track.relayqs(RUNNERS)

    def run(relayq: RelayQ, job_id: str) -> RunResult:
        ran = _run(relayq, job_id)
        left.release()
        return ran

    for n in range(CLAIM_ROUNDS):
        made = relayqs[0].dispatch(work, {"n": n})
        ran = [each.ended for each in track.at_once(*(partial(run, relayq, made.job_id) for relayq in relayqs))]
        assert sorted(ran) == sorted([RunOutcome.COMPLETED] + [RunOutcome.NOT_CLAIMED] * (RUNNERS - 1))
        assert left.acquire(timeout=30)  # the winner's own
    assert starts == list(range(CLAIM_ROUNDS))
    tell(f"{CLAIM_ROUNDS} rounds of {RUNNERS} runners for one job: one winner in each")


def _succeed() -> str:
    return "done"


def _fail() -> None:
    raise ValueError("no")


def _bury() -> None:
    raise Bury("never again")


def _snooze() -> None:
    raise Snooze(5)


@pytest.mark.parametrize(
    ("handler", "ended", "settings"),
    [
        (_succeed, RunOutcome.COMPLETED, {}),
        (_succeed, RunOutcome.COMPLETED, {"retention_seconds": 0}),
        (_fail, RunOutcome.RETRYING, {}),
        (_bury, RunOutcome.FAILED, {}),
        (_snooze, RunOutcome.SNOOZED, {}),
    ],
)
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_runner_or_the_sweeper_ends_an_attempt_never_both(
    track: Track, handler: Callable[[], object], ended: RunOutcome, settings: dict[str, Any], max_attempts: int
) -> None:
    """The lease has run out by the sweeper's clock in the very moment in which its runner settles."""
    job(name="work", max_attempts=max_attempts)(handler)
    if ended is RunOutcome.RETRYING and max_attempts == 1:
        ended = RunOutcome.FAILED
    operator = track.relayq(0)
    won = {"runner": 0, "sweeper": 0}
    for _ in range(ROUNDS):
        made = operator.dispatch("work", unique="one at a time")
        late = ManualClock(track.clock.now())
        late.advance(hours=1)
        line = threading.Barrier(2)
        runner = track.relayq(1, gate=(line, "settle"), **settings)
        sweeper = track.relayq(2, clock=late, gate=(line, "settle"))
        running = track.pool.submit(_run, runner, made.job_id)
        while line.n_waiting == 0:  # the runner stands at the gate: its job is claimed
            assert not running.done()
        swept = sweeper.sweeper.sweep(lambda: 150_000, Scope())
        ran = running.result(60)
        if ran.ended is RunOutcome.LEASE_LOST:
            won["sweeper"] += 1
            assert swept.counts == {"released": 1}
            record = _record(operator, made.job_id)
            assert (record.status, record.attempt, record.exhausted) == (Status.RETRYING, 1, max_attempts == 1)
            assert record.settled_by is not None
            assert record.settled_by.startswith("sweep-")
        else:
            won["runner"] += 1
            assert ran.ended is ended
            assert swept.counts == {"left": 1}
            assert operator.get(made.job_id) == (None if settings else ran.job)
        _key_is_held_by_who_lives(operator, made.job_id)
    tell(f"{ROUNDS} rounds of a runner ({handler.__name__[1:]}) and the sweeper for one lease: won by {won}")


@pytest.mark.parametrize("handler", [_succeed, _fail, _bury, _snooze])
def test_a_runner_that_was_thought_dead_cannot_settle_beside_the_next(
    track: Track, handler: Callable[[], object]
) -> None:
    """Its lease was released and the job claimed again: whichever is first, only the holder of the lease counts."""
    job(name="work", max_attempts=3, backoff=0)(handler)
    operator = track.relayq(0)
    for _ in range(ROUNDS):
        made = operator.dispatch("work", unique="one at a time")
        late = ManualClock(track.clock.now())
        late.advance(hours=1)
        line = threading.Barrier(2)
        first = track.pool.submit(_run, track.relayq(1, gate=(line, "settle")), made.job_id)
        while line.n_waiting == 0:
            assert not first.done()
        assert track.relayq(2, clock=late).sweeper.sweep(lambda: 150_000, Scope()).counts == {"released": 1}
        second = _run(track.relayq(3, clock=late, gate=(line, "settle")), made.job_id)
        assert first.result(60).ended is RunOutcome.LEASE_LOST
        assert second.job is not None
        assert second.job.attempt == (1 if handler is _snooze else 2)
        assert operator.get(made.job_id) == second.job
        _key_is_held_by_who_lives(operator, made.job_id)
    tell(f"{ROUNDS} rounds of a runner thought dead ({handler.__name__[1:]}) and the next: won by the next in each")


def _record(relayq: RelayQ, job_id: str) -> JobRecord:
    record = relayq.get(job_id)
    assert record is not None
    return record


def _key_is_held_by_who_lives(relayq: RelayQ, job_id: str) -> None:
    """And after this nothing lives any more."""
    record = relayq.get(job_id)
    lives = record is not None and not record.status.is_ended
    again = relayq.dispatch("work", unique="one at a time")
    assert (again.duplicate, again.job_id == job_id) == (lives, lives)
    cancelled = relayq.cancel(again.job_id)
    assert cancelled is not None
    assert cancelled.status is Status.CANCELLED
    relayq.forget(job_id)


def test_a_cancelled_job_was_never_started_and_a_started_one_was_not_cancelled(track: Track) -> None:
    """A caller who hears that a job is cancelled may rely on it, even with handoffs under way."""
    starts: list[str] = []

    @job
    def work(context: JobContext) -> None:
        starts.append(context.job_id)

    told: list[str] = []
    for _ in range(2 * ROUNDS):
        starts.clear()
        relayqs = track.relayqs(8, "claim", "cancel_waiting")
        job_id = relayqs[0].dispatch(work).job_id
        runs = [partial(_run, relayq, job_id) for relayq in relayqs[:4]]
        cancels = [partial(relayq.cancel, job_id) for relayq in relayqs[4:]]
        answers = track.at_once(*runs, *cancels)
        ran = [answer.ended for answer in answers if isinstance(answer, RunResult)]
        seen = {answer.status for answer in answers if isinstance(answer, JobRecord)}
        record = _record(relayqs[0], job_id)
        told.append(record.status.value)
        if record.status is Status.CANCELLED:
            assert seen == {Status.CANCELLED}
            assert (starts, set(ran)) == ([], {RunOutcome.NOT_CLAIMED})
        else:
            assert seen <= {Status.PROCESSING, Status.COMPLETED}
            assert (starts, ran.count(RunOutcome.COMPLETED)) == ([job_id], 1)
    tell(f"{len(told)} rounds of 4 runners and 4 cancels of one job: {dict(Counter(told))}")


@pytest.mark.parametrize("handler", [_fail, _bury, _snooze, _succeed])
def test_a_cancel_that_was_answered_in_time_counts_and_a_late_one_changes_nothing(
    track: Track, handler: Callable[[], object]
) -> None:
    """The mark comes while the runner settles: then the job ends cancelled, or as it would have, never in between."""
    job(name="work", max_attempts=2)(handler)
    operator = track.relayq(0)
    told = []
    for _ in range(ROUNDS):
        job_id = operator.dispatch("work", unique="one at a time").job_id
        line = threading.Barrier(2)
        runner = track.relayq(1, gate=(line, "settle"))
        canceller = track.relayq(2, gate=(line, "mark_cancelled"))
        running = track.pool.submit(_run, runner, job_id)
        while line.n_waiting == 0:
            assert not running.done()
        answer = canceller.cancel(job_id)
        ran = running.result(60)
        assert answer is not None
        told.append(f"{ran.ended}, cancel was told {answer.status}")
        record = _record(operator, job_id)
        if handler is _succeed:
            assert (ran.ended, record.status) == (RunOutcome.COMPLETED, Status.COMPLETED)
        elif answer.status is Status.PROCESSING:
            assert (ran.ended, record.status) == (RunOutcome.CANCELLED, Status.CANCELLED)
        elif answer.status is Status.CANCELLED:  # it had been given back, and was cancelled as one that waits
            assert (ran.ended in {RunOutcome.RETRYING, RunOutcome.SNOOZED}, record.status) == (True, Status.CANCELLED)
        else:
            assert (ran.ended, record.status) == (RunOutcome.FAILED, Status.FAILED)
        _key_is_held_by_who_lives(operator, job_id)
    tell(f"{ROUNDS} rounds of a runner ({handler.__name__[1:]}) and a cancel: {dict(Counter(told))}")
