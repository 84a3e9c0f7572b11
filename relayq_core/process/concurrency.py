"""Run one action over many items, serially or in threads."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from relayq_core.process.forks import leave_to_parent, reset_in_children

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

#: How many items are worked on at a time, each over its own connection.
THREADS = 8


class Spread(Protocol):
    """Runs an action over many items."""

    def __call__(self, action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """Return what `action` returned for each item, in order. Raises what the action raises."""
        ...


#: Opens a Spread; its threads, if it needs any, live as long as the block.
Spreading: TypeAlias = Callable[[], AbstractContextManager[Spread]]


@contextmanager
def spread_serially() -> Iterator[Spread]:
    """Run each action in this thread, one after another."""
    yield _run_each


@contextmanager
def spread_in_threads() -> Iterator[Spread]:
    """Run actions in eight threads, each with the caller's context; nothing is left running.

    The threads start when there is work for two of them and stay until the block ends: starting eight threads again for
    every fifty rows would take a quarter of the sweeper's time.
    """
    pool = _ThreadedMap()
    try:
        yield pool.run
    finally:
        pool.close()


def _run_each(action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    return [action(item) for item in items]


class _ThreadedMap:
    """Runs an action over items in threads, which start when they are first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def run(self, action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        waiting = deque(enumerate(items))
        count = len(waiting)
        if count < 2:
            return _run_each(action, (item for _, item in waiting))
        results: dict[int, R] = {}
        pool = self._pool or self._start()
        takers = [
            pool.submit(contextvars.copy_context().run, _take, waiting, action, results)
            for _ in range(min(THREADS, count))
        ]
        try:
            for taker in takers:
                taker.result()
        except BaseException:  # a handler's deadline, or Ctrl-C: begin no other item
            waiting.clear()
            self.close()
            raise
        return [results[place] for place in range(count)]

    def _start(self) -> ThreadPoolExecutor:
        reset_in_children(self)
        self._pool = _make_pool()
        return self._pool

    def reset_after_fork(self) -> None:
        """Forget the threads: they do not exist in the child of a fork."""
        leave_to_parent(self._pool)
        self._pool = None

    def close(self) -> None:
        """Wait for the items that have begun, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _take(waiting: deque[tuple[int, T]], action: Callable[[T], R], results: dict[int, R]) -> None:
    """Take waiting items one after another. After an error no thread takes another item."""
    while waiting:
        try:
            place, item = waiting.popleft()
        except IndexError:
            return  # another thread took the last one
        try:
            results[place] = action(item)
        except BaseException:
            waiting.clear()
            raise


def _make_pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - few callers need it, and the import is slow

    return ThreadPoolExecutor(THREADS, thread_name_prefix="relayq")
