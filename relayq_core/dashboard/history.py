"""Windows of time, and counts and durations of runs kept in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from relayq_core.ports import Bin, Clock

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
#: Durations kept of one minute: more would not change the percentiles noticeably.
_SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time up to now, in equal steps; milliseconds."""

    label: str
    length_ms: int
    step_ms: int

    def find_start(self, now: int) -> int:
        """Return when the first step begins, so that the last step contains `now`; epoch milliseconds."""
        return now - now % self.step_ms + self.step_ms - self.length_ms


WINDOWS = {
    "1h": Window("hour", HOUR_MS, MINUTE_MS),
    "24h": Window("24 hours", 24 * HOUR_MS, 30 * MINUTE_MS),
    "7d": Window("7 days", 168 * HOUR_MS, 3 * HOUR_MS),
}


@dataclass(slots=True)
class _Minute:
    counts: Counter[str] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)


class MemoryHistory:
    """Counts and durations by the minute, kept in this process for a day at most."""

    def __init__(self, clock: Clock, *, kept_ms: int = 24 * HOUR_MS) -> None:
        self._clock = clock
        self._kept_ms = kept_ms
        self._minutes: dict[int, _Minute] = {}
        self._lock = threading.Lock()

    def count(self, at: int, outcome: str, runs: int = 1) -> None:
        """Count runs that ended then: `completed`, `retried` or `failed`."""
        with self._lock:
            self._get_minute(at).counts[outcome] += runs

    def record_duration(self, at: int, duration_ms: float) -> None:
        """Record how long a run took that ended then."""
        with self._lock:
            durations = self._get_minute(at).durations
            if len(durations) < _SAMPLES:
                durations.append(duration_ms)

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """Return `count` bins from `since` on, as the port History asks."""
        with self._lock:
            return [self._build_bin(since + n * step_ms, step_ms) for n in range(count)]

    def _build_bin(self, start: int, step_ms: int) -> Bin:
        minutes = [self._minutes[at] for at in range(start, start + step_ms, MINUTE_MS) if at in self._minutes]
        counts: Counter[str] = sum((minute.counts for minute in minutes), Counter())
        durations = sorted(duration for minute in minutes for duration in minute.durations)
        return Bin(
            at=start,
            completed=counts["completed"],
            retried=counts["retried"],
            failed=counts["failed"],
            p50_ms=_find_percentile(durations, 0.50),
            p95_ms=_find_percentile(durations, 0.95),
        )

    def _get_minute(self, at: int) -> _Minute:
        start = at - at % MINUTE_MS
        if start not in self._minutes:
            oldest = self._clock.now() - self._kept_ms
            self._minutes = {key: minute for key, minute in self._minutes.items() if key >= oldest}
        return self._minutes.setdefault(start, _Minute())


def _find_percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that this share of the values does not exceed (nearest rank), or None for none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
