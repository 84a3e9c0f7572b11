"""What programs are given: a job, a queue and the system's health as JSON, alike wherever they are asked for."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from relayq_core.model.record import UNIQUE_PREFIX, JobRecord
from relayq_core.operations.health import Health, QueueView
from relayq_core.text import format_iso

#: The times of a job: each in ISO 8601, and as `..._ms` in epoch milliseconds.
_TIMES = ("created_at", "updated_at", "available_at", "started_at", "finished_at", "cancel_requested_at")


def job_shape(job: JobRecord, *, whole: bool = False) -> dict[str, Any]:
    """A job; payload, result, progress and all options only if `whole`."""
    found: dict[str, Any] = {
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "status": job.status.value,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        **times(**{name: getattr(job, name) for name in _TIMES}),
        "error": job.error,
        "errors": [{**error, **times(at=error.get("at"))} for error in job.errors],
    }
    if whole:
        found |= {
            "payload": decoded(job.payload_json),
            "result": decoded(job.result_json),
            "result_problem": job.result_problem,
            "progress": decoded(job.progress_json),
            "backoff": None if job.backoff is None else str(job.backoff),
            "timeout": None if job.timeout_ms is None else job.timeout_ms / 1000,
            "unique": unique_key(job),
            "parent_id": job.parent_id,
            "root_id": job.root_id,
            "trace_id": job.trace_id,
            "depth": job.depth,
        }
    return found


def failed_shape(job: JobRecord) -> dict[str, Any]:
    """A job of the list of failures, which knows neither payload nor options."""
    return {
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "attempt": job.attempt,
        **times(failed_at=job.finished_at),
        "error": headline(job),
    }


def queue_shape(view: QueueView) -> dict[str, Any]:
    """A queue at a glance."""
    return asdict(view)


def health_shape(health: Health) -> dict[str, Any]:
    """The system's health."""
    return {
        "healthy": health.healthy,
        "problems": list(health.problems),
        "last_sweep_age_ms": health.last_sweep_age_ms,
        "sweep_is_late": health.sweep_is_late,
        "oldest_due_age_ms": health.oldest_due_age_ms,
        "queues": [queue_shape(view) for view in health.queues],
    }


def times(**moments: int | None) -> dict[str, Any]:
    """Times for programs: ISO 8601 in UTC, and epoch milliseconds."""
    found: dict[str, Any] = {}
    for name, at in moments.items():
        found[name] = None if at is None else _iso_if_any(at)
        found[f"{name}_ms"] = at
    return found


def _iso_if_any(at: Any) -> str | None:
    """A row edited by hand may hold what is no time."""
    try:
        return format_iso(at)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def decoded(text: str | None) -> Any:
    """JSON of a row, decoded; a row edited by hand may hold what is none, or is nested without end."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text


def share(fraction: Any) -> float:
    """How much is done, from 0 to 1; what a row holds there that is no number counts as nothing."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        return 0.0
    return float(min(1, max(0, fraction)))


def unique_key(job: JobRecord) -> str | None:
    """The key it was dispatched with."""
    return None if job.unique_pk is None else job.unique_pk.removeprefix(f"{UNIQUE_PREFIX}{job.name}#")


def headline(job: JobRecord) -> str:
    """The first line of its error."""
    return (job.error or "").partition("\n")[0]
