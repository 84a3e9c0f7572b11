"""Read the Lambda events that invoke the functions, and refuse a malformed one with a clear message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from relayq_core.errors import InvalidOption
from relayq_core.model.options import validate_job_id, validate_name, validate_queue

#: The latest `run_at` that is accepted, epoch milliseconds (the year 2286).
_LAST_MOMENT = 9_999_999_999_999


class LambdaContext(Protocol):
    """What the handlers use of Lambda's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""
        ...


@dataclass(frozen=True, slots=True)
class RunnerEvent:
    """`{"job_id": "...", "run_at": epoch milliseconds, "queue": "...", "name": "..."}`; only job_id is required.

    Queue and name are hints: an invalid one is ignored, so that the event of another version is not refused.
    """

    job_id: str
    run_at: int | None = None
    queue: str | None = None
    name: str | None = None


def parse_runner_event(event: object) -> RunnerEvent:
    """Return the event of a handoff. Raises InvalidOption."""
    if not isinstance(event, Mapping):
        raise InvalidOption("event", f'expected {{"job_id": "...", "run_at": ms}}, got {type(event).__name__}')
    run_at: Any = event.get("run_at")
    if run_at is not None and (
        isinstance(run_at, bool) or not isinstance(run_at, int) or not 0 <= run_at <= _LAST_MOMENT
    ):
        raise InvalidOption("run_at", "expected epoch milliseconds as a whole number")
    return RunnerEvent(
        validate_job_id(event.get("job_id")),
        run_at,
        _parse_hint(validate_queue, event.get("queue")),
        _parse_hint(validate_name, event.get("name")),
    )


def _parse_hint(check: Callable[[Any], str], hint: object) -> str | None:
    try:
        return check(hint)
    except InvalidOption:
        return None
