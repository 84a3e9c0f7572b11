"""Loops: one event loop for the life of a process, in which all async handlers run, one after another.

So what a module keeps for its loop, such as a client or a lock, works in every job. In return each run is cleaned up:
its tasks, generators and signal handlers do not reach the next run, and a loop that cannot be used again is replaced.
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
from relayq_core.process.deadline import ask_first
from relayq_core.process.forks import Lock, reset_in_children
from relayq_core.process.loggers import logger

#: How long tasks that a handler leaves behind have to end after they are cancelled.
_LEFT_SECONDS = 2.0
#: Methods after which a loop no longer works as before.
_FINAL = ("shutdown_default_executor", "shutdown_asyncgens")


class _Timeout(JobTimeout, asyncio.CancelledError):
    """JobTimeout in a coroutine. A CancelledError too: code such as a TaskGroup cleans up as for a cancellation."""


_Timeout.__name__ = "JobTimeout"  # the name in error texts; pickle uses __qualname__


def run(awaitable: Awaitable[Any]) -> Any:
    """Run an awaitable to its end in this process's loop, clean up after it, and return its result.

    Raises what it raises. At the deadline of this thread's handler, JobTimeout is raised inside it.
    """
    _refuse_to_nest(awaitable)
    loop = _loops.take()
    try:
        asyncio.set_event_loop(loop)
        return _Run(loop).run(awaitable)
    finally:
        _loops.give_back(loop)


@contextmanager
def use_loop() -> Iterator[None]:
    """Make asyncio.get_event_loop() return this process's loop in the block, whatever an earlier job changed there.

    Tasks that are created for it and not run to their end are cancelled afterwards.
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
    """The executor of asyncio.to_thread(); it keeps track of what is not done yet."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="relayq-async")
        self.working: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.working.add(future)
        future.add_done_callback(self.working.discard)
        return future


class _Loops:
    """The idle loops. As long as one thread runs one handler after another, it is always the same loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[asyncio.AbstractEventLoop] = []
        self.threads: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads] = weakref.WeakKeyDictionary()
        self._spent: weakref.WeakSet[Any] = weakref.WeakSet()
        reset_in_children(self)
        atexit.register(self.close)

    def take(self) -> asyncio.AbstractEventLoop:
        """Return a loop that nothing else uses until it is given back."""
        with self._lock:
            while self._idle:
                loop = self._idle.pop()
                if not loop.is_closed():
                    return loop
        return self._make_loop()

    def _make_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self.threads[loop] = _Threads()
        loop.set_default_executor(self.threads[loop])
        for name in _FINAL:
            setattr(loop, name, self._wrap_final(loop, name))
        return loop

    def _wrap_final(self, loop: asyncio.AbstractEventLoop, name: str) -> Callable[..., Any]:
        """Return the loop's own method, wrapped so that the loop is not used again after a call of it."""
        loop_ref, method = weakref.ref(loop), getattr(type(loop), name)

        def call(*args: Any, **options: Any) -> Any:
            self._spent.add(loop_ref())
            return method(loop_ref(), *args, **options)

        return call

    def give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reset the loop and keep it for the next run, or close it if it cannot be used again."""
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
        """Close the idle loops, at the end of the process."""
        for loop in self._idle:
            if not loop.is_closed() and not loop.is_running():
                loop.close()

    def reset_after_fork(self) -> None:
        """Replace the loops. A child shares its parent's selector: closing or freeing one here would change both."""
        import ctypes  # noqa: PLC0415 - few handlers fork

        for loop in self.threads:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))
        had_loop, self._idle = bool(self._idle), []
        self.threads = weakref.WeakKeyDictionary()
        if had_loop:
            with suppress(RuntimeError):
                self._idle.append(self.take())
                asyncio.set_event_loop(self._idle[-1])


_loops = _Loops()


class _Run:
    """One run of a handler, or of a failed(), in the loop, and the cleanup of what it leaves behind."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._returned: Any = None
        self._raised: BaseException | None = None
        self._generators: weakref.WeakSet[Any] = weakref.WeakSet()
        #: the seconds that the handler had, once they are over
        self._overran: float | None = None
        #: returns the JobTimeout that was raised in the handler, for as long as the handler is dealing with it
        self._raised_timeout: Callable[[], BaseException | None] | None = None
        #: _cancel() has been scheduled in the loop and has not run yet
        self._is_scheduled = False

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Run an awaitable, clean up, and return its result. Raises what it raises."""
        with _restore_signals(self._loop), ask_first(self._ask):
            self._task = self._loop.create_task(self._run_main(awaitable))
            try:
                self._loop.run_until_complete(self._task)
            except BaseException as error:  # the loop was stopped, or one of its tasks ends the process
                self._raised = self._raised or error
            finally:
                self.clean_up()
        raised, self._raised = self._raised, None
        if type(raised) is _Timeout:
            raise JobTimeout(raised.seconds).with_traceback(raised.__traceback__) from None
        if raised is not None:
            raise raised
        return self._returned

    async def _run_main(self, awaitable: Awaitable[Any]) -> None:
        # errors are caught here: asyncio's task would end the loop for some of them, and cancel itself for others
        self._note_generators()
        try:
            self._returned = await self._run_interruptibly(_wait_for(awaitable))
        except BaseException as error:
            self._raised = error

    @types.coroutine
    def _run_interruptibly(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run the coroutine; when its time is up, raise JobTimeout where it waits."""
        step: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                awaited = step(value)
            except StopIteration as stop:
                return stop.value
            step, value = coroutine.send, None
            try:
                value = yield awaited
            except BaseException as error:
                step, value = coroutine.throw, error
            if self._must_raise_timeout and (step == coroutine.send or isinstance(value, asyncio.CancelledError)):
                step, value = coroutine.throw, self._make_timeout()

    @property
    def _must_raise_timeout(self) -> bool:
        return self._overran is not None and self._raised_timeout is None

    def _make_timeout(self) -> BaseException:
        assert self._task is not None
        while self._task.cancelling():
            self._task.uncancel()  # what it awaits from now on is not cancelled
        error = _Timeout(self._overran or 0.0)
        self._raised_timeout = weakref.ref(error)
        return error

    # --- called by the alarm, in a signal handler or in another thread ---

    def _ask(self, seconds: float) -> bool:
        """Have JobTimeout raised in the coroutine. Return False if the loop is blocked: the alarm must raise it."""
        if self._is_scheduled:
            current = asyncio.current_task(self._loop)
            if current is not None and current is self._task:
                timeout = JobTimeout(seconds)  # stands for the one that the alarm raises
                self._overran, self._raised_timeout = seconds, lambda: timeout
            return current is None
        try:
            self._loop.call_soon_threadsafe(self._cancel, seconds)
        except RuntimeError:  # the loop is closed
            return False
        self._is_scheduled = True
        return True

    def _cancel(self, seconds: float) -> None:
        self._is_scheduled = False
        if self._task is None or self._task.done():
            return
        if self._overran is not None and (self._raised_timeout is None or self._raised_timeout() is not None):
            return  # it is about to be raised, or the handler is dealing with it
        if self._raised_timeout is not None:
            self._raised_timeout = None  # the handler swallowed it: raise it again
        self._overran = seconds
        self._task.cancel()

    # --- clean up ---

    def clean_up(self) -> None:
        """Cancel the tasks that are left, close the generators, and wait for the threads."""
        if self._loop.is_closed() or self._loop.is_running():
            return
        if asyncio.all_tasks(self._loop) or self._generators or self._list_working():
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
                logger.warning(
                    "%d tasks that the handler left behind do not end; its event loop is replaced", len(stubborn)
                )
        for generator in list(self._generators):
            with suppress(BaseException):
                await asyncio.wait_for(generator.aclose(), _LEFT_SECONDS)
        while working := self._list_working():  # they are the handler's, and must not overlap with its next attempt
            await asyncio.wait([asyncio.wrap_future(future) for future in working])

    def _list_working(self) -> set[Future[Any]]:
        threads = _loops.threads.get(self._loop)
        return set(threads.working) if threads is not None else set()

    def _note_generators(self) -> None:
        hooks = sys.get_asyncgen_hooks()

        def note(generator: Any) -> None:
            self._generators.add(generator)
            if hooks.firstiter is not None:
                hooks.firstiter(generator)

        sys.set_asyncgen_hooks(firstiter=note)


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@contextmanager
def _restore_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Restore, after the block, signal handlers that it set in the loop or without it; except the deadline's own."""
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
