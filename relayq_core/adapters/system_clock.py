"""The system's clock: the only place that reads the time or waits."""

from __future__ import annotations

import time


class SystemClock:
    """Wall-clock time in epoch milliseconds."""

    def now(self) -> int:
        """Return epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def sleep(self, ms: int) -> None:
        """Wait for `ms` milliseconds."""
        time.sleep(ms / 1000)
