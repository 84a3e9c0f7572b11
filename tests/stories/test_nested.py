"""Jobs that dispatch jobs: who began it is known, and it cannot go on without an end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from relayq_core import ChainTooDeep, Job, dispatch, job
from relayq_core.engine.results import RunOutcome
from relayq_core.jobs.lineage import current_job
from relayq_core.testing import Bench
from tests.support.rows import read_row


def define_step() -> None:
    """A job that dispatches the next one, without end."""

    @job
    def step(n: int) -> None:
        dispatch("step", {"n": n + 1}, job_id=f"step-{n + 1}")


def test_a_child_knows_its_parent_and_where_the_chain_began(bench: Bench) -> None:
    """One search shows everything that a request has set going."""
    define_step()
    bench.relayq.dispatch("step", {"n": 0}, job_id="step-0")
    for n in range(3):
        assert bench.run(f"step-{n}").ended is RunOutcome.COMPLETED
    records = [read_row(bench, f"step-{n}") for n in range(4)]
    found = [(record.parent_id, record.root_id, record.depth) for record in records]
    assert found == [(None, None, 0), ("step-0", "step-0", 1), ("step-1", "step-0", 2), ("step-2", "step-0", 3)]


def test_a_chain_without_an_end_is_ended(bench: Bench) -> None:
    """AWS's own guard against loops is off for the runner; this one says what to look for."""
    bench = Bench(max_depth=3)

    class Step(Job, max_attempts=1):
        n: int

        def handle(self) -> None:
            dispatch(Step(n=self.n + 1), job_id=f"step-{self.n + 1}")

    bench.relayq.dispatch(Step(n=0), job_id="step-0")
    ended = [bench.run(f"step-{n}").ended for n in range(4)]
    assert ended == [RunOutcome.COMPLETED, RunOutcome.COMPLETED, RunOutcome.COMPLETED, RunOutcome.FAILED]
    assert "step-4" not in bench.store.jobs
    error = bench.store.failures["step-3"].error or ""
    assert "ChainTooDeep" in error
    assert "number 4 in a chain of jobs that began with 'step-0'; the limit is 3 (RELAYQ_MAX_DEPTH)" in error


def test_the_default_depth_is_a_hundred(bench: Bench) -> None:
    """Deep enough for any plan, shallow enough for any bill."""
    define_step()
    bench.relayq.dispatch("step", {"n": 0}, job_id="step-0")
    n = 0
    while bench.run(f"step-{n}").ended is RunOutcome.COMPLETED:
        n += 1
    assert n == 100


def test_a_retry_is_no_deeper_than_its_first_try(bench: Bench) -> None:
    """Depth counts jobs, not attempts."""

    @job(max_attempts=5, backoff=0)
    def flaky() -> None:
        dispatch("child")
        raise ValueError

    bench.relayq.dispatch(flaky, job_id="mine")
    for _ in range(4):
        bench.run("mine")
    assert {record.depth for record in bench.store.jobs.values() if record.name == "child"} == {1}


def test_what_is_dispatched_after_a_handler_has_no_parent(bench: Bench) -> None:
    """A warm runner serves one job after another."""
    define_step()
    bench.relayq.dispatch("step", {"n": 0}, job_id="step-0")
    bench.run("step-0")
    assert current_job.get() is None
    bench.relayq.dispatch("other", job_id="other")
    assert read_row(bench, "other").parent_id is None


def test_a_handler_that_fails_leaves_no_parent_behind(bench: Bench) -> None:
    """A handler that hears of its failure in failed() leaves none either."""

    class Pay(Job, max_attempts=1):
        def handle(self) -> None:
            raise SystemExit

        def failed(self, error: BaseException) -> None:
            raise SystemExit

    bench.relayq.dispatch(Pay(), job_id="mine")
    bench.run("mine")
    assert current_job.get() is None


def test_an_async_handlers_tasks_are_children_too(bench: Bench) -> None:
    """Whatever it gathers."""

    @job
    async def fan_out() -> None:
        async def one(n: int) -> None:
            await asyncio.sleep(0)
            dispatch("child", job_id=f"child-{n}")

        await asyncio.gather(*(one(n) for n in range(3)))

    bench.relayq.dispatch(fan_out, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    assert [read_row(bench, f"child-{n}").parent_id for n in range(3)] == ["mine"] * 3


def test_what_a_thread_of_a_handler_dispatches_has_a_parent(bench: Bench) -> None:
    """A context does not follow into a thread; the thread knows who has started it."""

    @job
    def threaded() -> None:
        thread = threading.Thread(target=lambda: dispatch("child", job_id="child"))
        thread.start()
        thread.join()

    bench.relayq.dispatch(threaded, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    assert read_row(bench, "child").parent_id == "mine"


def test_the_depth_is_refused_before_anything_is_written(bench: Bench) -> None:
    """An error of the handler's, which it may catch."""
    bench = Bench(max_depth=1)

    @job
    def step() -> str:
        with pytest.raises(ChainTooDeep):
            dispatch("step", unique="k")
        return "caught"

    bench.relayq.dispatch(step, job_id="zero")

    @job(name="first")
    def first() -> None:
        dispatch("step", job_id="one")

    bench.relayq.dispatch("first", job_id="mine")
    bench.run("mine")
    assert bench.run("one").ended is RunOutcome.COMPLETED
    assert sorted(bench.store.jobs) == ["mine", "one", "zero"]
    assert not bench.relayq.dispatch("step", unique="k").duplicate
