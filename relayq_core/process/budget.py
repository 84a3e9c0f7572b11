"""Budget: how much time a caller gives to the calls made within it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: When the budget ends, by the monotonic clock.
_ends_at: ContextVar[float] = ContextVar("relayq_calls_end_at", default=math.inf)


@contextmanager
def calls_within(seconds: float) -> Iterator[None]:
    """Let calls inside begin, and be retried, only while these seconds last.

    The shortest of nested budgets applies. A request in progress is not cut off: leave enough time for one.
    """
    token = _ends_at.set(min(_ends_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _ends_at.reset(token)


def seconds_left() -> float:
    """Return the seconds that are left of the budget, never below 0; infinity without a budget."""
    return max(0.0, _ends_at.get() - time.monotonic())
