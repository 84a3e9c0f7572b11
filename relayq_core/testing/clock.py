"""Clocks that tests move by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.errors import Seconds, convert_to_seconds


def convert_to_milliseconds(seconds: Seconds = 0, **duration: float) -> int:
    """Return a duration in milliseconds; it is seconds or a timedelta, plus the arguments of a timedelta."""
    whole = timedelta(seconds=convert_to_seconds(seconds)) + timedelta(**duration)
    return round(whole / timedelta(milliseconds=1))


class ManualClock:
    """A clock in epoch milliseconds that moves only when a test advances it, or when code sleeps."""

    def __init__(self, now: int = 1_767_225_600_000) -> None:
        self._now = now

    def now(self) -> int:
        """Return the time, in epoch milliseconds."""
        return self._now

    def sleep(self, ms: int) -> None:
        """Move the time on by `ms` without waiting."""
        self._now += max(0, ms)

    def advance(self, seconds: Seconds = 0, **duration: float) -> int:
        """Move on by seconds, a timedelta, or the arguments of one: `advance(minutes=5)`. Return the new time."""
        self._now += convert_to_milliseconds(seconds, **duration)
        return self._now

    def countdown(self, **duration: float) -> Callable[[], int]:
        """Return a function for the rest of a duration that begins now, in milliseconds, as an invocation has it."""
        end = self._now + convert_to_milliseconds(**duration)
        return lambda: end - self._now


class StandingNow(ManualClock):
    """A clock that begins at the real time, or at the one that a test has frozen, and stands still.

    Moments computed from the real time are therefore due as a test expects.
    """

    def __init__(self) -> None:
        super().__init__(SystemClock().now())

    def reach(self, moment: int) -> None:
        """Move on to a moment that is past in real time, so that it is past here too."""
        if self._now < moment <= SystemClock().now() + 1:  # a moment is rounded to milliseconds, the clock cuts them
            self._now = moment
