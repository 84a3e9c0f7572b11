"""What programs are given: a job, a queue and the system's health as JSON, alike wherever they are asked for."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import asdict
from typing import Any

from relayq_core.model.record import INTERNAL, UNIQUE_PREFIX, JobRecord
from relayq_core.operations.health import Health, QueueView
from relayq_core.text import format_iso

#: What a list of jobs shows of each, before the rest; a time both in ISO 8601, and as `..._ms` in epoch milliseconds.
_BRIEF = (
    "id",
    "name",
    "queue",
    "status",
    "attempt",
    "max_attempts",
    "created_at",
    "updated_at",
    "available_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "error",
    "errors_json",
)
_REST = tuple(name for name in JobRecord.get_fields() if name not in INTERNAL and name not in _BRIEF)


def job_shape(job: JobRecord, *, whole: bool = False) -> dict[str, Any]:
    """Return a job as JSON objects; payload, result, progress and all options only if `whole`."""
    shape: dict[str, Any] = {}
    for name in (*_BRIEF, *_REST) if whole else _BRIEF:
        shape |= _serialize_field(job, name)
    return shape


def _serialize_field(job: JobRecord, name: str) -> dict[str, Any]:
    """Return a field under its key: `..._ms` in seconds and `..._json` decoded, each without its suffix."""
    value = getattr(job, name)
    if name == "unique_pk":
        return {"unique": unique_key(job)}
    if name == "errors_json":
        return {"errors": [{**error, **times(at=error.get("at"))} for error in job.errors]}
    if name.endswith("_at"):
        return times(**{name: value})
    if name.endswith("_json"):
        return {name.removesuffix("_json"): decoded(value)}
    if name.endswith("_ms"):
        return {name.removesuffix("_ms"): None if value is None else value / 1000}
    return {name: value if value is None or type(value) in _PLAIN else str(value)}


_PLAIN = frozenset({str, int, float, bool})


def list_other_facts(job: JobRecord, shown: Container[str]) -> list[tuple[str, Any]]:
    """Return the label and value of each field that is set, that is not internal, and is not among those `shown`."""
    facts: dict[str, Any] = {}
    for name in JobRecord.get_fields():
        if name not in INTERNAL and name not in shown:
            facts |= _serialize_field(job, name)
    # a time is there twice: in ISO 8601, and in milliseconds
    return [
        (key.replace("_", " ").capitalize(), value)
        for key, value in facts.items()
        if value not in (None, "") and not key.endswith("_ms")
    ]


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
