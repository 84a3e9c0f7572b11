"""A clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.errors import Seconds, convert_to_seconds


def milliseconds(seconds: Seconds = 0, **duration: float) -> int:
    """A duration as the kit's clocks count it: seconds or a timedelta, and what a timedelta takes."""
    whole = timedelta(seconds=convert_to_seconds(seconds)) + timedelta(**duration)
    return round(whole / timedelta(milliseconds=1))


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

    def advance(self, seconds: Seconds = 0, **duration: float) -> int:
        """Move on by seconds or a timedelta, or by what a timedelta takes: `advance(minutes=5)`. Answers with the time
        it is then."""
        self._now += milliseconds(seconds, **duration)
        return self._now

    def countdown(self, **duration: float) -> Callable[[], int]:
        """What is left of a duration that begins now, in milliseconds: the `remaining` of an invocation."""
        end = self._now + milliseconds(**duration)
        return lambda: end - self._now


class StandingNow(ManualClock):
    """A clock that begins at the real present, or at the one that a test has frozen, and stands there.

    Moments that are made of the real time mean what they say.
    """

    def __init__(self) -> None:
        super().__init__(SystemClock().now())

    def reach(self, moment: int) -> None:
        """Move on to a moment of the real time that is past by now: it has come here too."""
        if self._now < moment <= SystemClock().now() + 1:  # milliseconds are rounded there, and cut here
            self._now = moment
