"""Forks: what a child process must not share with its parent, connections and locks above all, is made anew in it."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol


class _Renewed(Protocol):
    """Has something that belongs to one process."""

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent, in the child of a fork. Nothing of it is closed, nor freed."""
        ...


#: Held weakly: who is here may be forgotten as anything else.
_renewed: weakref.WeakSet[_Renewed] = weakref.WeakSet()
#: What children have of their parents is never freed: to close a connection may need a lock that a thread of the
#: parent held, which is not here to give it back.
_of_parents: list[object] = []


def reset_in_children(one: _Renewed) -> None:
    """Let it begin anew in every child of a fork, as long as it lives. Costs nothing but in a fork."""
    _renewed.add(one)


def leave_to_parent(thing: object) -> None:
    """Keep what this process, a child, has of its parent and does not use."""
    _of_parents.append(thing)


def _reset_all() -> None:
    for one in list(_renewed):
        one.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows knows no fork
    os.register_at_fork(after_in_child=_reset_all)


class Lock:
    """A lock that is free in a child, whichever thread of the parent held it as it forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """See `anew_in_children`."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock.locked():  # it is not where the fork was made inside
            self._lock.release()
