"""Leases: how long a runner holds a job, when its handler is stopped, and who may claim."""

from __future__ import annotations

from typing import NamedTuple

from relayq_core.model.bounds import SETTLE_BUDGET_MS, Bounds
from relayq_core.model.lifecycle import Transition, resolve_status
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord

#: With less than this left a runner does not claim.
LEAST_TIME_MS = 15_000

#: Clocks of different machines differ by less than this; safety never rests on it, only the lease does.
SKEW_MS = 2_000

#: A handler that ignores JobTimeout for this long is ended with its process.
STUBBORN_MS = 5_000

#: A lease that is renewed while its job runs is taken for this long: the death of its holder is noticed as soon.
RENEWED_MS = 60_000

#: `failed()` and the settle come after the handler's deadline; this much of the invocation stays for the settle.
SETTLE_MS = 3_000

#: `failed()` is called for this long at least.
_LEAST_HOOK_MS = 100

#: Later than any moment.
_NEVER = 1 << 53


class Lease(NamedTuple):
    """What a runner asks for: its own id, and how long it may hold the job.

    It ends at `now + grace_ms + the row's timeout_ms`, or `+ budget_ms` where the row has no timeout. One that is
    `renewed` while the job runs is always as short as its budget, and the sweeper looks when it would end. With a
    `name` the budget is that of one type: a job of another name is refused, and its row has the right name.
    """

    id: str
    now: int
    budget_ms: int
    grace_ms: int
    renewed: bool = False
    name: str | None = None

    def until(self, timeout_ms: int | None) -> int:
        """Return when it runs out, for a row with this timeout."""
        run_ms = self.budget_ms if timeout_ms is None or self.renewed else timeout_ms
        return self.now + self.grace_ms + run_ms

    @property
    def sweep_at(self) -> int | None:
        """What due_at becomes with the claim; None leaves it, so that the claim costs no write to the index."""
        return self.until(None) + SKEW_MS if self.renewed else None


def request_lease(
    lease_id: str,
    policy: Policy,
    *,
    now: int,
    remaining_ms: int,
    longest_ms: int | None = None,
    name: str | None = None,
) -> Lease:
    """Return the lease that a runner with this much time left asks for.

    `longest_ms` is the longest timeout of all jobs it knows, if all have one: no handler it may start needs more,
    whatever the job's name turns out to be, and a crash is noticed sooner. With a `name` it is the timeout of that
    type alone.
    """
    budget = max(0, remaining_ms - SETTLE_BUDGET_MS)
    if longest_ms is None or longest_ms >= budget:
        return Lease(lease_id, now, budget, policy.grace_ms)  # long enough for any name
    return Lease(lease_id, now, longest_ms, policy.grace_ms, name=name)


def request_renewed_lease(lease_id: str, policy: Policy, *, now: int) -> Lease:
    """Return the lease that a worker asks for, which renews it as long as the job runs."""
    return Lease(lease_id, now, RENEWED_MS, policy.grace_ms, renewed=True)


def extend_lease(policy: Policy, *, now: int) -> int:
    """Return when a lease ends that is renewed now."""
    return now + RENEWED_MS + policy.grace_ms


def measure_lease(record: JobRecord, policy: Policy, *, now: int) -> int:
    """Return how many milliseconds of the lease its holder may count on; one that is renewed starts over."""
    return RENEWED_MS if policy.renews else (record.lease_until or 0) - now


def claim(record: JobRecord, lease: Lease) -> JobRecord:
    """Return the job once claimed. The store's conditional write says the same in one expression."""
    return record.evolve(
        status=resolve_status(record, Transition.CLAIM),
        attempt=record.attempt + (0 if record.exhausted else 1),
        lease_id=lease.id,
        lease_until=lease.until(record.timeout_ms),
        nudges=0,
        due_at=record.due_at if lease.sweep_at is None else lease.sweep_at,
        started_at=lease.now,
        updated_at=lease.now,
    )


def is_claimable(record: JobRecord, *, now: int, name: str | None = None) -> bool:
    """Whether a runner may claim it now, if it has that name. The store's condition says the same."""
    is_time = record.available_at <= now or record.is_immediate
    return record.status.is_waiting and is_time and name in {None, record.name}


def compute_patience(policy: Policy) -> int:
    """Return how many milliseconds a handler may ignore JobTimeout before its process is ended: within the grace."""
    return min(STUBBORN_MS, policy.grace_ms // 2)


def compute_hook_seconds(record: JobRecord, policy: Policy, *, now: int, remaining_ms: int) -> float:
    """Return how long `failed()` may take, in seconds.

    It ends a fifth of the grace before its lease, or SETTLE_MS before its invocation, so that the burial is written
    in time. Where nothing is left it may at least begin.
    """
    lasts = measure_lease(record, policy, now=now) - policy.grace_ms // 5
    return max(_LEAST_HOOK_MS, min(lasts, remaining_ms - SETTLE_MS)) / 1000


def compute_handler_deadline(record: JobRecord, bounds: Bounds, policy: Policy, *, now: int, remaining_ms: int) -> int:
    """Return when to stop the handler: after its timeout, or after what the invocation leaves beside the settle budget.

    A claim whose answer came late has used up part of its lease. Then the lease decides: no handler may outlive it,
    not even one that ignores its timeout.
    """
    budget = max(0, remaining_ms - SETTLE_BUDGET_MS)
    run_ms = budget if bounds.timeout_ms is None else min(bounds.timeout_ms, budget)
    return min(now + run_ms, compute_latest_deadline(record, policy))


def compute_latest_deadline(record: JobRecord, policy: Policy) -> int:
    """Return the last moment to stop a handler of this lease: one that ignores that must be ended before the lease is.

    Where leases are renewed, the worker that renews them ends the handler in time.
    """
    if policy.renews:
        return _NEVER
    margin = compute_patience(policy) + min(SKEW_MS, policy.grace_ms // 5)
    return (record.lease_until or 0) - margin
