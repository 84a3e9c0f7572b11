"""What programs receive: a job, a queue and the system's health as JSON, the same from every surface."""

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


def serialize_job(job: JobRecord, *, whole: bool = False) -> dict[str, Any]:
    """Return a job as JSON objects; payload, result, progress and all options only if `whole`."""
    shape: dict[str, Any] = {}
    for name in (*_BRIEF, *_REST) if whole else _BRIEF:
        shape |= _serialize_field(job, name)
    return shape


def _serialize_field(job: JobRecord, name: str) -> dict[str, Any]:
    """Return a field under its key: `..._ms` in seconds and `..._json` decoded, each without its suffix."""
    value = getattr(job, name)
    if name == "unique_pk":
        return {"unique": get_unique_key(job)}
    if name == "errors_json":
        return {"errors": [{**error, **serialize_times(at=error.get("at"))} for error in job.errors]}
    if name.endswith("_at"):
        return serialize_times(**{name: value})
    if name.endswith("_json"):
        return {name.removesuffix("_json"): decode_json(value)}
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


def serialize_failed(job: JobRecord) -> dict[str, Any]:
    """Return a job of the list of failures, which has neither payload nor options."""
    return {
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "attempt": job.attempt,
        **serialize_times(failed_at=job.finished_at),
        "error": get_headline(job),
    }


def serialize_queue(view: QueueView) -> dict[str, Any]:
    """Return a queue at a glance."""
    return asdict(view)


def serialize_health(health: Health) -> dict[str, Any]:
    """Return the system's health."""
    return {
        "healthy": health.healthy,
        "problems": list(health.problems),
        "last_sweep_age_ms": health.last_sweep_age_ms,
        "sweep_is_late": health.sweep_is_late,
        "oldest_due_age_ms": health.oldest_due_age_ms,
        "queues": [serialize_queue(view) for view in health.queues],
    }


def serialize_times(**moments: int | None) -> dict[str, Any]:
    """Return times for programs: ISO 8601 in UTC, and epoch milliseconds."""
    times: dict[str, Any] = {}
    for name, at in moments.items():
        times[name] = None if at is None else _format_if_valid(at)
        times[f"{name}_ms"] = at
    return times


def _format_if_valid(at: Any) -> str | None:
    """Return a time in ISO 8601, or None: a row edited by hand may hold another value."""
    try:
        return format_iso(at)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def decode_json(text: str | None) -> Any:
    """Return a row's JSON decoded, or the text itself if it is not JSON, as in a row edited by hand."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text


def clamp_share(fraction: Any) -> float:
    """Return how much is done, from 0 to 1; a value that is not a number counts as 0."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        return 0.0
    return float(min(1, max(0, fraction)))


def get_unique_key(job: JobRecord) -> str | None:
    """Return the key that the job was dispatched with."""
    return None if job.unique_pk is None else job.unique_pk.removeprefix(f"{UNIQUE_PREFIX}{job.name}#")


def get_headline(job: JobRecord) -> str:
    """Return the first line of the job's error."""
    return (job.error or "").partition("\n")[0]
