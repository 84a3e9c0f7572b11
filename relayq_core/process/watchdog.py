"""Watchdog: end what has outstayed its time, and where C code holds Python's lock, the process with it.

One thread calls what is to be called; a thread for each job would cost a tenth of the job. It needs the lock. So behind
it stands a fuse that needs none, and burns a little later.
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
    #: by the monotonic clock: when to call `end`; when the fuse ends the process with a word, and without
    ends_at: float
    word_at: float
    gone_at: float
    end: Callable[[], None]


class Watchdog:
    """Any number of things may be watched, from any thread. The thread begins with the first of them and stays.

    It may stay in a frozen Lambda: whenever it wakes, late as it may be, it acts only on what is watched then and is
    over its own time. So it never meets a later invocation's handler. The fuse is out whenever nothing is watched.
    """

    _changed: threading.Condition
    _watched: dict[object, _Watched]
    _thread: threading.Thread | None
    _fuse: Fuse | None
    #: when the thread looks next, by the monotonic clock
    _looks_at: float
    #: when the fuse burns
    _burns_at: float

    def __init__(self, make_fuse: Callable[[], Fuse] = make_fuse) -> None:
        self._make_fuse = make_fuse
        self._reset()
        # a child process has no watchdog thread and no fuse, and may have got the lock as that thread held it
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def watch(self, seconds: float, end: Callable[[], None], *, spare: float = math.inf) -> object:
        """Call `end` after `seconds`, unless what this returns is given to `release` before.

        Where `end` did not end the process within `spare` seconds more, the kernel does; inf: it never does.
        """
        watched, ends_at = object(), time.monotonic() + seconds
        with self._changed:
            self._watched[watched] = _Watched(ends_at, ends_at + spare / 2, ends_at + spare, end)
            self._arm()
            if self._thread is None:
                self._thread = threading.Thread(target=watch, args=(self,), name="relayq-watchdog", daemon=True)
                self._thread.start()
            elif ends_at < self._looks_at:
                self._changed.notify()
        return watched

    def release(self, watched: object) -> None:
        """It is over. The thread is not woken for that: it finds nothing when its time comes."""
        with self._changed:
            self._watched.pop(watched, None)
            self._arm()

    def keep_watch(self) -> None:
        """What the thread does."""
        with self._changed:
            while True:
                self._end_what_is_over()
                self._looks_at = min((one.ends_at for one in self._watched.values()), default=math.inf)
                left = self._looks_at - time.monotonic()
                self._changed.wait(None if math.isinf(left) else min(max(0.0, left), threading.TIMEOUT_MAX))

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._watched = {}
        self._thread = None
        self._fuse = None
        self._looks_at = self._burns_at = math.inf

    def _arm(self) -> None:
        """Let the fuse burn for what is over first."""
        first = min(self._watched.values(), key=lambda one: one.gone_at) if self._watched else None
        burns_at = math.inf if first is None else first.gone_at
        if burns_at == self._burns_at:
            return
        if self._fuse is None:
            self._fuse = self._make_fuse()
        self._burns_at = burns_at
        self._fuse.arm(math.inf if first is None else first.word_at, burns_at)

    def _end_what_is_over(self) -> None:
        now = time.monotonic()
        for watched, one in list(self._watched.items()):
            if one.ends_at <= now:
                del self._watched[watched]  # the fuse burns on: `end` may not come to its end
                try:
                    one.end()
                except BaseException:
                    logger.exception("the watchdog could not end what was over its time")
                finally:
                    self._arm()


def watch(dog: Watchdog) -> None:
    """Keep watch in this thread, for ever."""
    dog.keep_watch()


# The fuse's word is faulthandler's, which knows no words but the names in a traceback: so this thread's says why.
watch.__code__ = watch.__code__.replace(
    co_filename="relayq: the handler overran its time and did not stop; its process ends now"
)
