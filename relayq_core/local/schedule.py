"""Emulate EventBridge Scheduler: call a function at an interval."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Schedule:
    """Calls `tick` at once and then every `seconds`, in its own thread, until `close()`."""

    def __init__(self, seconds: float, tick: Callable[[], object]) -> None:
        self._seconds = seconds
        self._tick = tick
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; no tick begins after this returns."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._tick()
            self._closed.wait(self._seconds)
