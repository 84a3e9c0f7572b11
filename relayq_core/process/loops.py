"""Loops: one event loop for the life of a process, in which all async handlers run, one after the other.

What a module keeps for its loop - a client, a lock - works in every job then. In return each run is cleaned up after:
its tasks, generators and signal handlers do not reach the next one, and a loop that cannot be used again is replaced.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import sys
import threading
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from relayq_core.errors import JobTimeout
from relayq_core.process.deadline import asked_first
from relayq_core.process.forks import Lock, reset_in_children
from relayq_core.process.loggers import logger

#: How long tasks that a handler leaves behind have to end, once they are cancelled.
_LEFT_SECONDS = 2.0
#: After these a loop works no more as it did.
_FOR_GOOD = ("shutdown_default_executor", "shutdown_asyncgens")


class _Timeout(JobTimeout, asyncio.CancelledError):
    """JobTimeout in a coroutine: what cleans up at a cancellation, as a TaskGroup does, cleans up at this too."""


_Timeout.__name__ = "JobTimeout"  # what errors are shown by; pickle finds the class by its __qualname__


def run(awaitable: Awaitable[Any]) -> Any:
    """Run it to its end in this process's loop, and clean up after it: what it returns.

    Raises what it raises. At the deadline of this thread's handler JobTimeout is raised inside of it.
    """
    _refuse_to_nest(awaitable)
    loop = _loops.take()
    try:
        asyncio.set_event_loop(loop)
        return _Run(loop).result_of(awaitable)
    finally:
        _loops.give_back(loop)


@contextmanager
def use_loop() -> Iterator[None]:
    """Inside, asyncio.get_event_loop() answers with this process's loop, whatever an earlier job has made of that.

    Tasks that are made for it and not run to their end are cancelled afterwards.
    """
    if threading.current_thread() is not threading.main_thread() or _is_running():
        yield
        return
    loop = _loops.take()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        if not loop.is_closed() and not loop.is_running() and asyncio.all_tasks(loop):
            _Run(loop).clean_up()
        _loops.give_back(loop)


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse_to_nest(awaitable: Awaitable[Any]) -> None:
    if _is_running():
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise RuntimeError("an async job cannot be run inside a running event loop; run it in a thread")


class _Threads(ThreadPoolExecutor):
    """What asyncio.to_thread() runs in; it knows what is not done yet."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="relayq-async")
        self.working: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.working.add(future)
        future.add_done_callback(self.working.discard)
        return future


class _Loops:
    """The loops that run nothing now. Where one thread runs one after the other, it is always the same."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[asyncio.AbstractEventLoop] = []
        self.threads: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads] = weakref.WeakKeyDictionary()
        self._spent: weakref.WeakSet[Any] = weakref.WeakSet()
        reset_in_children(self)
        atexit.register(self.close)

    def take(self) -> asyncio.AbstractEventLoop:
        """One that nobody else uses meanwhile."""
        with self._lock:
            while self._idle:
                loop = self._idle.pop()
                if not loop.is_closed():
                    return loop
        return self._made()

    def _made(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self.threads[loop] = _Threads()
        loop.set_default_executor(self.threads[loop])
        for name in _FOR_GOOD:
            setattr(loop, name, self._noted(loop, name))
        return loop

    def _noted(self, loop: asyncio.AbstractEventLoop, name: str) -> Callable[..., Any]:
        """The loop's own method, but that the loop is not used again after it."""
        seen, of_its_kind = weakref.ref(loop), getattr(type(loop), name)

        def call(*args: Any, **options: Any) -> Any:
            self._spent.add(seen())
            return of_its_kind(seen(), *args, **options)

        return call

    def give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep it for the next, as it was; or close it, if it cannot be used again."""
        if loop.is_closed() or loop.is_running():
            return
        if loop in self._spent or asyncio.all_tasks(loop):
            loop.close()
            return
        loop.set_task_factory(None)
        loop.set_exception_handler(None)
        loop.set_default_executor(self.threads[loop])  # type: ignore[arg-type, unused-ignore]
        with self._lock:
            self._idle.append(loop)

    def close(self) -> None:
        """The process ends."""
        for loop in self._idle:
            if not loop.is_closed() and not loop.is_running():
                loop.close()

    def reset_after_fork(self) -> None:
        """A child shares its parent's selector: to close it, or to let it be freed, would change the parent's too."""
        import ctypes  # noqa: PLC0415 - few handlers fork

        for loop in self.threads:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))
        had_one, self._idle = bool(self._idle), []
        self.threads = weakref.WeakKeyDictionary()
        if had_one:
            with suppress(RuntimeError):
                self._idle.append(self.take())
                asyncio.set_event_loop(self._idle[-1])


_loops = _Loops()


class _Run:
    """One handler, or one failed(), in the loop; and what it leaves behind."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._returned: Any = None
        self._raised: BaseException | None = None
        self._generators: weakref.WeakSet[Any] = weakref.WeakSet()
        #: the seconds that the handler had, once they are over
        self._overran: float | None = None
        #: that JobTimeout was raised in it; it lives as long as the handler is busy with it
        self._told: Callable[[], BaseException | None] | None = None
        #: the loop was asked to go on, and has not yet
        self._asked = False

    def result_of(self, awaitable: Awaitable[Any]) -> Any:
        """Run it and clean up: what it returns. Raises what it raises."""
        with _signals_kept(self._loop), asked_first(self._ask):
            self._task = self._loop.create_task(self._main(awaitable))
            try:
                self._loop.run_until_complete(self._task)
            except BaseException as error:  # the loop was stopped, or a task of its own ends the process
                self._raised = self._raised or error
            finally:
                self.clean_up()
        raised, self._raised = self._raised, None
        if type(raised) is _Timeout:
            raise JobTimeout(raised.seconds).with_traceback(raised.__traceback__) from None
        if raised is not None:
            raise raised
        return self._returned

    async def _main(self, awaitable: Awaitable[Any]) -> None:
        # kept out of asyncio's task, which would end the loop for some of them, and cancel itself for others
        self._note_generators()
        try:
            self._returned = await self._interruptible(_awaiting(awaitable))
        except BaseException as error:
            self._raised = error

    @types.coroutine
    def _interruptible(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """What the coroutine does; where it waits as its time is up, JobTimeout is raised there."""
        step: Callable[[Any], Any] = coroutine.send
        given: Any = None
        while True:
            try:
                awaits = step(given)
            except StopIteration as stop:
                return stop.value
            step, given = coroutine.send, None
            try:
                given = yield awaits
            except BaseException as error:
                step, given = coroutine.throw, error
            if self._is_to_be_told and (step == coroutine.send or isinstance(given, asyncio.CancelledError)):
                step, given = coroutine.throw, self._timeout()

    @property
    def _is_to_be_told(self) -> bool:
        return self._overran is not None and self._told is None

    def _timeout(self) -> BaseException:
        assert self._task is not None
        while self._task.cancelling():
            self._task.uncancel()  # what it awaits from now on is not cancelled
        error = _Timeout(self._overran or 0.0)
        self._told = weakref.ref(error)
        return error

    # --- asked by the alarm, in a signal handler or in another thread ---

    def _ask(self, seconds: float) -> bool:
        """Have JobTimeout raised in the coroutine; False where the loop is blocked, so that it must be raised there."""
        if self._asked:
            current = asyncio.current_task(self._loop)
            if current is not None and current is self._task:
                told = JobTimeout(seconds)  # it stands for the one that is raised there
                self._overran, self._told = seconds, lambda: told
            return current is None
        try:
            self._loop.call_soon_threadsafe(self._go_on, seconds)
        except RuntimeError:  # it is closed
            return False
        self._asked = True
        return True

    def _go_on(self, seconds: float) -> None:
        self._asked = False
        if self._task is None or self._task.done():
            return
        if self._overran is not None and (self._told is None or self._told() is not None):
            return  # it is on its way, or the handler is busy with it
        if self._told is not None:
            self._told = None  # it was swallowed: again
        self._overran = seconds
        self._task.cancel()

    # --- clean up ---

    def clean_up(self) -> None:
        """Cancel the tasks that are left, close the generators, wait for the threads."""
        if self._loop.is_closed() or self._loop.is_running():
            return
        if asyncio.all_tasks(self._loop) or self._generators or self._working():
            try:
                self._loop.run_until_complete(self._leave())
            except BaseException as error:
                self._raised = self._raised or error

    async def _leave(self) -> None:
        left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            _, stubborn = await asyncio.wait(left, timeout=_LEFT_SECONDS)
            if stubborn:
                logger.warning("%d tasks that the handler left do not end; its event loop is given up", len(stubborn))
        for generator in list(self._generators):
            with suppress(BaseException):
                await asyncio.wait_for(generator.aclose(), _LEFT_SECONDS)
        while working := self._working():  # they are the handler's, and may not work beside its next attempt
            await asyncio.wait([asyncio.wrap_future(future) for future in working])

    def _working(self) -> set[Future[Any]]:
        threads = _loops.threads.get(self._loop)
        return set(threads.working) if threads is not None else set()

    def _note_generators(self) -> None:
        hooks = sys.get_asyncgen_hooks()

        def begins(generator: Any) -> None:
            self._generators.add(generator)
            if hooks.firstiter is not None:
                hooks.firstiter(generator)

        sys.set_asyncgen_hooks(firstiter=begins)


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@contextmanager
def _signals_kept(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """What the handler sets for signals, in the loop or without it, ends with it; but for the deadline's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = signal.valid_signals() - _NOT_OURS
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                with suppress(RuntimeError, ValueError, NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


_NOT_OURS = {getattr(signal, name) for name in ("SIGALRM", "SIGKILL", "SIGSTOP") if hasattr(signal, name)}
