"""Sweeping: what the sweeper does with a row that the index nominated."""

from __future__ import annotations

from typing import TypeAlias

from relayq_core.errors import JobCrashed
from relayq_core.model.bounds import Bounds, bounds_of
from relayq_core.model.budgets import ERRORS_KEPT
from relayq_core.model.leases import SKEW_MS, patience
from relayq_core.model.lifecycle import Event, Settlement
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import again, bury, cancel, with_error
from relayq_core.model.value import Value

#: Nudges of one job come ever further apart, up to this.
LONGEST_NUDGE_MS = 900_000

#: A row that only a newer version can go on with is looked at again after this.
NEWER_MS = 60_000

#: A row the sweeper cannot read is looked at again after this.
UNREADABLE_MS = 3_600_000


def _crashed_to_the_end(record: JobRecord) -> bool:
    """All the errors that are kept are of one attempt: not even the runner that knows its type gets over it."""
    return [error["attempt"] for error in record.errors] == [record.attempt] * ERRORS_KEPT


class Leave(Value):
    """Nothing to do: the index was behind."""


class Postpone(Value):
    """Its lease is alive: look again when it has run out."""

    due_at: int


class Nudge(Value):
    """It waits, and no runner came: hand it off again, and look again at `due_at`."""

    due_at: int


Look: TypeAlias = Leave | Postpone | Nudge | Settlement


def look(
    record: JobRecord | None,
    seen_due_at: int,
    policy: Policy,
    token: str,
    *,
    now: int,
    luck: float,
    of_type: Options | None = None,
) -> Look:
    """What the sweeper does with a row that the index nominated. `token` marks the sweeper's own write.

    `of_type` are the options of the job's type, where the sweeper knows it.
    """
    if record is None or record.due_at != seen_due_at or record.status.is_ended:
        return Leave()
    if record.status.is_waiting:
        # also of a job that only a newer version can claim: a runner of that version may be the one that hears of it
        return Nudge(nudge_due_at(record.nudges, policy, now))
    if record.is_newer:
        return Postpone(now + NEWER_MS)
    lease_ends = now if record.lease_until is None else record.lease_until + SKEW_MS
    if lease_ends > now:
        return Postpone(lease_ends)
    return release(record, policy, token, now=now, luck=luck, of_type=of_type)


def nudge_due_at(nudges: int, policy: Policy, now: int) -> int:
    """When to look again at a job nudged so often before: STALE, doubled each time, at most 15 minutes."""
    return now + min(policy.stale_ms << min(nudges, 20), LONGEST_NUDGE_MS)


def overrun(
    record: JobRecord, error: JobCrashed, bounds: Bounds, policy: Policy, *, now: int, luck: float
) -> Settlement:
    """End the lease of a handler that did not stop and whose process ends in a moment: a crash, and no sooner again.

    The next attempt may begin when it could if nothing were written: once this lease has certainly run out.
    """
    crash = f"JobCrashed: {error}"
    told = with_error(record, crash, crash, now)
    is_last = record.attempt >= bounds.max_attempts
    wait = 0.0 if is_last else bounds.backoff.delay(record.attempt, luck)
    # a lease that is renewed may end later than this record says: then its process has as long as its patience
    lease_ends = now + patience(policy) if policy.renews else record.lease_until or now
    gone_at = lease_ends + SKEW_MS
    safe_at = max(now + round(wait * 1000), gone_at)
    found = again(told.evolve(exhausted=is_last), Event.RELEASE, (safe_at - now) / 1000, policy, now)
    # whoever writes this has no time left to hand it off
    after = found.after.evolve(due_at=safe_at, settled_by=f"{record.lease_id}-overrun")
    return Settlement(found.event, after, hand_off=False)


def release(
    record: JobRecord,
    policy: Policy,
    token: str,
    *,
    now: int,
    luck: float,
    error: JobCrashed | None = None,
    of_type: Options | None = None,
) -> Settlement:
    """End a lease that ran out. The crash spent its attempt; after the last, `failed()` still gets its chance.

    `error`: how the runner ended, where that is known. Where neither the row nor the sweeper (`of_type`) knows how
    many attempts the job's type allows, those of the settings are used up by this measure alone: the next runner,
    which knows the type, judges again.
    """
    crash = f"JobCrashed: {error or JobCrashed(record.attempt)}"
    told = with_error(record, crash, crash, now)
    bounds = bounds_of(record, of_type, policy)
    is_sure = record.max_attempts is not None or of_type is not None
    if record.cancel_requested_at is not None:
        found = cancel(told, policy, now=now)
    elif record.exhausted and not is_sure and not _crashed_to_the_end(told):
        found = again(told, Event.RELEASE, bounds.backoff.delay(record.attempt, luck), policy, now)
    elif record.exhausted:
        # its error is the crash of the last attempt, which the table holds already
        found = bury(record if record.error else told, policy, now)
    elif record.attempt >= bounds.max_attempts:
        found = again(told.evolve(exhausted=True), Event.RELEASE, 0, policy, now)
    else:
        found = again(told, Event.RELEASE, bounds.backoff.delay(record.attempt, luck), policy, now)
    return Settlement(found.event, found.after.evolve(settled_by=token), found.hand_off)
