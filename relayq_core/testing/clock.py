"""A clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta


class ManualClock:
    """A clock that moves only when it is told to, or when somebody sleeps. Epoch milliseconds."""

    def __init__(self, now: int = 1_767_225_600_000) -> None:
        self._now = now

    def now(self) -> int:
        """Epoch milliseconds."""
        return self._now

    def sleep(self, ms: int) -> None:
        """Sleep without waiting: the time is later at once."""
        self._now += max(0, ms)

    def advance(self, **duration: float) -> int:
        """Move on by what a timedelta takes: `advance(minutes=5)`. Answers with the time it is then."""
        self._now += round(timedelta(**duration) / timedelta(milliseconds=1))
        return self._now

    def countdown(self, **duration: float) -> Callable[[], int]:
        """What is left of a duration that begins now, in milliseconds: the `remaining` of an invocation."""
        end = self._now + round(timedelta(**duration) / timedelta(milliseconds=1))
        return lambda: end - self._now
