"""EventBridge Scheduler, played: does something again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Schedule:
    """Calls `tick` now and then every `seconds`, in a thread of its own, until `close()`."""

    def __init__(self, seconds: float, tick: Callable[[], object]) -> None:
        self._seconds = seconds
        self._tick = tick
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No tick begins after this."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._tick()
            self._closed.wait(self._seconds)
