"""Sweeping: what the sweeper does with a row that the index nominated."""

from __future__ import annotations

from typing import TypeAlias

from relayq_core.errors import JobCrashed
from relayq_core.model.bounds import Bounds, resolve_bounds
from relayq_core.model.budgets import ERRORS_KEPT
from relayq_core.model.leases import SKEW_MS, compute_patience
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import add_error, bury, cancel, reschedule
from relayq_core.model.value import Value

#: Nudges of one job come further and further apart, up to this.
LONGEST_NUDGE_MS = 900_000

#: A row that only a newer version can go on with is looked at again after this.
NEWER_MS = 60_000

#: A row the sweeper cannot read is looked at again after this.
UNREADABLE_MS = 3_600_000


def _has_only_crashed(record: JobRecord) -> bool:
    """Whether all errors that are kept are of one attempt: then a runner that knows its type crashes too."""
    return [error["attempt"] for error in record.errors] == [record.attempt] * ERRORS_KEPT


class Leave(Value):
    """Nothing to do: the index was behind."""


class Postpone(Value):
    """Its lease is alive: look again when it has run out."""

    due_at: int


class Nudge(Value):
    """It waits, and no runner came: hand it off again, and look again at `due_at`."""

    due_at: int


Decision: TypeAlias = Leave | Postpone | Nudge | Settlement


def decide(
    record: JobRecord | None,
    seen_due_at: int,
    policy: Policy,
    *,
    token: str,
    now: int,
    draw: float,
    of_type: Options | None = None,
) -> Decision:
    """Decide what the sweeper does with a row that the index nominated. `token` marks the sweeper's own write.

    `of_type` are the options of the job's type, if the sweeper knows it.
    """
    if record is None or record.due_at != seen_due_at or record.status.is_ended:
        return Leave()
    if record.status.is_waiting:
        # a job that only a newer version can claim, too: a runner of that version may get the offer
        return Nudge(plan_nudge(record.nudges, policy, now=now))
    if record.is_newer:
        return Postpone(now + NEWER_MS)
    lease_ends = now if record.lease_until is None else record.lease_until + SKEW_MS
    if lease_ends > now:
        return Postpone(lease_ends)
    return release(record, policy, token=token, now=now, draw=draw, of_type=of_type)


def plan_nudge(nudges: int, policy: Policy, *, now: int) -> int:
    """Return when to look again at a job with this many nudges: after STALE, doubled each time, at most 15 minutes."""
    return now + min(policy.stale_ms << min(nudges, 20), LONGEST_NUDGE_MS)


def release_overrun(
    record: JobRecord, error: JobCrashed, bounds: Bounds, policy: Policy, *, now: int, draw: float
) -> Settlement:
    """End the lease of a handler that did not stop and whose process ends in a moment: a crash, and no sooner again.

    The next attempt may begin when it could if nothing were written: once this lease has certainly run out.
    """
    crash = f"JobCrashed: {error}"
    crashed = add_error(record, crash, crash, now=now)
    is_last = record.attempt >= bounds.max_attempts
    wait = 0.0 if is_last else bounds.backoff.delay(record.attempt, draw)
    # a lease that is renewed may end later than this record says: then its process has as long as its patience
    lease_ends = now + compute_patience(policy) if policy.renews else record.lease_until or now
    gone_at = lease_ends + SKEW_MS
    safe_at = max(now + round(wait * 1000), gone_at)
    wait = (safe_at - now) / 1000
    released = reschedule(crashed.evolve(exhausted=is_last), Transition.RELEASE, wait, policy, now=now)
    # the process that writes this has no time left to hand it off
    after = released.after.evolve(due_at=safe_at, settled_by=f"{record.lease_id}-overrun")
    return Settlement(released.transition, after, hand_off=False)


def release(
    record: JobRecord,
    policy: Policy,
    *,
    token: str,
    now: int,
    draw: float,
    error: JobCrashed | None = None,
    of_type: Options | None = None,
) -> Settlement:
    """End a lease that ran out. The crash spent its attempt; after the last, `failed()` still gets its chance.

    `error` says how the runner ended, if that is known. If neither the row nor the sweeper (`of_type`) knows how many
    attempts the job's type allows, the job is exhausted by the settings' number only: the next runner, which knows
    the type, decides again.
    """
    crash = f"JobCrashed: {error or JobCrashed(record.attempt)}"
    crashed = add_error(record, crash, crash, now=now)
    bounds = resolve_bounds(record, of_type, policy)
    delay = bounds.backoff.delay(record.attempt, draw)
    is_sure = record.max_attempts is not None or of_type is not None
    if record.cancel_requested_at is not None:
        settlement = cancel(crashed, policy, now=now)
    elif record.exhausted and not is_sure and not _has_only_crashed(crashed):
        settlement = reschedule(crashed, Transition.RELEASE, delay, policy, now=now)
    elif record.exhausted:
        # its error is the crash of the last attempt, which the table holds already
        settlement = bury(record if record.error else crashed, policy, now=now)
    elif record.attempt >= bounds.max_attempts:
        settlement = reschedule(crashed.evolve(exhausted=True), Transition.RELEASE, 0, policy, now=now)
    else:
        settlement = reschedule(crashed, Transition.RELEASE, delay, policy, now=now)
    return settlement._replace(after=settlement.after.evolve(settled_by=token))
