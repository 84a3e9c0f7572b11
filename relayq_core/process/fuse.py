"""Fuse: end this process at a moment, though C code may hold Python's lock at that moment.

The kernel keeps the time. First it sends a signal whose handler is faulthandler's: written in C, it prints where each
thread is, and then the process ends by that signal. Should that be held up, as by a stderr that is blocked, SIGKILL
follows. A thread of Python's could do neither before the C code gives the lock back.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import time
from typing import Any, Protocol

#: The signal that ends a process of which C code holds the lock: one that has no other use, and no name of its own that
#: could mislead. Real-time signals begin where the C library's own end.
OVERRUN_SIGNAL = signal.SIGRTMAX - 5 if hasattr(signal, "SIGRTMAX") else signal.SIGABRT
_STDERR = 2
_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1


class Fuse(Protocol):
    """What ends the process."""

    def arm(self, at: float, last: float) -> None:
        """End the process at `at` with a word to stderr, at `last` in any case: by the monotonic clock, inf for not."""
        ...


def make_fuse() -> Fuse:
    """Return this platform's fuse; each process needs its own, for a fork copies no timers."""
    try:
        return _KernelFuse()
    except (ImportError, OSError, AttributeError):
        return _FaulthandlerFuse()


class _KernelFuse:
    """Two timers of the kernel's, made once; to light them costs a system call each."""

    def __init__(self) -> None:
        if sys.platform != "linux" or sys.maxsize < 2**32:
            raise OSError("timers are laid out as in 64-bit Linux")
        import ctypes  # noqa: PLC0415 - not in the start: the first job may pay for it

        # PyDLL keeps Python's lock in a call: these take no time, and to give it back and take it again would
        libc: Any = ctypes.PyDLL(None, use_errno=True)
        if not hasattr(libc, "timer_create"):  # before glibc 2.34
            libc = ctypes.PyDLL("librt.so.1", use_errno=True)
        self._settime = libc.timer_settime
        #: struct itimerspec: the interval's seconds and nanoseconds, then the moment's; all zeros put it out
        self._value = (ctypes.c_int64 * 4)()
        self._set = ctypes.byref(self._value)
        self._out = ctypes.byref((ctypes.c_int64 * 4)())
        faulthandler.register(OVERRUN_SIGNAL, file=_STDERR, all_threads=True, chain=True)
        self._word = _make_timer(ctypes, libc, OVERRUN_SIGNAL)
        self._kill = _make_timer(ctypes, libc, signal.SIGKILL)

    def arm(self, at: float, last: float) -> None:
        if at == math.inf:
            self._settime(self._word, 0, self._out, None)
        else:
            self._value[2], self._value[3] = int(at), int(at % 1 * 1e9) or 1
            self._settime(self._word, _TIMER_ABSTIME, self._set, None)
        if last == math.inf:
            self._settime(self._kill, 0, self._out, None)
        else:
            self._value[2], self._value[3] = int(last), int(last % 1 * 1e9) or 1
            self._settime(self._kill, _TIMER_ABSTIME, self._set, None)


def _make_timer(ctypes: Any, libc: Any, number: int) -> Any:
    """Make a timer that sends this signal to the process. Raises OSError."""
    # struct sigevent: a value of 8 bytes, the signal, how to notify (0: by it), padding up to 64 bytes
    event = (ctypes.c_int32 * 16)(0, 0, number, 0)
    timer = ctypes.c_void_p()
    if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")
    return timer


class _FaulthandlerFuse:
    """A thread of faulthandler's own, written in C, each time. There is one in a process, so others may put it out."""

    def arm(self, at: float, last: float) -> None:
        if math.isinf(at):
            faulthandler.cancel_dump_traceback_later()
        else:
            faulthandler.dump_traceback_later(max(0.001, at - time.monotonic()), exit=True, file=_STDERR)


def has_overrun(status: int) -> bool:
    """Whether a process with this exit status, as subprocess tells it, was ended by its fuse's word."""
    return os.name == "posix" and status == -OVERRUN_SIGNAL
