"""Test data by intention: a test names what matters to it, and nothing else."""

from typing import Any

from relayq_core.backoff import Backoff, Fixed
from relayq_core.lifecycle import Limits, Policy
from relayq_core.record import JobRecord, Status

NOW = 1_767_225_600_000
MINUTE = 60_000


def a_record(**changes: Any) -> JobRecord:
    """A job that has just been dispatched."""
    values: dict[str, Any] = {
        "id": "01KAM3ZJ5Y8W4T9Q2N6R7B1C0D",
        "name": "send_email",
        "queue": "emails",
        "created_at": NOW,
        "updated_at": NOW,
        "available_at": NOW,
        "due_at": NOW + 30_000,
    }
    return JobRecord(**{**values, **changes})


def a_claimed_record(**changes: Any) -> JobRecord:
    """A job whose first attempt is running, under the lease "mine"."""
    values: dict[str, Any] = {
        "status": Status.PROCESSING,
        "attempt": 1,
        "lease_id": "mine",
        "lease_until": NOW + 100_000,
        "started_at": NOW,
    }
    return a_record(**{**values, **changes})


def a_policy(**changes: Any) -> Policy:
    """The settings' defaults, with a backoff that is easy to reckon with."""
    return Policy(**{"max_attempts": 3, "backoff": Fixed(10), **changes})


def some_limits(
    *,
    max_attempts: int = 3,
    backoff: Backoff | None = None,
    timeout_ms: int | None = None,
    timeout_is_own: bool = False,
) -> Limits:
    """What holds for a job of which nothing special was said."""
    return Limits(
        max_attempts=max_attempts,
        backoff=backoff or Fixed(10),
        timeout_ms=timeout_ms,
        timeout_is_own=timeout_is_own,
    )
