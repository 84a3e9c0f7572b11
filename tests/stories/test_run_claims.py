"""Run: wait for the job's moment, and claim it; only the holder of the lease counts."""

from __future__ import annotations

import pytest

from relayq_core import JobContext, job
from relayq_core.engine.results import RunOutcome
from relayq_core.model.leases import Lease
from relayq_core.model.record import Status
from relayq_core.ports import Answer
from relayq_core.testing import Bench, Offer
from tests.stories.running import SECOND, next_run
from tests.support.factories import NOW, a_lease
from tests.support.rows import read_row

# --- waiting ---


def test_a_handoff_that_comes_early_sleeps_the_rest(bench: Bench) -> None:
    """A short delay is slept in the runner, before the claim: a runner that dies asleep holds nothing."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=40)
    assert next_run(bench) is RunOutcome.COMPLETED
    assert bench.clock.now() == NOW + 40 * SECOND
    assert read_row(bench).started_at == NOW + 40 * SECOND


def test_a_claim_that_comes_early_sleeps_the_rest(bench: Bench) -> None:
    """Its handoff said now, the row says in two seconds: the clocks differ. It is never started early."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=2)
    assert bench.run("mine", NOW).ended is RunOutcome.COMPLETED
    assert read_row(bench).started_at == NOW + 2 * SECOND


def test_a_wait_that_is_too_long_is_left_to_the_sweeper(bench: Bench) -> None:
    """The runner was invoked for a job of tomorrow."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=86_400)
    assert bench.run("mine").ended is RunOutcome.NOT_CLAIMED
    assert bench.run("mine", NOW + 86_400 * SECOND).ended is RunOutcome.NOT_CLAIMED
    assert bench.clock.now() == NOW
    assert read_row(bench).attempt == 0


@pytest.mark.parametrize("waits", [0, 5, 65])
@pytest.mark.parametrize("beyond", [3, 60, 800, 86_400])
def test_no_runner_sleeps_for_longer_than_it_may(waits: int, beyond: float) -> None:
    """A handoff whose moment is beyond MAX_WAIT, by its own word or by the row's, leaves the job to the sweeper."""
    bench = Bench(max_wait_seconds=waits)
    bench.relayq.dispatch("greet", job_id="mine", delay=waits + beyond)
    moment = NOW + round((waits + beyond) * SECOND)
    for run_at in (moment, NOW, None):
        assert bench.run("mine", run_at).ended is RunOutcome.NOT_CLAIMED
    assert bench.clock.now() == NOW
    assert read_row(bench).attempt == 0


def test_with_too_little_time_left_after_a_wait_the_job_is_handed_on(bench: Bench) -> None:
    """A fresh invocation has the time that this one has slept away."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=60)
    bench.handoff.offers.clear()
    assert bench.run("mine", NOW + 30 * SECOND, seconds=60).ended is RunOutcome.HANDED_ON
    assert bench.handoff.offers == [Offer("mine", None, NOW + 60 * SECOND)]
    assert read_row(bench).attempt == 0


def test_a_runner_that_is_too_short_for_any_wait_says_so_and_does_not_invoke_itself_without_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Handing on would end in the same place; the sweeper starts the job at its time."""
    bench.relayq.dispatch("greet", job_id="mine", delay=60)
    bench.handoff.offers.clear()
    assert bench.run("mine", NOW + 60 * SECOND, seconds=30).ended is RunOutcome.NOT_CLAIMED
    assert "this runner's timeout is too short" in caplog.text
    assert bench.handoff.offers == []


def test_a_job_is_not_claimed_in_the_last_seconds_of_an_invocation(bench: Bench) -> None:
    """A handler that is killed at once spends an attempt on nothing."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    assert bench.run("mine", seconds=14.9).ended is RunOutcome.NOT_CLAIMED
    assert read_row(bench).attempt == 0
    assert bench.run("mine", seconds=15).ended is RunOutcome.COMPLETED


def test_a_failed_handing_on_is_the_sweepers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A handoff is a hint."""
    bench.relayq.dispatch("greet", job_id="mine", delay=60)
    bench.handoff.error = RuntimeError("throttled")
    assert bench.run("mine", NOW + 30 * SECOND, seconds=60).ended is RunOutcome.NOT_CLAIMED
    assert "the sweeper will start the job" in caplog.text


def test_a_claim_that_is_early_again_and_again_is_left_to_the_sweeper(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that runs backwards must not keep a runner, and its bill, forever."""
    bench.relayq.dispatch("greet", job_id="mine")
    tries: list[int] = []

    def always_early(job_id: str, lease: Lease) -> Answer:
        tries.append(bench.clock.now())
        return Answer(False, read_row(bench).evolve(available_at=bench.clock.now() + SECOND))

    monkeypatch.setattr(bench.store, "claim", always_early)
    assert bench.run("mine").ended is RunOutcome.NOT_CLAIMED
    assert tries == [NOW, NOW + SECOND, NOW + 2 * SECOND]


# --- who may run it ---


def test_a_doubled_handoff_runs_the_job_once(bench: Bench) -> None:
    """Events are delivered at least once."""
    runs: list[int] = []

    @job
    def greet() -> None:
        runs.append(1)

    bench.relayq.dispatch(greet, job_id="mine")
    assert [bench.run("mine").ended for _ in range(3)] == [
        RunOutcome.COMPLETED,
        RunOutcome.NOT_CLAIMED,
        RunOutcome.NOT_CLAIMED,
    ]
    assert runs == [1]
    assert bench.run("nobody").ended is RunOutcome.NOT_CLAIMED


def test_the_outcome_of_a_stale_runner_is_discarded(
    bench: Bench, caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    """It was frozen past its lease; by then another has done the job. Its outcome is discarded, and it says so."""
    results = iter(["from the second", "from the first"])

    @job(backoff=0)
    def slow(context: JobContext) -> str:
        if context.attempt == 1:
            bench.clock.advance(minutes=20)  # the process slept
            bench.sweep()
            assert bench.run("mine").ended is RunOutcome.COMPLETED
        return next(results)

    bench.relayq.dispatch(slow, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert read_row(bench).result == "from the second"
    assert read_row(bench).attempt == 2
    assert "no longer this runner's" in caplog.text
    assert told[-1] == "lease_lost"


def test_the_failure_of_a_stale_runner_neither_retries_nor_buries(bench: Bench) -> None:
    """The row of the job that runs now shows nothing of it either."""

    @job(max_attempts=2, backoff=0)
    def slow(context: JobContext) -> None:
        if context.attempt == 1:
            bench.clock.advance(minutes=20)
            bench.sweep()
            bench.store.claim("mine", a_lease("another", now=bench.clock.now()))
        raise ValueError

    bench.relayq.dispatch(slow, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert (read_row(bench).status, read_row(bench).lease_id) == (Status.PROCESSING, "another")
    assert bench.store.failures == {}


def test_a_claim_whose_answer_came_when_its_lease_was_over_starts_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """The sweeper may have given the job to another by now."""

    @job(timeout=5)
    def greet() -> None:
        raise AssertionError

    bench.relayq.dispatch(greet, job_id="mine")
    original = bench.store.claim

    def slowly(job_id: str, lease: Lease) -> Answer:
        answer = original(job_id, lease)
        bench.clock.advance(seconds=14)
        return answer

    monkeypatch.setattr(bench.store, "claim", slowly)
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert told == ["dispatched", "lease_lost"]


def test_a_job_dispatched_by_name_is_completed_by_its_type(bench: Bench) -> None:
    """The caller knew only the name: tries, backoff and timeout are the type's, wherever the row says nothing."""
    deadlines: list[float] = []
    bench.relayq.dispatch("pay", job_id="mine")
    bench.relayq.dispatch("pay", job_id="other", backoff=7)

    @job(max_attempts=2, backoff=40, timeout=120)
    def pay(context: JobContext) -> None:
        deadlines.append(context.remaining())
        raise ValueError

    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert read_row(bench).available_at == NOW + 40 * SECOND
    assert bench.run("other").ended is RunOutcome.RETRYING
    assert read_row(bench, "other").available_at == NOW + 7 * SECOND
    bench.clock.advance(seconds=40)
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert deadlines == [120, 120, 120]
