"""Deadline: stop a handler when its time is up, and end the process of one that will not stop.

The watchdog's thread sees to both. In the main thread a signal raises JobTimeout wherever the handler is, blocking
calls included. In any other thread Python can only raise it between two bytecodes (PyThreadState_SetAsyncExc), so a
blocking call returns first.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from relayq_core.errors import JobTimeout
from relayq_core.watchdog import Watchdog

#: The exit status of a process that was ended because its handler would not stop.
STUBBORN_EXIT = 70
#: botocore and others take whatever is raised in a call for a failed connection, and try again: then so do we.
_AGAIN = 0.5
#: An alarm that is not heard yet rings again so soon, then after twice the time, and so on.
_MOMENT = 0.001

_watchdog = Watchdog()


def _end_process() -> None:
    try:
        sys.stderr.write("relayq: the handler ignored its timeout; its process ends now\n")
        sys.stderr.flush()
    finally:  # a handler may have closed or replaced what it writes to
        os._exit(STUBBORN_EXIT)


@contextmanager
def deadline(seconds: float, *, patience: float, end: Callable[[], None] = _end_process) -> Iterator[None]:
    """Raise JobTimeout in the body after `seconds`; call `end` if it still runs `patience` seconds later."""
    alarm = _Signalled(seconds) if _can_use_signals() else _Raised()
    watched = _watchdog.watch(seconds, _stages(alarm.ring, patience, end))
    try:
        try:
            alarm.begin()
            yield
        finally:
            alarm.end()
    except alarm.raises:
        raise JobTimeout(seconds) from None
    finally:
        _watchdog.let_be(watched)


def _stages(ring: Callable[[], float], patience: float, end: Callable[[], None]) -> Callable[[], float | None]:
    """What the watchdog does once the time is up: ring, as often as it takes; and when patience is over, end."""
    left = patience

    def act() -> float | None:
        nonlocal left
        if left <= 0:
            end()
            return None
        wait = min(ring(), left)
        left -= wait
        return wait

    return act


# --- in the main thread -----------------------------------------------------------------------------------------------

#: Nobody else wants it: a handler may use SIGALRM for itself. Where nothing listens it does nothing.
_SIGNAL: int | None = getattr(signal, "SIGURG", None)
#: Those whose body runs, the innermost last.
_signalled: list[_Signalled] = []


def _can_use_signals() -> bool:
    return _SIGNAL is not None and threading.current_thread() is threading.main_thread()


class _Signalled:
    """Rings by a signal to the main thread. The listener stays: to change it twice for each job costs four calls."""

    #: it raises JobTimeout itself
    raises: tuple[type[BaseException], ...] = ()
    _listens = False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_rung = self._was_heard = False
        self._pause = _MOMENT
        self._thread = threading.get_ident()

    def begin(self) -> None:
        assert _SIGNAL is not None
        if not _Signalled._listens:
            signal.signal(_SIGNAL, _hear)
            _Signalled._listens = True
        _signalled.append(self)

    def end(self) -> None:
        if self in _signalled:
            _signalled.remove(self)

    def ring(self) -> float:
        """Seconds until it is to be rung again."""
        if self._was_heard:
            self._was_heard, self._pause = False, _MOMENT
            return _AGAIN
        assert _SIGNAL is not None
        self._is_rung = True
        signal.pthread_kill(self._thread, _SIGNAL)
        pause, self._pause = self._pause, min(2 * self._pause, _AGAIN)
        return pause

    def hear(self) -> None:
        """Raise JobTimeout, if it was rung."""
        if self._is_rung:
            self._is_rung, self._was_heard = False, True
            if not _is_on_its_way_out():
                raise JobTimeout(self._seconds)


def _hear(signum: int, frame: FrameType | None) -> None:
    # on the way in or out an error would leave the rest undone: it rings again in a moment
    if frame is None or frame.f_code.co_filename not in _OWN_FILES:
        for alarm in tuple(_signalled):
            alarm.hear()


def _is_on_its_way_out() -> bool:
    """The handler was told before, and cleans up: it may do so in peace, as long as there is patience."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, JobTimeout):
        error = error.__context__
    return error is not None


#: Where the interpreter is between a handler and its deadline.
_OWN_FILES = frozenset({_end_process.__code__.co_filename, contextmanager.__code__.co_filename})


# --- in any other thread ----------------------------------------------------------------------------------------------


class _Raised:
    """Rings by raising an error of its own in the thread that made it, once."""

    def __init__(self) -> None:
        class Timeout(JobTimeout):
            """SetAsyncExc takes a class and makes the instance itself, without arguments."""

            def __init__(self) -> None:
                super().__init__(0)

        self.raises = Timeout
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._runs = False

    def begin(self) -> None:
        self._runs = True

    def end(self) -> None:
        with self._lock:
            self._runs = False
            _raise_in(self._thread, None)  # what was rung and has not been raised yet is called off

    def ring(self) -> float:
        """Seconds until it is to be rung again."""
        with self._lock:
            if not self._runs:
                return _MOMENT
            _raise_in(self._thread, self.raises)
            return math.inf


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    import ctypes  # noqa: PLC0415 - the main thread, where Lambda runs handlers, never comes here

    raising = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), raising)
