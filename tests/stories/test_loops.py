"""Async jobs share one event loop for the life of their process, and none of them spoils it for the next."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from relayq_core import Job, JobTimeout, dispatch, job
from relayq_core.process import loops
from relayq_core.process.deadline import STUBBORN_EXIT
from relayq_core.testing import Kit, fake, isolated_registry, perform

#: Far more than anything here takes.
LONG = 100


@pytest.fixture(params=["asyncio", "uvloop"])
def kit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """A kit whose async jobs run in a fresh loop of either kind."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        monkeypatch.setattr(asyncio, "new_event_loop", uvloop.new_event_loop)
    fresh = loops._Loops()
    monkeypatch.setattr(loops, "_loops", fresh)
    with isolated_registry(), fake() as kit:
        yield kit
    fresh.close()
    asyncio.set_event_loop(None)


def ended(kit: Kit, made: Any) -> tuple[Any, str | None]:
    """The result and the error of a job that is run once."""
    record = kit.run(dispatch(made, max_attempts=1).job_id)
    assert record is not None
    return record.result, record.error


def test_what_a_module_keeps_for_its_loop_works_in_every_job(kit: Kit) -> None:
    """A client, a lock: asyncio binds them to the loop in which they were first used."""
    one_at_a_time = asyncio.Semaphore(1)

    @job
    async def call() -> str:
        async def ask() -> None:
            async with one_at_a_time:
                await asyncio.sleep(0.001)

        await asyncio.gather(ask(), ask())
        return "ok"

    assert [ended(kit, call.job()) for _ in range(3)] == [("ok", None)] * 3


def test_handle_and_failed_and_perform_share_the_loop(kit: Kit) -> None:
    """One process, one loop."""
    seen: list[asyncio.AbstractEventLoop] = []

    class Fails(Job):
        async def handle(self) -> None:
            seen.append(asyncio.get_running_loop())
            raise ValueError("no")

        async def failed(self, error: BaseException) -> None:
            seen.append(asyncio.get_running_loop())

    ended(kit, Fails())
    with pytest.raises(ValueError, match="no"):
        perform(Fails())

    async def in_an_async_test() -> None:
        ended(kit, Fails())

    asyncio.run(in_an_async_test())
    assert len(seen) == 5
    assert len(set(map(id, seen))) == 1


def legacy() -> int:
    """What sync code of some age does."""

    async def work() -> int:
        return 7

    return asyncio.get_event_loop().run_until_complete(work())


async def modern() -> int:
    """An async handler."""
    return 7


def runs_its_own() -> int:
    """Takes the current loop away as it ends."""
    return asyncio.run(modern())


def closes_it() -> int:
    """As examples do it."""
    loop = asyncio.get_event_loop()
    answer = loop.run_until_complete(modern())
    loop.close()
    return answer


def replaces_it() -> int:
    """And leaves a closed one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()
    return 7


async def stops_it() -> int:
    """The run ends before its handler has."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return 7


async def shuts_its_threads_down() -> int:
    """No thread can be had of that loop any more."""
    await asyncio.to_thread(int)
    await asyncio.get_running_loop().shutdown_default_executor()
    return 7


async def shuts_its_generators_down() -> int:
    """asyncio would warn at the next one."""
    await asyncio.get_running_loop().shutdown_asyncgens()
    return 7


async def uses_threads_and_generators() -> int:
    """Both come from the loop."""

    async def numbers() -> AsyncIterator[int]:
        yield 3
        yield 4

    return sum([number async for number in numbers()]) + await asyncio.to_thread(int)


async def sets_a_task_factory() -> int:
    """That fails for everybody else."""

    def refuse(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no tasks here")

    asyncio.get_running_loop().set_task_factory(refuse)
    return 7


async def ends_its_process() -> int:
    """In a task of its own: that goes through the loop."""

    async def leave() -> None:
        raise SystemExit(3)

    task = asyncio.create_task(leave())
    await asyncio.sleep(LONG)
    await task
    return 7


async def stubborn_task() -> int:
    """Leaves a task that will not end."""

    async def stay() -> None:
        while True:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                continue

    asyncio.create_task(stay())  # noqa: RUF006
    await asyncio.sleep(0)
    return 7


HARMFUL = [
    runs_its_own,
    closes_it,
    replaces_it,
    stops_it,
    shuts_its_threads_down,
    shuts_its_generators_down,
    sets_a_task_factory,
    ends_its_process,
    stubborn_task,
]


@pytest.mark.filterwarnings("ignore:.*was destroyed but it is pending")
@pytest.mark.parametrize("harm", HARMFUL)
def test_no_job_spoils_the_loop_for_the_next(
    kit: Kit, harm: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does to its loop, sync jobs and async jobs of the process go on as before."""
    monkeypatch.setattr(loops, "_LEFT_SECONDS", 0.05)
    harmless: list[Any] = [job(legacy), job(modern), job(uses_threads_and_generators)]
    harmful = job(harm)
    for good in harmless:
        ended(kit, harmful.job())
        assert ended(kit, good.job()) == (7, None)


def test_tasks_that_a_handler_leaves_are_ended_with_it(kit: Kit) -> None:
    """They clean up, and nothing of them runs in the next job."""
    left: list[str] = []

    @job
    async def leaves() -> None:
        async def background() -> None:
            try:
                while True:
                    await asyncio.sleep(0.001)
            finally:
                await asyncio.sleep(0)
                left.append("cleaned up")

        asyncio.create_task(background())  # noqa: RUF006
        await asyncio.sleep(0)

    @job
    def leaves_in_sync_code() -> None:
        asyncio.get_event_loop().create_task(asyncio.sleep(LONG))

    @job
    async def looks() -> int:
        return len(asyncio.all_tasks())

    assert ended(kit, leaves.job()) == (None, None)
    assert left == ["cleaned up"]
    assert ended(kit, leaves_in_sync_code.job()) == (None, None)
    assert ended(kit, looks.job()) == (1, None)


def test_generators_that_a_handler_leaves_are_closed_with_it(kit: Kit) -> None:
    """Their finally may hold a connection."""
    closed: list[str] = []
    kept: list[Any] = []

    @job
    async def leaves() -> int:
        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                closed.append("closed")

        kept.append(numbers())
        async for number in kept[0]:
            return int(number)
        return 0

    assert ended(kit, leaves.job()) == (1, None)
    assert closed == ["closed"]


def test_signal_handlers_end_with_the_handler(kit: Kit) -> None:
    """A SIGTERM between two jobs must not call what one of them has left."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}

    @job
    async def listens() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, print)
        loop.add_signal_handler(signal.SIGINT, print)
        signal.signal(signal.SIGUSR1, lambda number, frame: None)

    assert ended(kit, listens.job()) == (None, None)
    assert {number: signal.getsignal(number) for number in before} == before


def test_what_threads_of_a_handler_do_is_done_before_it_counts_as_ended(kit: Kit) -> None:
    """Beside its next attempt it would be two handlers at once."""
    done: list[str] = []

    @job
    async def leaves() -> None:
        def work() -> None:
            time.sleep(0.05)
            done.append("worked")

        asyncio.get_running_loop().run_in_executor(None, work)

    assert ended(kit, leaves.job()) == (None, None)
    assert done == ["worked"]


def test_two_async_jobs_at_once_have_a_loop_each(kit: Kit) -> None:
    """In threads, as in tests of an application: neither waits for the other."""
    meet = threading.Barrier(2, timeout=LONG)

    @job
    async def waits() -> None:
        meet.wait()

    ids = [dispatch(waits.job()).job_id for _ in range(2)]
    threads = [threading.Thread(target=kit.run, args=[job_id]) for job_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [kit.get(job_id).status for job_id in ids] == ["completed", "completed"]


# --- time ---


async def sleeps() -> str:
    """Waits at one place."""
    await asyncio.sleep(LONG)
    return "slept"


async def gathers() -> str:
    """Waits for others."""
    await asyncio.gather(asyncio.sleep(LONG), asyncio.sleep(LONG))
    return "gathered"


async def groups() -> str:
    """Waits for a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(LONG))
    return "grouped"


async def shields() -> str:
    """What it waits for goes on."""
    await asyncio.shield(asyncio.create_task(asyncio.sleep(LONG)))
    return "shielded"


async def computes() -> str:
    """Never gives the loop back."""
    while True:
        pass


async def blocks() -> str:
    """A blocking call."""
    time.sleep(LONG)
    return "blocked"


async def blocks_in_a_task() -> str:
    """A blocking call in another task."""
    await asyncio.create_task(blocks())
    return "blocked"


async def is_busy() -> str:
    """Gives the loop back all the time."""
    while True:
        await asyncio.sleep(0)


async def waits_for_one_who_swallows() -> str:
    """Its cancellation never arrives."""

    async def swallow() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)

    await asyncio.create_task(swallow())
    await asyncio.sleep(LONG)
    return "swallowed"


async def has_a_timeout_of_its_own() -> str:
    """A longer one."""
    async with asyncio.timeout(LONG):
        await asyncio.sleep(LONG)
    return "timed"


WAITING = [
    sleeps,
    gathers,
    groups,
    shields,
    computes,
    blocks,
    blocks_in_a_task,
    is_busy,
    waits_for_one_who_swallows,
    has_a_timeout_of_its_own,
]


@pytest.mark.parametrize("wait", WAITING)
@pytest.mark.parametrize("in_a_thread", [False, True], ids=["main", "thread"])
def test_a_coroutine_can_catch_its_timeout(kit: Kit, wait: Callable[[], Any], *, in_a_thread: bool) -> None:
    """As a sync handler can; it may await while it cleans up, and its loop is as good as ever."""
    if in_a_thread and wait in (blocks, blocks_in_a_task):
        pytest.skip("in a thread Python interrupts no blocking call")
    order: list[str] = []

    @job(timeout=0.05)
    async def handler() -> str:
        try:
            return str(await wait())
        except JobTimeout as error:
            order.append(f"caught {error.seconds:g}")
            await asyncio.sleep(0.05)
            async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            return "kept what there was"
        finally:
            await asyncio.sleep(0.01)
            order.append("finally")

    answers: list[Any] = []

    def twice() -> None:
        answers.extend(ended(kit, handler.job()) for _ in range(2))

    if in_a_thread:
        thread = threading.Thread(target=twice)
        thread.start()
        thread.join()
    else:
        twice()
    assert answers == [("kept what there was", None)] * 2
    assert order == ["caught 0.05", "finally"] * 2


def test_a_timeout_that_is_not_caught_is_the_jobs_error(kit: Kit) -> None:
    """By its own name, with the place."""

    @job(timeout=0.05)
    async def handler() -> None:
        await asyncio.sleep(LONG)

    result, error = ended(kit, handler.job())
    assert result is None
    assert (error or "").startswith("JobTimeout: the handler was stopped after 0.05 s, the time it had")
    assert "in handler" in (error or "")


def test_a_timeout_that_is_swallowed_is_raised_again(kit: Kit) -> None:
    """A client that takes it for a failed connection tries again."""
    swallowed: list[str] = []

    @job(timeout=0.05)
    async def handler() -> None:
        while True:
            try:
                await asyncio.sleep(LONG)
            except Exception as error:
                swallowed.append(str(error))
                if len(swallowed) == 2:
                    raise

    _, error = ended(kit, handler.job())
    assert len(swallowed) == 2
    assert (error or "").startswith("JobTimeout: ")


def test_the_end_of_the_time_ends_the_others_of_a_group(kit: Kit) -> None:
    """They clean up before the handler goes on, as at a cancellation."""
    order: list[str] = []

    @job(timeout=0.05)
    async def handler() -> None:
        async def other() -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                order.append("other")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(other())
        finally:
            order.append("handler")

    ended(kit, handler.job())
    assert order == ["other", "handler"]


def in_a_process(body: str) -> subprocess.CompletedProcess[str]:
    """Run this in a process of its own."""
    script = textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG, check=False)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_thread_of_an_async_handler_that_will_not_end_ends_with_its_process(kind: str) -> None:
    """asyncio.to_thread() cannot be stopped; what it does must not outlive the lease. The log names the timeout."""
    if kind == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    done = in_a_process(
        f"""
        import asyncio, time
        if {kind == "uvloop"}:
            import uvloop
            asyncio.new_event_loop = uvloop.new_event_loop
        from relayq_core import dispatch, job
        from relayq_core.testing import fake

        @job(timeout=0.1, max_attempts=1)
        async def blocked() -> None:
            try:
                await asyncio.to_thread(time.sleep, 100)
            finally:
                print("finally", flush=True)

        with fake(lease_grace_seconds=2) as kit:
            kit.run(dispatch(blocked.job()).job_id)
        print("survived")
        """
    )
    assert done.stdout == "finally\n", done.stderr
    assert done.returncode == STUBBORN_EXIT
    assert "its handler overran its time of 0.1 s and did not stop" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_child_of_a_fork_has_a_loop_of_its_own_and_leaves_its_parents_alone(kind: str) -> None:
    """They would share a selector: what the child closes would be closed in the parent."""
    if kind == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    done = in_a_process(
        f"""
        import asyncio, os, sys, threading
        if {kind == "uvloop"}:
            import uvloop
            asyncio.new_event_loop = uvloop.new_event_loop
        from relayq_core.process import loops

        async def woken():
            loop = asyncio.get_running_loop()
            event = asyncio.Event()
            threading.Timer(0.05, loop.call_soon_threadsafe, [event.set]).start()
            await asyncio.wait_for(event.wait(), 50)
            return loop

        mine = loops.run(woken())
        child = os.fork()
        if child == 0:
            assert asyncio.get_event_loop() is not mine
            assert loops.run(woken()) is not mine
            assert asyncio.get_event_loop() is not mine
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert loops.run(woken()) is mine
        print("both are well")
        """
    )
    assert done.stdout == "both are well\n", done.stderr


# --- contexts ---


def test_what_an_async_handler_sets_in_its_context_ends_with_it(kit: Kit) -> None:
    """Its failed(), too."""
    tenant = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []

    class Sets(Job):
        async def handle(self) -> None:
            seen.append(tenant.get())
            tenant.set("handle")
            raise ValueError("no")

        async def failed(self, error: BaseException) -> None:
            seen.append(tenant.get())
            tenant.set("failed")

    for _ in range(2):
        ended(kit, Sets())
    assert seen == ["none"] * 4
    assert tenant.get() == "none"
