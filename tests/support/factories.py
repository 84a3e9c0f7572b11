"""Test data by intention: a test names what matters to it, and nothing else."""

from __future__ import annotations

from typing import Any

from relayq_core.model import settling, sweeping
from relayq_core.model.backoff import Fixed
from relayq_core.model.bounds import Bounds
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import Failed, Snoozed, Succeeded
from relayq_core.testing import ManualClock

#: When every test begins, epoch milliseconds.
NOW = ManualClock().now()
POLICY = Policy(max_attempts=3, backoff=Fixed(10))
LIMITS = Bounds(max_attempts=3, backoff=Fixed(10), timeout_ms=None, timeout_is_own=False)


def a_job(**changes: Any) -> JobRecord:
    """A job that has just been dispatched and handed off."""
    values: dict[str, Any] = {
        "id": "job-1",
        "name": "send_email",
        "queue": "emails",
        "created_at": NOW,
        "updated_at": NOW,
        "available_at": NOW,
        "due_at": NOW + 30_000,
    }
    return JobRecord(**{**values, **changes})


def a_lease(lease_id: str = "lease-1", *, now: int = NOW, budget_ms: int = 60_000) -> Lease:
    """What a runner asks for that has a minute to work."""
    return Lease(lease_id, now, budget_ms, POLICY.grace_ms)


def completion(
    claimed: JobRecord, result_json: str | None = None, *, problem: str | None = None, now: int = NOW
) -> Settlement:
    """The handler returned."""
    return settling.settle(claimed, Succeeded(result_json, problem), LIMITS, POLICY, now=now, draw=0.5)


def a_deletion(claimed: JobRecord, *, now: int = NOW) -> Settlement:
    """The handler returned, and completed jobs are not kept."""
    return settling.settle(claimed, Succeeded(), LIMITS, POLICY.evolve(retention_ms=0), now=now, draw=0.5)


def a_retry(claimed: JobRecord, error: str = "ValueError: no", *, wait: float = 10, now: int = NOW) -> Settlement:
    """The handler raised, and may try again."""
    return settling.settle(claimed, Failed(error, error, wait), LIMITS, POLICY, now=now, draw=0.5)


def a_snooze(claimed: JobRecord, *, wait: float = 10, now: int = NOW) -> Settlement:
    """The handler asked to be run later."""
    return settling.settle(claimed, Snoozed(wait), LIMITS, POLICY, now=now, draw=0.5)


def a_return(claimed: JobRecord, *, now: int = NOW) -> Settlement:
    """The runner does not know the job's name."""
    settlement = settling.give_back(claimed, POLICY, now=now)
    assert settlement is not None
    return settlement


def a_release(claimed: JobRecord, token: str = "sweep-1", *, now: int = NOW) -> Settlement:
    """The lease ran out, and the sweeper ends it."""
    return sweeping.release(claimed, POLICY, token=token, now=now, draw=0.5)


def a_burial(claimed: JobRecord, error: str = "ValueError: no", *, now: int = NOW) -> Settlement:
    """The handler raised, and no try is left."""
    return settling.settle(claimed, Failed(error, error, final=True), LIMITS, POLICY, now=now, draw=0.5)


def a_cancellation(record: JobRecord, *, now: int = NOW) -> Settlement:
    """A caller asked for the job to end."""
    return settling.cancel(record, POLICY, now=now)


def a_redrive(failed: JobRecord, *, now: int = NOW) -> Settlement:
    """An operator brings a failed job back."""
    return settling.redrive(failed, POLICY, now=now)
