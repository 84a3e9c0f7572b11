"""Stories of jobs that were dispatched by name, and of what is kept of the attempt that was their last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from relayq_core import Bury, Job, JobContext, job
from relayq_core.engine.results import RunOutcome
from relayq_core.engine.sweeper import Sweeper
from relayq_core.events.listeners import events
from relayq_core.model.record import Status
from relayq_core.testing import Bench, MemoryStore
from tests.support.rows import read_row

SETTINGS_ALLOW = 3


@dataclass
class Mortal:
    """A store whose caller may die: from then on, until it is started again, nothing is written."""

    store: MemoryStore
    dead: bool = False

    def __getattr__(self, verb: str) -> Any:
        if self.dead:
            raise RuntimeError("the process is gone")
        return getattr(self.store, verb)


def a_bench(**settings: Any) -> tuple[Bench, Mortal]:
    """With runners that may die."""
    made: list[Mortal] = []

    def through(store: MemoryStore) -> Any:
        made.append(Mortal(store))
        return made[0]

    bench = Bench(through=through, **settings)
    return bench, made[0]


def sweep(bench: Bench, *, knows: bool = False) -> None:
    """When every lease has run out; by the sweeper function, or by one that has the job's code."""
    bench.clock.advance(hours=2)
    if knows:
        bench.sweep()
    else:
        sweeper = Sweeper(bench.store, bench.handoff, bench.clock, bench.relayq.policy, events, page=10)
        sweeper.sweep(bench.clock.countdown(seconds=150))


def crash_until_it_ends(bench: Bench, runner: Mortal, *, sweeper_knows: bool) -> None:
    """Start it again and again, and let each runner die in its handler."""
    for _ in range(50):
        runner.dead = False
        record = read_row(bench)
        if record.status.is_ended:
            return
        if record.status is Status.PROCESSING:
            sweep(bench, knows=sweeper_knows)
        bench.clock.advance(hours=2)
        bench.run("mine")
    raise AssertionError("it never ends")


@pytest.mark.parametrize("sweeper_knows", [False, True], ids=["the sweeper has no code", "the sweeper has it"])
@pytest.mark.parametrize("allows", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("by", ["name", "type"])
def test_crashes_use_up_the_attempts_of_the_type_and_no_fewer(allows: int, by: str, sweeper_knows: bool) -> None:
    """However many the settings allow; and then failed() hears of it, once."""
    bench, runner = a_bench(max_attempts=SETTINGS_ALLOW)
    told: list[str] = []
    begun: list[int] = []
    if by == "name":
        bench.relayq.dispatch("crash", job_id="mine")

    class Crash(Job, name="crash", max_attempts=allows, backoff=1):
        def handle(self, context: JobContext) -> None:
            begun.append(context.attempt)
            runner.dead = True

        def failed(self, error: BaseException) -> None:
            told.append(type(error).__name__)

    if by == "type":
        bench.relayq.dispatch(Crash(), job_id="mine")
    crash_until_it_ends(bench, runner, sweeper_knows=sweeper_knows)
    assert begun == list(range(1, allows + 1))
    assert (read_row(bench).status, told) == (Status.FAILED, ["JobCrashed"])


def test_a_job_that_goes_on_beyond_the_settings_may_still_succeed() -> None:
    """Three crashes, and then it works."""
    bench, runner = a_bench(max_attempts=1)
    bench.relayq.dispatch("shaky", job_id="mine")

    @job(name="shaky", max_attempts=5, backoff=0)
    def shaky(context: JobContext) -> int:
        runner.dead = context.attempt == 1
        return context.attempt

    bench.run("mine")
    runner.dead = False
    sweep(bench)
    assert read_row(bench).exhausted
    assert [bench.run("mine").ended, bench.run("mine").ended] == [RunOutcome.GIVEN_BACK, RunOutcome.COMPLETED]
    assert (read_row(bench).attempt, read_row(bench).result) == (2, 2)


# --- what is kept of the last attempt ---


@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize("how", ["raises", "buries", "crashes"])
def test_a_failed_job_shows_how_far_its_last_attempt_came(attempts: int, how: str) -> None:
    """It shows neither an earlier attempt's progress nor nothing."""
    bench, runner = a_bench()

    @job(max_attempts=attempts, backoff=0)
    def load(context: JobContext) -> None:
        assert context.progress(context.attempt / 10, f"attempt {context.attempt}")
        if context.attempt == attempts and how == "buries":
            raise Bury("no use")
        runner.dead = context.attempt == attempts and how == "crashes"
        raise ValueError("bad row")

    bench.relayq.dispatch(load, job_id="mine")
    for _ in range(attempts):
        bench.run("mine")
    if runner.dead:
        runner.dead = False
        sweep(bench)
        bench.run("mine")
    assert read_row(bench).status is Status.FAILED
    assert read_row(bench).progress == {"fraction": attempts / 10, "note": f"attempt {attempts}"}
