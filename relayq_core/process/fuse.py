"""Fuse: end this process at a given moment, even if C code holds Python's lock then.

The kernel keeps the time. First it sends a signal that faulthandler handles: written in C, it prints where each thread
is, and then the process ends by that signal. If that is held up, by a blocked stderr for example, SIGKILL follows. A
Python thread could do neither before the C code releases the lock.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import time
from typing import Any, Protocol

#: The signal that ends a process whose lock is held by C code. It has no other use, and no name that could mislead. The
#: C library uses the lowest real-time signals itself, so this is one of the highest.
OVERRUN_SIGNAL = signal.SIGRTMAX - 5 if hasattr(signal, "SIGRTMAX") else signal.SIGABRT
_STDERR = 2
_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1


class Fuse(Protocol):
    """Ends the process at a set time."""

    def arm(self, at: float, last: float) -> None:
        """End the process at `at` with tracebacks on stderr, at `last` in any case; monotonic clock, inf: never."""
        ...


def make_fuse() -> Fuse:
    """Return this platform's fuse. Each process needs its own, because a fork copies no timers."""
    try:
        return _KernelFuse()
    except (ImportError, OSError, AttributeError):
        return _FaulthandlerFuse()


class _KernelFuse:
    """Two kernel timers, created once; setting one costs a system call."""

    def __init__(self) -> None:
        if sys.platform != "linux" or sys.maxsize < 2**32:
            raise OSError("timers are laid out as in 64-bit Linux")
        import ctypes  # noqa: PLC0415 - at the first job, not during the start

        # PyDLL keeps Python's lock during a call: these calls are short, and releasing the lock would take longer
        libc: Any = ctypes.PyDLL(None, use_errno=True)
        if not hasattr(libc, "timer_create"):  # before glibc 2.34
            libc = ctypes.PyDLL("librt.so.1", use_errno=True)
        self._settime = libc.timer_settime
        #: struct itimerspec: the interval's seconds and nanoseconds, then the moment's; all zeros disarm the timer
        self._value = (ctypes.c_int64 * 4)()
        self._set = ctypes.byref(self._value)
        self._disarmed = ctypes.byref((ctypes.c_int64 * 4)())
        faulthandler.register(OVERRUN_SIGNAL, file=_STDERR, all_threads=True, chain=True)
        self._tracebacks = _make_timer(ctypes, libc, OVERRUN_SIGNAL)
        self._kill = _make_timer(ctypes, libc, signal.SIGKILL)

    def arm(self, at: float, last: float) -> None:
        if at == math.inf:
            self._settime(self._tracebacks, 0, self._disarmed, None)
        else:
            self._value[2], self._value[3] = int(at), int(at % 1 * 1e9) or 1
            self._settime(self._tracebacks, _TIMER_ABSTIME, self._set, None)
        if last == math.inf:
            self._settime(self._kill, 0, self._disarmed, None)
        else:
            self._value[2], self._value[3] = int(last), int(last % 1 * 1e9) or 1
            self._settime(self._kill, _TIMER_ABSTIME, self._set, None)


def _make_timer(ctypes: Any, libc: Any, number: int) -> Any:
    """Create a timer that sends this signal to the process. Raises OSError."""
    # struct sigevent: a value of 8 bytes, the signal, how to notify (0: by signal), padding up to 64 bytes
    event = (ctypes.c_int32 * 16)(0, 0, number, 0)
    timer = ctypes.c_void_p()
    if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")
    return timer


class _FaulthandlerFuse:
    """A new C thread of faulthandler each time. A process has only one, so other code may cancel it."""

    def arm(self, at: float, last: float) -> None:
        if math.isinf(at):
            faulthandler.cancel_dump_traceback_later()
        else:
            faulthandler.dump_traceback_later(max(0.001, at - time.monotonic()), exit=True, file=_STDERR)


def has_overrun(status: int) -> bool:
    """Whether a fuse's signal ended the process with this exit status, as subprocess reports it."""
    return os.name == "posix" and status == -OVERRUN_SIGNAL
