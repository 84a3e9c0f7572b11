"""Forks: replace, in a child process, what it must not share with its parent: above all connections and locks."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol


class _Resettable(Protocol):
    """Holds something that belongs to one process."""

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent, in the child of a fork, without closing or freeing it."""
        ...


#: Weak references: being in this set must not keep an object alive.
_resettable: weakref.WeakSet[_Resettable] = weakref.WeakSet()
#: A child never frees what it has from its parent: closing a connection may need a lock that a thread of the parent
#: held, and that thread does not exist here to release it.
_from_parent: list[object] = []


def reset_in_children(resettable: _Resettable) -> None:
    """Call its reset_after_fork() in every child of a fork, as long as it lives. Costs nothing without a fork."""
    _resettable.add(resettable)


def leave_to_parent(thing: object) -> None:
    """Keep a thing of the parent's alive in this process, a child, without using it."""
    _from_parent.append(thing)


def _reset_all() -> None:
    for resettable in list(_resettable):
        resettable.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_all)


class Lock:
    """A lock that is free in a child, even if a thread of the parent held it during the fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock: a thread that held it does not exist in the child."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock.locked():  # a child that was forked inside the block has a new lock
            self._lock.release()
