"""What has happened over time: how much, and how fast; from wherever it was counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from relayq_core.ports import Bin, Clock

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
#: More runs of one minute say nothing more of how long they take.
_SAMPLES = 500


@dataclass(frozen=True, slots=True)
class Window:
    """So far back, in steps of so long: milliseconds."""

    label: str
    length_ms: int
    step_ms: int

    def begins(self, now: int) -> int:
        """When its first step begins; its last one holds `now`."""
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
    """Counts kept in this process, a day of minutes at most: for a stack that is no older than its process."""

    def __init__(self, clock: Clock, *, kept_ms: int = 24 * HOUR_MS) -> None:
        self._clock = clock
        self._kept_ms = kept_ms
        self._minutes: dict[int, _Minute] = {}
        self._lock = threading.Lock()

    def count(self, at: int, what: str, how_many: int = 1) -> None:
        """Count what happened then: `completed`, `retried` or `failed`."""
        with self._lock:
            self._minute(at).counts[what] += how_many

    def lasted(self, at: int, duration_ms: float) -> None:
        """Remember how long a run took that ended then."""
        with self._lock:
            durations = self._minute(at).durations
            if len(durations) < _SAMPLES:
                durations.append(duration_ms)

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """See the port."""
        with self._lock:
            return [self._bin(since + n * step_ms, step_ms) for n in range(count)]

    def _bin(self, begins: int, step_ms: int) -> Bin:
        found = [self._minutes[at] for at in range(begins, begins + step_ms, MINUTE_MS) if at in self._minutes]
        counts: Counter[str] = sum((minute.counts for minute in found), Counter())
        durations = sorted(duration for minute in found for duration in minute.durations)
        return Bin(
            at=begins,
            completed=counts["completed"],
            retried=counts["retried"],
            failed=counts["failed"],
            p50_ms=_percentile(durations, 0.50),
            p95_ms=_percentile(durations, 0.95),
        )

    def _minute(self, at: int) -> _Minute:
        begins = at - at % MINUTE_MS
        if begins not in self._minutes:
            oldest = self._clock.now() - self._kept_ms
            self._minutes = {key: minute for key, minute in self._minutes.items() if key >= oldest}
        return self._minutes.setdefault(begins, _Minute())


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest that so large a share does not exceed."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
