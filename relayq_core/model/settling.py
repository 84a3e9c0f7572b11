"""Settling: what becomes of a job after its handler, and how a job is cancelled, buried or redriven."""

from __future__ import annotations

import json
from typing import TypeAlias

from relayq_core.model.bounds import Bounds
from relayq_core.model.budgets import ERROR_BYTES, ERROR_LINE_BYTES, ERRORS_KEPT
from relayq_core.model.lifecycle import Event, Settlement, next_look, reached
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.value import Value
from relayq_core.text import cut

#: A name that no runner knows: a deploy may be under way. Tried each minute, buried after 15.
UNKNOWN_RETRY_MS = 60_000

UNKNOWN_PATIENCE_MS = 900_000

#: A cancelled job is kept so long at least: a dispatch that is repeated meanwhile must not bring it back.
CANCELLED_KEPT_MS = 3_600_000

#: A completed job, if it is kept at all, for this long at least: longer than any late write of its dispatch may take.
COMPLETED_KEPT_MS = 600_000


def resumed(record: JobRecord, bounds: Bounds, policy: Policy, *, now: int, luck: float) -> Settlement | None:
    """A job that the sweeper took for exhausted, though its type allows more attempts; None where that is so.

    The sweeper knows the settings only. The claim of such a row counts nothing, so the job waits once more and is
    claimed as any other.
    """
    if not record.exhausted or record.max_attempts is not None or record.attempt >= bounds.max_attempts:
        return None
    wait = bounds.backoff.delay(record.attempt, luck)
    return again(
        record.evolve(exhausted=False, unknown_since=None), Event.GIVE_BACK, wait, policy, now, attempt=record.attempt
    )


class Succeeded(Value):
    """The handler returned; its result as JSON, if it gave one that can be kept, or why it cannot."""

    result_json: str | None = None
    problem: str | None = None


class Failed(Value):
    """The handler raised. `wait` (seconds) overrides the backoff; `final` means that trying again is useless."""

    error: str
    headline: str
    wait: float | None = None
    final: bool = False


class Snoozed(Value):
    """The handler asked to be run again in so many seconds, at no cost."""

    wait: float


Outcome: TypeAlias = Succeeded | Failed | Snoozed


def settle(record: JobRecord, outcome: Outcome, bounds: Bounds, policy: Policy, *, now: int, luck: float) -> Settlement:
    """What becomes of a claimed job after its handler. `luck` in [0, 1) is the jitter's draw."""
    match outcome:
        case Succeeded():
            return _complete(record, outcome, policy, now)
        case Snoozed(wait):
            return again(record, Event.SNOOZE, wait, policy, now, attempt=max(0, record.attempt - 1))
        case Failed(error, headline, wait, final):
            # the sweeper has written down the crash that exhausted it
            told = record if record.exhausted and record.error else with_error(record, error, headline, now)
            if final or record.attempt >= bounds.max_attempts:
                return bury(told, policy, now)
            delay = bounds.backoff.delay(record.attempt, luck) if wait is None else wait
            return again(told, Event.RETRY, delay, policy, now)


def will_bury(record: JobRecord, outcome: Outcome, bounds: Bounds) -> bool:
    """This outcome ends the job as failed, so `failed()` is to be told first."""
    return isinstance(outcome, Failed) and (outcome.final or record.attempt >= bounds.max_attempts)


def give_back(record: JobRecord, policy: Policy, *, now: int) -> Settlement | None:
    """Return a job whose name this runner does not know, uncounted; None once patience has ended."""
    since = now if record.unknown_since is None else record.unknown_since
    if now - since >= UNKNOWN_PATIENCE_MS:
        return None
    attempt = record.attempt if record.exhausted else max(0, record.attempt - 1)
    return again(
        record.evolve(unknown_since=since), Event.GIVE_BACK, UNKNOWN_RETRY_MS / 1000, policy, now, attempt=attempt
    )


def unfinished(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """A claimed job whose handler was ended from outside, as by a second Ctrl-C: back at once, and uncounted."""
    attempt = record.attempt if record.exhausted else max(0, record.attempt - 1)
    return again(record, Event.GIVE_BACK, 0, policy, now, attempt=attempt)


def bury_with(record: JobRecord, error: str, headline: str, policy: Policy, *, now: int) -> Settlement:
    """The job as failed, for a reason found by RelayQ itself."""
    return bury(with_error(record, error, headline, now), policy, now)


def bury(record: JobRecord, policy: Policy, now: int) -> Settlement:
    """The job as failed, with the error it bears."""
    after = _ended(record, Event.BURY, now, policy.failed_retention_ms)
    return Settlement(Event.BURY, after)


def cancel(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """The job as cancelled, whether it waited or ran."""
    return Settlement(Event.CANCEL, _ended(record, Event.CANCEL, now, max(policy.retention_ms, CANCELLED_KEPT_MS)))


def cancel_instead(record: JobRecord, settlement: Settlement, policy: Policy, *, now: int) -> Settlement:
    """Cancel a claimed job in place of this settlement, with the error that the settlement would have written."""
    planned = settlement.after
    cancelled = cancel(record.evolve(error=planned.error, errors_json=planned.errors_json), policy, now=now)
    return cancelled._replace(after=cancelled.after.evolve(settled_by=planned.settled_by))


def redrive(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """A failed job, as it begins anew: the same id, attempt 0, its history of errors kept."""
    due_at, hand_off = next_look(now, now, policy)
    after = record.evolve(
        status=reached(record, Event.REDRIVE),
        attempt=0,
        available_at=now,
        updated_at=now,
        due_at=due_at,
        error=None,
        started_at=None,
        finished_at=None,
        progress_json=None,
        settled_by=None,
        cancel_requested_at=None,
        unknown_since=None,
        exhausted=False,
        expires_at=None,
    )
    return Settlement(Event.REDRIVE, after, hand_off)


def _complete(record: JobRecord, outcome: Succeeded, policy: Policy, now: int) -> Settlement:
    kept = {"result_json": outcome.result_json, "result_problem": outcome.problem, "error": None}
    after = _ended(record, Event.COMPLETE, now, max(policy.retention_ms, COMPLETED_KEPT_MS), **kept)
    return Settlement(Event.COMPLETE, after, keeps_row=policy.retention_ms > 0)


def again(
    record: JobRecord, event: Event, wait: float, policy: Policy, now: int, *, attempt: int | None = None
) -> Settlement:
    available_at = now + round(wait * 1000)
    due_at, hand_off = next_look(available_at, now, policy)
    after = record.evolve(
        status=reached(record, event),
        attempt=record.attempt if attempt is None else attempt,
        available_at=available_at,
        updated_at=now,
        due_at=due_at,
        lease_id=None,
        lease_until=None,
        settled_by=record.lease_id,
    )
    if event is not Event.GIVE_BACK:
        after = after.evolve(unknown_since=None)
    return Settlement(event, after, hand_off)


def _ended(record: JobRecord, event: Event, now: int, retention_ms: int, **changes: str | None) -> JobRecord:
    return record.evolve(
        status=reached(record, event),
        updated_at=now,
        finished_at=now,
        due_at=None,
        lease_id=None,
        lease_until=None,
        settled_by=record.lease_id,
        expires_at=expiry(now + retention_ms),
        **changes,
    )


def expiry(at: int) -> int:
    """Epoch seconds for TTL, rounded up: never before the moment itself."""
    return -(-at // 1000)


def with_error(record: JobRecord, error: str, headline: str, now: int) -> JobRecord:
    kept = [*record.errors, {"attempt": record.attempt, "at": now, "error": cut(headline, ERROR_LINE_BYTES)}]
    return record.evolve(
        error=cut(error, ERROR_BYTES),
        errors_json=json.dumps(kept[-ERRORS_KEPT:], ensure_ascii=False, separators=(",", ":")),
    )
