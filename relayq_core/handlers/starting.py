"""A function's start, without looking for garbage: it makes much that stays, and nothing that goes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starting() -> Iterator[None]:
    """Collect no garbage in the block: that takes a tenth of a start. What is there at its end is never looked at
    again, which makes later collections shorter too."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
    gc.freeze()
