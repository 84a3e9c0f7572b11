"""Watchdog: end what runs past its time; if C code holds Python's lock, end the process.

One thread makes the calls; a thread for each job would cost a tenth of the job. It needs Python's lock. A fuse that
does not need it backs it up, set to a little later.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from relayq_core.process.fuse import Fuse, make_fuse
from relayq_core.process.loggers import logger


class _Watched(NamedTuple):
    #: by the monotonic clock: when to call `end`; when the fuse ends the process with tracebacks; when without
    ends_at: float
    tracebacks_at: float
    killed_at: float
    end: Callable[[], None]


class Watchdog:
    """Watches any number of things, from any thread. Its own thread starts with the first of them and stays.

    The thread may stay in a frozen Lambda: however late it wakes, it ends only what is still watched and past its own
    time. So it never ends a later invocation's handler. The fuse is disarmed whenever nothing is watched.
    """

    _changed: threading.Condition
    _watched: dict[object, _Watched]
    _thread: threading.Thread | None
    _fuse: Fuse | None
    #: when the thread wakes next, by the monotonic clock
    _wakes_at: float
    #: when the fuse ends the process
    _fuse_at: float

    def __init__(self, make_fuse: Callable[[], Fuse] = make_fuse) -> None:
        self._make_fuse = make_fuse
        self._reset()
        # a child process has no watchdog thread and no fuse, and may have copied the lock while that thread held it
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def watch(self, seconds: float, end: Callable[[], None], *, spare: float = math.inf) -> object:
        """Call `end` after `seconds`, unless the object that this returns is passed to `release` before.

        If `end` does not end the process within `spare` more seconds, the kernel does; inf: it never does.
        """
        watched, ends_at = object(), time.monotonic() + seconds
        with self._changed:
            self._watched[watched] = _Watched(ends_at, ends_at + spare / 2, ends_at + spare, end)
            self._arm()
            if self._thread is None:
                self._thread = threading.Thread(target=watch, args=(self,), name="relayq-watchdog", daemon=True)
                self._thread.start()
            elif ends_at < self._wakes_at:
                self._changed.notify()
        return watched

    def release(self, watched: object) -> None:
        """Stop watching. The thread is not woken for that: it will find nothing to end."""
        with self._changed:
            self._watched.pop(watched, None)
            self._arm()

    def keep_watch(self) -> None:
        """End what is past its time, without end. The thread runs this."""
        with self._changed:
            while True:
                self._end_overdue()
                self._wakes_at = min((one.ends_at for one in self._watched.values()), default=math.inf)
                left = self._wakes_at - time.monotonic()
                self._changed.wait(None if math.isinf(left) else min(max(0.0, left), threading.TIMEOUT_MAX))

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._watched = {}
        self._thread = None
        self._fuse = None
        self._wakes_at = self._fuse_at = math.inf

    def _arm(self) -> None:
        """Set the fuse for what is watched and ends first."""
        first = min(self._watched.values(), key=lambda one: one.killed_at) if self._watched else None
        fuse_at = math.inf if first is None else first.killed_at
        if fuse_at == self._fuse_at:
            return
        if self._fuse is None:
            self._fuse = self._make_fuse()
        self._fuse_at = fuse_at
        self._fuse.arm(math.inf if first is None else first.tracebacks_at, fuse_at)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for watched, one in list(self._watched.items()):
            if one.ends_at <= now:
                del self._watched[watched]  # the fuse stays set: `end` may hang
                try:
                    one.end()
                except BaseException:
                    logger.exception("the watchdog could not end what was past its time")
                finally:
                    self._arm()


def watch(dog: Watchdog) -> None:
    """Keep watch in this thread, without end."""
    dog.keep_watch()


# faulthandler prints only tracebacks, so the reason is put into one: as the file name of this thread's frame.
watch.__code__ = watch.__code__.replace(
    co_filename="relayq: the handler overran its time and did not stop; its process ends now"
)
