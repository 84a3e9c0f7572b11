"""Watchdog: one thread that ends what has outstayed its time. A thread for each job would cost a tenth of the job."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

from relayq_core.loggers import logger


class Watchdog:
    """Any number of things may be watched, from any thread. The thread begins with the first of them and stays.

    It may stay in a frozen Lambda: whenever it wakes, late as it may be, it acts only on what is watched then and is
    over its own time. So it never meets a later invocation's handler.
    """

    _changed: threading.Condition
    _watched: dict[object, tuple[float, Callable[[], None]]]
    _thread: threading.Thread | None
    #: when the thread looks next, by the monotonic clock
    _looks_at: float

    def __init__(self) -> None:
        self._begin_anew()
        # a child process has no watchdog thread, and may have got the lock as that thread held it
        if hasattr(os, "register_at_fork"):  # Windows knows no fork
            os.register_at_fork(after_in_child=self._begin_anew)

    def watch(self, seconds: float, end: Callable[[], None]) -> object:
        """Call `end` in so many seconds, unless what this answers with is given to `let_be` before."""
        watched, ends_at = object(), time.monotonic() + seconds
        with self._changed:
            self._watched[watched] = (ends_at, end)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_watch, name="relayq-watchdog", daemon=True)
                self._thread.start()
            elif ends_at < self._looks_at:
                self._changed.notify()
        return watched

    def let_be(self, watched: object) -> None:
        """It is over. The thread is not woken for that: it finds nothing when its time comes."""
        with self._changed:
            self._watched.pop(watched, None)

    def _begin_anew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._watched = {}
        self._thread = None
        self._looks_at = math.inf

    def _keep_watch(self) -> None:
        with self._changed:
            while True:
                self._end_what_is_over()
                self._looks_at = min((ends_at for ends_at, _ in self._watched.values()), default=math.inf)
                left = self._looks_at - time.monotonic()
                self._changed.wait(None if math.isinf(left) else min(max(0.0, left), threading.TIMEOUT_MAX))

    def _end_what_is_over(self) -> None:
        now = time.monotonic()
        for watched, (ends_at, end) in list(self._watched.items()):
            if ends_at <= now:
                del self._watched[watched]
                try:
                    end()
                except BaseException:
                    logger.exception("the watchdog could not end what was over its time")
