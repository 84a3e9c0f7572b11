"""Deadline: stop a handler when its time is up, and end the process of one that does not stop.

In the main thread SIGALRM raises JobTimeout wherever the handler is, even in a blocking call. In any other thread
Python can raise it only between two bytecodes (PyThreadState_SetAsyncExc), after a blocking call has returned. If an
event loop runs, the loop is asked first to raise it in the handler's own coroutine.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, Protocol

from relayq_core.errors import JobTimeout, is_a
from relayq_core.process.watchdog import Watchdog

#: The exit status of a process that was ended because its handler did not stop.
STUBBORN_EXIT = 70
#: Seconds after which JobTimeout is raised again: botocore and others treat any exception in a call as a failed
#: connection, and retry.
_AGAIN = 0.5
#: Seconds an event loop has to raise it; after that, the code that runs in the loop blocks it.
_LOOP_SECONDS = 0.1
#: Time for `last_words`, as a share of the patience, and the least of it in seconds; then the kernel ends the process.
_SPARE = 0.2
_LEAST_SPARE = 0.1

#: signal.signal() without the conversion to enums, which takes longer than the call.
_set_handler: Any = getattr(signal.signal, "__wrapped__", signal.signal)

_watchdog = Watchdog()

#: Called by an alarm before it raises, with the handler's seconds; True: JobTimeout will be raised in the coroutine.
Ask = Callable[[float], bool]


class OuterAlarm(BaseException):
    """An alarm from outside the handler, such as pytest-timeout's, raised `error`. It is not the job's error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


class _Alarm(Protocol):
    ask: Ask | None

    def set(self) -> AbstractContextManager[None]: ...


class _Here(threading.local):
    """The alarms set in this thread, the innermost last."""

    def __init__(self) -> None:
        self.alarms: list[_Alarm] = []


_here = _Here()


def _end_process() -> None:
    try:
        sys.stderr.write("relayq: the handler ignored its timeout; its process ends now\n")
        sys.stderr.flush()
    finally:  # a handler may have closed or replaced stderr
        os._exit(STUBBORN_EXIT)


@contextmanager
def deadline(
    seconds: float,
    *,
    patience: float,
    spare: float | None = None,
    last_words: Callable[[], object] = lambda: None,
    end: Callable[[], None] = _end_process,
) -> Iterator[None]:
    """Raise JobTimeout in the body after `seconds`; if it still runs `patience` seconds later, end the process.

    `last_words` is called before that, in another thread, if Python's lock can be acquired. If not, the kernel ends
    the process `spare` seconds later, by default a fifth of the patience. Raises OuterAlarm with what an alarm from
    outside raised.
    """
    alarm: _Alarm = _SignalAlarm(seconds) if _can_use_signals() else _ThreadAlarm(seconds)

    def end_it() -> None:
        try:
            last_words()
        finally:
            end()

    spare = max(patience * _SPARE, _LEAST_SPARE) if spare is None else spare
    watched = _watchdog.watch(seconds + patience, end_it, spare=spare)
    _here.alarms.append(alarm)
    try:
        with alarm.set():
            yield
    finally:
        _here.alarms.remove(alarm)
        _watchdog.release(watched)


@contextmanager
def ask_first(ask: Ask) -> Iterator[None]:
    """Let this thread's deadline call `ask` before it raises, inside the block."""
    if not _here.alarms:
        yield
        return
    alarm = _here.alarms[-1]
    alarm.ask = ask
    try:
        yield
    finally:
        alarm.ask = None


def _can_use_signals() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


class _Outer:
    """The alarm that was set before ours: it rings at its time, and is restored afterwards with what is left of it."""

    def __init__(self) -> None:
        self.handler: Any = signal.SIG_DFL
        self._due: float | None = None
        self._interval = 0.0
        #: what it raised
        self.error: BaseException | None = None

    def begin(self, left: float, interval: float) -> None:
        """Note that it was to ring in `left` seconds, 0 for not at all, and then every `interval` seconds."""
        self._due = time.monotonic() + left if left > 0 else None
        self._interval = interval

    def read_left(self) -> float | None:
        """Return the seconds until it rings, always more than 0; None if it does not ring."""
        return None if self._due is None else max(self._due - time.monotonic(), 0.001)

    def ring_if_due(self, signum: int, frame: FrameType | None) -> None:
        if self._due is None or self._due > time.monotonic():
            return
        self._due = time.monotonic() + self._interval if self._interval else None
        if self.handler == signal.SIG_DFL:  # the default action ends the process
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)
        elif callable(self.handler):
            try:
                self.handler(signum, frame)
            except BaseException as error:
                self.error = error
                raise

    def give_back(self) -> None:
        _set_handler(signal.SIGALRM, self.handler)
        left = self.read_left()
        if left is not None:
            signal.setitimer(signal.ITIMER_REAL, left, self._interval)


class _SignalAlarm:
    """Rings in the main thread, repeatedly, until the handler has ended."""

    def __init__(self, seconds: float) -> None:
        self.ask: Ask | None = None
        self._seconds = seconds
        self._outer = _Outer()
        self._due = 0.0
        self._over = False

    @contextmanager
    def set(self) -> Iterator[None]:
        self._due = time.monotonic() + max(self._seconds, 0.001)
        self._outer.begin(*signal.setitimer(signal.ITIMER_REAL, 0))
        earlier = _set_handler(signal.SIGALRM, self._ring)
        self._outer.handler = signal.SIG_DFL if earlier is None else earlier
        self._arm()
        try:
            yield
        except BaseException as error:
            if error is self._outer.error:
                raise OuterAlarm(error) from None
            raise
        finally:
            self._over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._outer.give_back()

    def _arm(self, at_most: float = _AGAIN) -> None:
        """Set the timer to the next alarm, ours or the outer one; an alarm past its time rings again."""
        ours = self._due - time.monotonic()
        first = ours if ours > 0 else at_most
        outer = self._outer.read_left()
        if outer is not None and outer < first:
            first = outer
        signal.setitimer(signal.ITIMER_REAL, first, _AGAIN)

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if self._over:
            return
        if frame is not None and frame.f_code.co_filename in _OWN_FILES:
            # between the handler and its deadline, where an error would skip the cleanup
            self._arm(0.001)
            return
        self._arm()
        self._outer.ring_if_due(signum, frame)
        if time.monotonic() < self._due or _is_cleaning_up():
            return
        if self.ask is not None and self.ask(self._seconds):
            self._arm(_LOOP_SECONDS)
            return
        raise JobTimeout(self._seconds)


def _is_cleaning_up() -> bool:
    """Whether JobTimeout was raised before and the handler is cleaning up, which the patience gives it time for."""
    error = sys.exc_info()[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if is_a(error, JobTimeout):
            return True
        seen.add(id(error))
        error = _context.__get__(error)
    return False


#: Reads `__context__` as Python itself keeps it: the exception's class may override it.
_context: Any = BaseException.__dict__["__context__"]


class _ThreadAlarm:
    """Rings once, in a thread other than the main one."""

    def __init__(self, seconds: float) -> None:
        self.ask: Ask | None = None
        self._victim = threading.get_ident()
        self._lock = threading.Lock()
        self._over = False
        self._timer = self._make_timer(max(seconds, 0.001))
        self._seconds = seconds

        class Timeout(JobTimeout):
            """JobTimeout without arguments: SetAsyncExc takes a class and creates the instance itself."""

            def __init__(self) -> None:
                super().__init__(seconds)

        self._error = Timeout

    def _make_timer(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._ring)
        timer.daemon = True
        return timer

    @contextmanager
    def set(self) -> Iterator[None]:
        try:
            try:
                self._timer.start()
                yield
            finally:
                with self._lock:
                    self._over = True
                    _raise_in(self._victim, None)  # cancel an exception that is pending
                self._timer.cancel()
        except self._error as error:
            raise JobTimeout(self._seconds).with_traceback(error.__traceback__) from None

    def _ring(self) -> None:
        with self._lock:
            if self._over:
                return
            if self.ask is not None and self.ask(self._seconds):
                self._timer = self._make_timer(_AGAIN)
                self._timer.start()
            else:
                _raise_in(self._victim, self._error)


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    import ctypes  # noqa: PLC0415 - Lambda runs handlers in the main thread, which never gets here

    raising = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), raising)


#: The files of the code between a handler and its deadline.
_OWN_FILES = frozenset(
    code.co_filename for code in (_end_process.__code__, contextmanager.__code__, Watchdog.release.__code__)
)
