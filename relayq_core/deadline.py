"""Deadline: stop a handler when its time is up, and end the process of one that will not stop.

In the main thread SIGALRM raises JobTimeout wherever the handler is, blocking calls included. In any other thread
Python can only raise it between two bytecodes (PyThreadState_SetAsyncExc), so a blocking call returns first.
"""

from __future__ import annotations

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
    alarm = _signal_alarm if _can_use_signals() else _thread_alarm
    watched = _watchdog.watch(seconds + patience, end)
    try:
        with alarm(seconds):
            yield
    finally:
        _watchdog.let_be(watched)


def _can_use_signals() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@contextmanager
def _signal_alarm(seconds: float) -> Iterator[None]:
    over = False

    def ring(signum: int, frame: FrameType | None) -> None:
        if over:
            return
        if frame is not None and frame.f_code.co_filename in _OWN_FILES:
            # on the way in or out, where an error would leave the rest undone: ring again in a moment
            signal.setitimer(signal.ITIMER_REAL, 0.001, _AGAIN)
        elif not _is_on_its_way_out():
            raise JobTimeout(seconds)

    earlier = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), _AGAIN)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _is_on_its_way_out() -> bool:
    """The handler was told before, and cleans up: it may do so in peace, as long as there is patience."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, JobTimeout):
        error = error.__context__
    return error is not None


@contextmanager
def _thread_alarm(seconds: float) -> Iterator[None]:
    class Timeout(JobTimeout):
        """SetAsyncExc takes a class and makes the instance itself, without arguments."""

        def __init__(self) -> None:
            super().__init__(seconds)

    victim = threading.get_ident()
    lock = threading.Lock()
    over = False

    def ring() -> None:
        with lock:
            if not over:
                _raise_in(victim, Timeout)

    timer = threading.Timer(max(seconds, 0.001), ring)
    timer.daemon = True
    try:
        try:
            timer.start()
            yield
        finally:
            with lock:
                over = True
                _raise_in(victim, None)  # what was rung and has not been raised yet is called off
            timer.cancel()
    except Timeout:
        raise JobTimeout(seconds) from None


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    import ctypes  # noqa: PLC0415 - the main thread, where Lambda runs handlers, never comes here

    raising = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), raising)


#: Where the interpreter is between a handler and its deadline.
_OWN_FILES = frozenset({_end_process.__code__.co_filename, contextmanager.__code__.co_filename})
