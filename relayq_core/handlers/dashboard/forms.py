"""Read typed text: the payload of a dispatch, and which failed jobs a filter selects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relayq_core.dashboard.fields import list_fields, parse_fields, parse_json_payload
from relayq_core.errors import InvalidOption
from relayq_core.jobs.registry import JobType
from relayq_core.model.options import validate_queue
from relayq_core.operations.jobs import Failures

_HOUR_MS = 3_600_000


def parse_payload(job_type: JobType | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the payload: from one field a property if the job type is known, else from JSON. Raises InvalidOption."""
    if job_type is not None and "payload" not in texts:
        inputs = {key.removeprefix("field."): text for key, text in texts.items() if key.startswith("field.")}
        return parse_fields(list_fields(job_type.build_schema()), inputs)
    return parse_json_payload(texts.get("payload", ""))


def parse_selection(filters: Mapping[str, str], now: int) -> Failures:
    """Return which failed jobs these filters select; `hours` counts back from `now`. Raises InvalidOption."""
    hours = filters.get("hours", "")
    if hours and not (hours.isdecimal() and hours.isascii() and len(hours) <= 5):
        raise InvalidOption("hours", "expected a whole number of hours")
    return Failures(
        queue=validate_queue(filters["queue"]) if filters.get("queue") else None,
        job=filters.get("job") or None,
        error=filters.get("error") or None,
        since=now - int(hours) * _HOUR_MS if hours else None,
    )
