"""Leases: how long a runner holds a job, when its handler is stopped, and who may claim."""

from __future__ import annotations

from typing import NamedTuple

from relayq_core.model.bounds import SETTLE_BUDGET_MS, Bounds
from relayq_core.model.lifecycle import Event, reached
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord

#: With less than this left a runner does not claim.
LEAST_TIME_MS = 15_000

#: Clocks of different machines differ by less than this; safety never rests on it, only the lease does.
SKEW_MS = 2_000

#: A handler that ignores JobTimeout for this long is ended with its process.
STUBBORN_MS = 5_000

#: A lease that is renewed while its job runs is taken for this long: so soon is the death of its holder noticed.
RENEWED_MS = 60_000

#: `failed()` and the settle come after the handler's deadline; this much of the invocation stays for the settle.
SETTLE_MS = 3_000

#: `failed()` is called for this long at least.
_LEAST_HOOK_MS = 100

#: Later than any moment.
_NEVER = 1 << 53


class Lease(NamedTuple):
    """What a runner asks for: its own id, and how long it may hold the job.

    Until `now + grace_ms + the row's timeout_ms`, or `+ budget_ms` where the row has none. One that is `renewed` while
    the job runs is always as short as its budget, and has the sweeper look when it would end. With a `name` the
    budget is that of one type: a job of another name is refused, and its row tells the right one.
    """

    id: str
    now: int
    budget_ms: int
    grace_ms: int
    renewed: bool = False
    name: str | None = None

    def until(self, timeout_ms: int | None) -> int:
        """When it runs out, for a row with this timeout."""
        wanted = self.budget_ms if timeout_ms is None or self.renewed else timeout_ms
        return self.now + self.grace_ms + wanted

    @property
    def look_at(self) -> int | None:
        """What due_at becomes with the claim; None: it stays, for the claim of a warm runner costs no index write."""
        return self.until(None) + SKEW_MS if self.renewed else None


def lease(
    lease_id: str,
    now: int,
    remaining_ms: int,
    policy: Policy,
    longest_ms: int | None = None,
    name: str | None = None,
) -> Lease:
    """The lease a runner with this much time left asks for.

    `longest_ms` is the longest timeout of all jobs it knows, if all have one: no handler it may start, whatever the
    job's name turns out to be, needs more, and a crash is noticed so much sooner. With a `name` it is the timeout of
    that type alone.
    """
    budget = max(0, remaining_ms - SETTLE_BUDGET_MS)
    if longest_ms is None or longest_ms >= budget:
        return Lease(lease_id, now, budget, policy.grace_ms)  # long enough for any name
    return Lease(lease_id, now, longest_ms, policy.grace_ms, name=name)


def renewed_lease(lease_id: str, now: int, policy: Policy) -> Lease:
    """The lease of a worker, which renews it as long as the job runs."""
    return Lease(lease_id, now, RENEWED_MS, policy.grace_ms, renewed=True)


def renewed_until(now: int, policy: Policy) -> int:
    """When a lease ends that is renewed now."""
    return now + RENEWED_MS + policy.grace_ms


def lease_lasts(record: JobRecord, policy: Policy, *, now: int) -> int:
    """How long the holder may count on its lease, milliseconds; one that is renewed lasts for another while."""
    return RENEWED_MS if policy.renews else (record.lease_until or 0) - now


def claimed(record: JobRecord, lease: Lease) -> JobRecord:
    """The job once claimed. The store's conditional write says the same in one expression."""
    return record.evolve(
        status=reached(record, Event.CLAIM),
        attempt=record.attempt + (0 if record.exhausted else 1),
        lease_id=lease.id,
        lease_until=lease.until(record.timeout_ms),
        nudges=0,
        due_at=record.due_at if lease.look_at is None else lease.look_at,
        started_at=lease.now,
        updated_at=lease.now,
    )


def is_claimable(record: JobRecord, now: int, name: str | None = None) -> bool:
    """A runner may claim it now, if it has that name. The store's condition says the same."""
    return record.status.is_waiting and record.available_at <= now and name in {None, record.name}


def patience(policy: Policy) -> int:
    """How long a handler may ignore JobTimeout before its process is ended: always inside the lease's grace."""
    return min(STUBBORN_MS, policy.grace_ms // 2)


def failed_hook_seconds(record: JobRecord, policy: Policy, *, now: int, remaining_ms: int) -> float:
    """Return how long `failed()` may take, in seconds.

    It ends a fifth of the grace before its lease, or SETTLE_MS before its invocation, so that the burial is written
    in time. Where nothing is left it may at least begin.
    """
    lasts = lease_lasts(record, policy, now=now) - policy.grace_ms // 5
    return max(_LEAST_HOOK_MS, min(lasts, remaining_ms - SETTLE_MS)) / 1000


def handler_deadline(record: JobRecord, bounds: Bounds, policy: Policy, now: int, remaining_ms: int) -> int:
    """When the handler is stopped: its timeout, or what the invocation leaves beside the settle budget.

    A claim whose answer came late has used up part of its lease: then the lease decides, for no handler may outlive
    it, however stubborn.
    """
    budget = max(0, remaining_ms - SETTLE_BUDGET_MS)
    wanted = now + (budget if bounds.timeout_ms is None else min(bounds.timeout_ms, budget))
    return min(wanted, latest_deadline(record, policy))


def latest_deadline(record: JobRecord, policy: Policy) -> int:
    """No handler of this lease may be asked to stop later: the stubborn must be gone before the lease is.

    Where leases are renewed, whoever renews them sees to that.
    """
    if policy.renews:
        return _NEVER
    margin = patience(policy) + min(SKEW_MS, policy.grace_ms // 5)
    return (record.lease_until or 0) - margin
