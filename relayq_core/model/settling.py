"""Settling: what becomes of a job after its handler, and how a job is cancelled, buried or redriven."""

from __future__ import annotations

import json
from typing import TypeAlias

from relayq_core.model.bounds import Bounds
from relayq_core.model.budgets import ERROR_BYTES, ERROR_LINE_BYTES, ERRORS_KEPT
from relayq_core.model.lifecycle import Settlement, Transition, plan_start, resolve_status
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.value import Value
from relayq_core.text import cut

#: A name that no runner knows: a deploy may be under way. Tried each minute, buried after 15.
UNKNOWN_RETRY_MS = 60_000

UNKNOWN_PATIENCE_MS = 900_000

#: A cancelled job is kept this long at least: a dispatch that is repeated within it must not bring it back.
CANCELLED_KEPT_MS = 3_600_000

#: A completed job, if it is kept at all, for this long at least: longer than any late write of its dispatch may take.
COMPLETED_KEPT_MS = 600_000


def resume(record: JobRecord, bounds: Bounds, policy: Policy, *, now: int, draw: float) -> Settlement | None:
    """Give back a job that the sweeper took for exhausted although its type allows more attempts; None for others.

    The sweeper knows the settings only. The claim of such a row is not counted, so the job waits once more and is
    claimed like any other.
    """
    if not record.exhausted or record.max_attempts is not None or record.attempt >= bounds.max_attempts:
        return None
    wait = bounds.backoff.delay(record.attempt, draw)
    eager = record.evolve(exhausted=False, unknown_since=None)
    return reschedule(eager, Transition.GIVE_BACK, wait, policy, now=now, attempt=record.attempt)


class Succeeded(Value):
    """The handler returned; its result as JSON, if it gave one that can be kept, or why it cannot."""

    result_json: str | None = None
    problem: str | None = None


class Failed(Value):
    """The handler raised. `wait` (seconds) overrides the backoff; `final` means that trying again is useless."""

    error: str
    summary: str
    wait: float | None = None
    final: bool = False


class Snoozed(Value):
    """The handler asked to be run again after `wait` seconds, without using up an attempt."""

    wait: float


AttemptOutcome: TypeAlias = Succeeded | Failed | Snoozed


def settle(
    record: JobRecord, outcome: AttemptOutcome, bounds: Bounds, policy: Policy, *, now: int, draw: float
) -> Settlement:
    """Decide what becomes of a claimed job after its handler. `draw` in [0, 1) is the jitter's random number."""
    match outcome:
        case Succeeded():
            return _complete(record, outcome, policy, now=now)
        case Snoozed(wait):
            return reschedule(record, Transition.SNOOZE, wait, policy, now=now, attempt=max(0, record.attempt - 1))
        case Failed(error, summary, wait, final):
            # the sweeper has already written the crash that exhausted it
            has_error = record.exhausted and record.error
            failed = record if has_error else add_error(record, error, summary, now=now)
            if final or record.attempt >= bounds.max_attempts:
                return bury(failed, policy, now=now)
            delay = bounds.backoff.delay(record.attempt, draw) if wait is None else wait
            return reschedule(failed, Transition.RETRY, delay, policy, now=now)


def will_bury(record: JobRecord, outcome: AttemptOutcome, bounds: Bounds) -> bool:
    """Whether this outcome ends the job as failed, so that `failed()` is called first."""
    return isinstance(outcome, Failed) and (outcome.final or record.attempt >= bounds.max_attempts)


def give_back(record: JobRecord, policy: Policy, *, now: int) -> Settlement | None:
    """Give back a job whose name this runner does not know, uncounted; None once that has lasted for 15 minutes."""
    since = now if record.unknown_since is None else record.unknown_since
    if now - since >= UNKNOWN_PATIENCE_MS:
        return None
    attempt = record.attempt if record.exhausted else max(0, record.attempt - 1)
    marked = record.evolve(unknown_since=since)
    return reschedule(marked, Transition.GIVE_BACK, UNKNOWN_RETRY_MS / 1000, policy, now=now, attempt=attempt)


def return_unfinished(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """Give back a claimed job whose handler was ended from outside, as by a second Ctrl-C: at once, and uncounted."""
    attempt = record.attempt if record.exhausted else max(0, record.attempt - 1)
    return reschedule(record, Transition.GIVE_BACK, 0, policy, now=now, attempt=attempt)


def bury_with(record: JobRecord, error: str, summary: str, policy: Policy, *, now: int) -> Settlement:
    """End the job as failed, for a reason that RelayQ itself found."""
    return bury(add_error(record, error, summary, now=now), policy, now=now)


def bury(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """End the job as failed, with the error that it has."""
    after = _end(record, Transition.BURY, policy.failed_retention_ms, now=now)
    return Settlement(Transition.BURY, after)


def cancel(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """End the job as cancelled, whether it waited or ran."""
    kept_ms = max(policy.retention_ms, CANCELLED_KEPT_MS)
    return Settlement(Transition.CANCEL, _end(record, Transition.CANCEL, kept_ms, now=now))


def cancel_instead(record: JobRecord, settlement: Settlement, policy: Policy, *, now: int) -> Settlement:
    """Cancel a claimed job in place of this settlement, with the error that the settlement would have written."""
    planned = settlement.after
    cancelled = cancel(record.evolve(error=planned.error, errors_json=planned.errors_json), policy, now=now)
    return cancelled._replace(after=cancelled.after.evolve(settled_by=planned.settled_by))


def redrive(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """Start a failed job over, with the same id, attempt 0 and its history of errors."""
    due_at, hand_off = plan_start(now, policy, now=now)
    after = record.evolve(
        status=resolve_status(record, Transition.REDRIVE),
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
    return Settlement(Transition.REDRIVE, after, hand_off)


def _complete(record: JobRecord, outcome: Succeeded, policy: Policy, *, now: int) -> Settlement:
    kept = {"result_json": outcome.result_json, "result_problem": outcome.problem, "error": None}
    kept_ms = max(policy.retention_ms, COMPLETED_KEPT_MS)
    after = _end(record, Transition.COMPLETE, kept_ms, now=now, **kept)
    return Settlement(Transition.COMPLETE, after, keeps_row=policy.retention_ms > 0)


def reschedule(
    record: JobRecord, transition: Transition, wait: float, policy: Policy, *, now: int, attempt: int | None = None
) -> Settlement:
    """Let a claimed job wait for another `wait` seconds; `attempt` replaces how many attempts it has used."""
    available_at = now + round(wait * 1000)
    due_at, hand_off = plan_start(available_at, policy, now=now)
    after = record.evolve(
        status=resolve_status(record, transition),
        attempt=record.attempt if attempt is None else attempt,
        available_at=available_at,
        updated_at=now,
        due_at=due_at,
        lease_id=None,
        lease_until=None,
        settled_by=record.lease_id,
    )
    if transition is not Transition.GIVE_BACK:
        after = after.evolve(unknown_since=None)
    return Settlement(transition, after, hand_off)


def _end(record: JobRecord, transition: Transition, retention_ms: int, *, now: int, **changes: str | None) -> JobRecord:
    return record.evolve(
        status=resolve_status(record, transition),
        updated_at=now,
        finished_at=now,
        due_at=None,
        lease_id=None,
        lease_until=None,
        settled_by=record.lease_id,
        expires_at=compute_expiry(now + retention_ms),
        **changes,
    )


def compute_expiry(at: int) -> int:
    """Return epoch seconds for TTL, rounded up so that they are never before `at` (milliseconds)."""
    return -(-at // 1000)


def add_error(record: JobRecord, error: str, summary: str, *, now: int) -> JobRecord:
    """Return the job with this error as its last, and `summary` as the newest line of its history."""
    kept = [*record.errors, {"attempt": record.attempt, "at": now, "error": cut(summary, ERROR_LINE_BYTES)}]
    return record.evolve(
        error=cut(error, ERROR_BYTES),
        errors_json=json.dumps(kept[-ERRORS_KEPT:], ensure_ascii=False, separators=(",", ":")),
    )
