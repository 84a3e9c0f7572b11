"""Spreading: the same for many, one after another or some at a time."""

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

#: So many at a time, each on a connection of its own.
THREADS = 8


class Spread(Protocol):
    """Does the same for many."""

    def __call__(self, action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        """What `action` answered for each, in their order; raises what it raised."""
        ...


#: What is needed for it is there as long as the block lasts.
Spreading: TypeAlias = Callable[[], AbstractContextManager[Spread]]


@contextmanager
def spread_serially() -> Iterator[Spread]:
    """In this thread."""
    yield _do_each


@contextmanager
def spread_in_threads() -> Iterator[Spread]:
    """Eight at a time, each thread with the caller's context; nothing is left running.

    The threads begin when there is work for two of them and stay as long as the block does: to begin eight anew for
    every fifty rows takes the sweeper a quarter of its time.
    """
    crew = _Crew()
    try:
        yield crew.work
    finally:
        crew.leave()


def _do_each(action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
    return [action(item) for item in items]


class _Crew:
    """Threads that begin when they are first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def work(self, action: Callable[[T], R], items: Iterable[T], /) -> list[R]:
        waiting = deque(enumerate(items))
        count = len(waiting)
        if count < 2:
            return _do_each(action, (item for _, item in waiting))
        answers: dict[int, R] = {}
        pool = self._pool or self._begun()
        taking = [
            pool.submit(contextvars.copy_context().run, _take, waiting, action, answers)
            for _ in range(min(THREADS, count))
        ]
        try:
            for taker in taking:
                taker.result()
        except BaseException:  # a handler's deadline, or Ctrl-C: what has not begun is not begun any more
            waiting.clear()
            self.leave()
            raise
        return [answers[place] for place in range(count)]

    def _begun(self) -> ThreadPoolExecutor:
        reset_in_children(self)
        self._pool = _make_pool()
        return self._pool

    def reset_after_fork(self) -> None:
        """A child of a fork has none of these threads."""
        leave_to_parent(self._pool)
        self._pool = None

    def leave(self) -> None:
        """Wait for what has begun, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _take(waiting: deque[tuple[int, T]], action: Callable[[T], R], answers: dict[int, R]) -> None:
    """Take what waits, one after another; once something goes wrong nobody takes any more."""
    while waiting:
        try:
            place, item = waiting.popleft()
        except IndexError:
            return  # another was faster
        try:
            answers[place] = action(item)
        except BaseException:
            waiting.clear()
            raise


def _make_pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - few callers need it, and it takes its time

    return ThreadPoolExecutor(THREADS, thread_name_prefix="relayq")
