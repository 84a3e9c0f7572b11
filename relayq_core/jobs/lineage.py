"""Lineage: which job's handler runs here, in its own thread and in the threads and pools that it uses.

Python passes a context on to tasks of an event loop and to forks, but not to threads. So a thread is stamped, when it
is started, with the job whose handler starts it, and work for a pool with the job whose handler submits it. The stamp
stays: a thread that outlives its handler does not belong to a later job.
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

#: The job whose handler is running in this thread or task, if any: the parent of the jobs that it dispatches.
current_job: ContextVar[JobRecord | None] = ContextVar("relayq_current_job", default=None)

_STAMP = "_relayq_job"
#: The pools of the standard library, where they are loaded.
_POOLS = (("concurrent.futures.thread", "ThreadPoolExecutor"), ("concurrent.futures.process", "ProcessPoolExecutor"))
_followed: set[str] = set()


def get_job_of_thread() -> JobRecord | None:
    """Return the job whose handler started this thread, or submitted the work that it does now, or None."""
    job: JobRecord | None = getattr(threading.current_thread(), _STAMP, None)
    return job


def follow_threads() -> None:
    """Make threads and pools remember which handler uses them. Call it again: a pool's module may be loaded by then."""
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
    """Return the job for a stamp, without its data, which may be large and would live as long as the thread."""
    record = current_job.get() or get_job_of_thread()
    if record is None:
        return None
    return record.evolve(payload_json="{}", result_json=None, progress_json=None, error=None, errors_json=None)


def _add_stamp(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def start_stamped(self: threading.Thread, *args: Any, **options: Any) -> Any:
        if (job := _get_job_here()) is not None:
            setattr(self, _STAMP, job)
        return start(self, *args, **options)

    return start_stamped


def _add_handover(submit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def submit_stamped(self: Any, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        return submit(self, _Work(_get_job_here(), fn), *args, **options)

    return submit_stamped


class _Work:
    """Work for a pool: while it runs, its thread or process belongs to the job that submitted it, if any."""

    def __init__(self, job: JobRecord | None, action: Callable[..., Any]) -> None:
        self._job = job
        self._action = action

    def __call__(self, *args: Any, **options: Any) -> Any:
        thread: Any = threading.current_thread()
        # the job of the handler that started the thread no longer counts
        before, token = get_job_of_thread(), current_job.set(None)
        setattr(thread, _STAMP, self._job)
        try:
            return self._action(*args, **options)
        finally:
            setattr(thread, _STAMP, before)
            current_job.reset(token)
