"""Lineage: whose handler runs here, in its own thread and in those that it starts or gives work to.

Python hands a context on to tasks of an event loop and to forks, and to no thread. So a thread is stamped, when it is
started, with the job whose handler starts it, and work for a pool with the job whose handler gives it. The stamp stays:
what outlives its handler belongs to no later one.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relayq_core.model.record import JobRecord

#: The job whose handler is running in this thread or task, if any: parent of whatever it dispatches.
current_job: ContextVar[JobRecord | None] = ContextVar("relayq_current_job", default=None)

_STAMP = "_relayq_job"
#: The pools of the standard library, where they are loaded.
_POOLS = (("concurrent.futures.thread", "ThreadPoolExecutor"), ("concurrent.futures.process", "ProcessPoolExecutor"))
_followed: set[str] = set()


def get_job_of_thread() -> JobRecord | None:
    """The job whose handler has started this thread, or gave it what it does now."""
    found: JobRecord | None = getattr(threading.current_thread(), _STAMP, None)
    return found


def follow_threads() -> None:
    """From now on threads and pools know whose handler has started them. Again where a pool was loaded meanwhile."""
    if not _followed:
        _followed.add("threading")
        threading.Thread.start = _add_stamp(threading.Thread.start)  # type: ignore[method-assign]
    for module, name in _POOLS:
        if module in sys.modules and module not in _followed:
            pool = getattr(sys.modules[module], name, None)
            if pool is not None:
                _followed.add(module)
                pool.submit = _add_handover(pool.submit)


def _get_job_here() -> JobRecord | None:
    """What a stamp holds: not the job's data, which may be large and would be kept as long as the thread."""
    record = current_job.get() or get_job_of_thread()
    if record is None:
        return None
    return record.evolve(payload_json="{}", result_json=None, progress_json=None, error=None, errors_json=None)


def _add_stamp(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def stamped(self: threading.Thread, *args: Any, **options: Any) -> Any:
        if (job := _get_job_here()) is not None:
            setattr(self, _STAMP, job)
        return start(self, *args, **options)

    return stamped


def _add_handover(submit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def handed_on(self: Any, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        return submit(self, _Work(_get_job_here(), fn), *args, **options)

    return handed_on


class _Work:
    """Work for a pool: while it is done, its thread or process belongs to the job that gave it, or to none."""

    def __init__(self, job: JobRecord | None, action: Callable[..., Any]) -> None:
        self._job = job
        self._action = action

    def __call__(self, *args: Any, **options: Any) -> Any:
        thread: Any = threading.current_thread()
        # what it has inherited from whoever started it counts no more
        before, token = get_job_of_thread(), current_job.set(None)
        setattr(thread, _STAMP, self._job)
        try:
            return self._action(*args, **options)
        finally:
            setattr(thread, _STAMP, before)
            current_job.reset(token)
