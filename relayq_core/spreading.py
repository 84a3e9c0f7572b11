"""Spread: the same for many, one after another or some at a time."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: So many at a time, each on a connection of its own.
THREADS = 8


class Spread(Protocol):
    """How the same is done for many."""

    def __call__(self, action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """What `action` answered for each, in their order; raises the first that it raised."""
        ...


def one_by_one(action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    """In this thread."""
    return [action(item) for item in items]


def in_threads(action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    """Eight at a time, each with the caller's context; nothing is left running."""
    waiting = list(items)
    if len(waiting) < 2:
        return one_by_one(action, waiting)
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - few callers need it, and it takes its time

    with ThreadPoolExecutor(min(THREADS, len(waiting)), thread_name_prefix="relayq") as pool:
        futures = [pool.submit(contextvars.copy_context().run, action, item) for item in waiting]
        try:
            return [future.result() for future in futures]
        except BaseException:  # a handler's deadline, or Ctrl-C: what has not begun is not begun any more
            pool.shutdown(wait=False, cancel_futures=True)
            raise
