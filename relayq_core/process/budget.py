"""Budget: how much time the calls that are made here have, as their caller says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: By the monotonic clock.
_ends_at: ContextVar[float] = ContextVar("relayq_calls_end_at", default=math.inf)


@contextmanager
def calls_within(seconds: float) -> Iterator[None]:
    """Let calls that are made inside begin, and be tried again, only while these seconds last.

    Of nested budgets the least holds. A request that is on its way is not cut off: leave it the time of one.
    """
    token = _ends_at.set(min(_ends_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _ends_at.reset(token)


def seconds_left() -> float:
    """Return what is left of the budget, in seconds; infinity where there is none, and never below 0."""
    return max(0.0, _ends_at.get() - time.monotonic())
