"""Where a job goes next. Every decision of the system, pure: no I/O, and `now` is an argument.

                 dispatch
                    |
                    v            claim                  complete
                 pending -----------------> processing ------------> completed
                    |                        |  ^  |
                    |   retry, snooze,       |  |  |   bury
                    |   give back, release   |  |  +-----------------> failed
                    |                        v  | claim                  |
                    |                      retrying <----------+         | redrive
                    |  cancel                |  cancel         |         v
                    +--------> cancelled <---+            (sweeper)   pending
                                   ^
                                   +---- processing, when its cancel mark is seen at the settle

A claim takes a lease; only the holder of the lease may settle, or the sweeper once the lease has run out. All
times are epoch milliseconds, all durations milliseconds unless they are options of a job (seconds).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from relayq_core.backoff import Backoff
from relayq_core.errors import JobCrashed
from relayq_core.options import Options
from relayq_core.record import JobRecord, Status
from relayq_core.registry import JobType
from relayq_core.request import same_json
from relayq_core.text import cut
from relayq_core.value import Value

#: Kept free at the end of an invocation, for a handler that stops late and for the settle's retries.
SETTLE_BUDGET_MS = 10_000
#: With less than this left a runner does not claim.
LEAST_TIME_MS = 15_000
#: A runner that waited longer than this before a job that now lacks time hands it on; a fresh start takes as long.
WORTH_A_START_MS = 1_000
#: Clocks of different machines differ by less than this; safety never rests on it, only the lease does.
SKEW_MS = 2_000
#: A handler that ignores JobTimeout for this long is ended with its process.
STUBBORN_MS = 5_000
#: A name that no runner knows: a deploy may be under way. Tried each minute, buried after 15.
UNKNOWN_RETRY_MS = 60_000
UNKNOWN_PATIENCE_MS = 900_000
#: Nudges of one job come ever further apart, up to this.
LONGEST_NUDGE_MS = 900_000
#: A lease that is renewed while its job runs is taken for this long: so soon is the death of its holder noticed.
RENEWED_MS = 60_000
#: A row that only a newer version can go on with is looked at again after this.
NEWER_MS = 60_000
#: A row the sweeper cannot read is looked at again after this.
UNREADABLE_MS = 3_600_000

#: A cancelled job is kept so long at least: a dispatch that is repeated meanwhile must not bring it back.
CANCELLED_KEPT_MS = 3_600_000
#: A completed job, if it is kept at all, for this long at least: longer than any late write of its dispatch may take.
COMPLETED_KEPT_MS = 600_000
#: The sweeper asks the index for each of them, so they are few.
MOST_QUEUES = 100
#: A queue that was forgotten is swept for so long: what was on its way to it is found all the same.
FORGOTTEN_MS = 86_400_000
#: Who registered a queue does so again after this, for the name may have been taken back.
REGISTERED_MS = 300_000

#: Later than any moment.
_NEVER = 1 << 53

#: Budgets in bytes. Together with the payload they stay far below DynamoDB's 400 KB, so no settle fails on size.
PAYLOAD_BYTES = 300_000
RESULT_BYTES = 32_768
ERROR_BYTES = 8_192
ERROR_LINE_BYTES = 500
ERRORS_KEPT = 5


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    GIVE_BACK = "give back"
    RELEASE = "release"
    BURY = "bury"
    CANCEL = "cancel"
    REDRIVE = "redrive"

    __hash__ = str.__hash__  # as Status has it


#: (status, event) -> status. What is not here cannot happen.
TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.PENDING, Event.CLAIM): Status.PROCESSING,
    (Status.PENDING, Event.CANCEL): Status.CANCELLED,
    (Status.RETRYING, Event.CLAIM): Status.PROCESSING,
    (Status.RETRYING, Event.CANCEL): Status.CANCELLED,
    (Status.PROCESSING, Event.COMPLETE): Status.COMPLETED,
    (Status.PROCESSING, Event.RETRY): Status.RETRYING,
    (Status.PROCESSING, Event.SNOOZE): Status.RETRYING,
    (Status.PROCESSING, Event.GIVE_BACK): Status.RETRYING,
    (Status.PROCESSING, Event.RELEASE): Status.RETRYING,
    (Status.PROCESSING, Event.BURY): Status.FAILED,
    (Status.PROCESSING, Event.CANCEL): Status.CANCELLED,
    (Status.FAILED, Event.REDRIVE): Status.PENDING,
}

#: A settle of these kinds gives way to a cancel that came meanwhile; a success counts all the same.
YIELDS_TO_CANCEL = frozenset({Event.RETRY, Event.SNOOZE, Event.GIVE_BACK, Event.RELEASE, Event.BURY})


class Policy(Value, kw_only=True):
    """The settings that decisions depend on, in milliseconds."""

    hands_off: bool = True
    max_wait_ms: int = 65_000
    stale_ms: int = 30_000
    grace_ms: int = 10_000
    retention_ms: int = 604_800_000
    failed_retention_ms: int = 7_776_000_000
    max_attempts: int
    backoff: Backoff
    timeout_ms: int | None = None
    #: somebody renews the leases while their jobs run, and ends what runs without one
    renews: bool = False
    #: how long the runner function may live, as it was configured; None where that is not known
    runner_ms: int | None = None


class Settlement(NamedTuple):
    """A job as it is to be, and whether a runner is to be told of it."""

    event: Event
    after: JobRecord
    hand_off: bool = False

    @property
    def run_at(self) -> int:
        """When it may next be started."""
        return self.after.available_at


#: The sweeper may have moved due_at since the row was read; and who settles always leaves its name.
_ALWAYS_WRITTEN = frozenset({"due_at", "settled_by"})


def written(before: JobRecord, after: JobRecord) -> dict[str, Any]:
    """The fields that are written to turn the one record into the other; what others wrote meanwhile stays."""
    were = vars(before)
    return {name: value for name, value in vars(after).items() if value != were[name] or name in _ALWAYS_WRITTEN}


# --- dispatch ---------------------------------------------------------------------------------------------------


def next_look(available_at: int, now: int, policy: Policy) -> tuple[int, bool]:
    """`due_at`, when the sweeper should look, and whether to hand the job off now.

    A wait that a runner can sleep is handed off at once, and the sweeper looks only if that came to nothing; a
    longer one is the sweeper's, at its very moment.
    """
    if policy.hands_off and available_at - now <= policy.max_wait_ms:
        return max(available_at, now) + policy.stale_ms, True
    return max(available_at, now), False


def is_same_dispatch(mine: JobRecord, found: JobRecord, job_type: JobType | None = None) -> bool:
    """Whether the row that stands under my id was written by a dispatch of the same job with the same payload.

    What a payload means is known to the job's type; without it, as JSON.
    """
    same = same_json if job_type is None else job_type.same
    return mine.name == found.name and same(mine.payload_json, found.payload_json)


# --- claim ------------------------------------------------------------------------------------------------------


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


def timeout_ms(options: Options) -> int | None:
    """The timeout that the options name, in milliseconds."""
    return None if options.timeout is None else max(1, round(options.timeout * 1000))


def timeout_of(known: Options, policy: Policy) -> int | None:
    """The timeout of a job type with these options, milliseconds; None if it may run as long as its runner."""
    own = timeout_ms(known)
    return policy.timeout_ms if own is None else own


def longest_timeout(types: Iterable[Options], policy: Policy) -> int | None:
    """The longest timeout of job types with these options, milliseconds; None if one may run as long as its runner."""
    timeouts = [timeout_of(known, policy) for known in types]
    bounded = [timeout for timeout in timeouts if timeout is not None]
    return max(bounded) if bounded and len(bounded) == len(timeouts) else None


def claimed(record: JobRecord, lease: Lease) -> JobRecord:
    """The job once claimed. The store's conditional write says the same in one expression."""
    return record.evolve(
        status=_to(record, Event.CLAIM),
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


class Limits(NamedTuple):
    """A job's options, completed: by the row, else its type, else the settings."""

    max_attempts: int
    backoff: Backoff
    timeout_ms: int | None
    #: the timeout was asked for by the job, not only the settings' default
    timeout_is_own: bool


def limits(record: JobRecord, of_type: Options | None, policy: Policy) -> Limits:
    """What holds for this job. The sweeper has no type at hand: for it the settings fill the gaps."""
    known = of_type or Options()
    own = timeout_ms(known) if record.timeout_ms is None else record.timeout_ms
    return Limits(
        max_attempts=record.max_attempts or known.max_attempts or policy.max_attempts,
        backoff=record.backoff or known.backoff or policy.backoff,
        timeout_ms=policy.timeout_ms if own is None else own,
        timeout_is_own=own is not None,
    )


def bounded(record: JobRecord, limits: Limits) -> JobRecord:
    """A claimed job, exhausted if its claim went past its tries.

    The sweeper releases a crashed job by the settings where the row does not say how many tries its type allows.
    """
    if record.attempt <= limits.max_attempts:
        return record
    return record.evolve(attempt=limits.max_attempts, exhausted=True)


def resumed(record: JobRecord, limits: Limits, policy: Policy, *, now: int, luck: float) -> Settlement | None:
    """A job that the sweeper took for exhausted, though its type allows more attempts; None where that is so.

    The sweeper knows the settings only. The claim of such a row counts nothing, so the job waits once more and is
    claimed as any other.
    """
    if not record.exhausted or record.max_attempts is not None or record.attempt >= limits.max_attempts:
        return None
    wait = limits.backoff.delay(record.attempt, luck)
    return _again(
        record.evolve(exhausted=False, unknown_since=None), Event.GIVE_BACK, wait, policy, now, attempt=record.attempt
    )


def patience(policy: Policy) -> int:
    """How long a handler may ignore JobTimeout before its process is ended: always inside the lease's grace."""
    return min(STUBBORN_MS, policy.grace_ms // 2)


def handler_deadline(record: JobRecord, limits: Limits, policy: Policy, now: int, remaining_ms: int) -> int:
    """When the handler is stopped: its timeout, or what the invocation leaves beside the settle budget.

    A claim whose answer came late has used up part of its lease: then the lease decides, for no handler may outlive
    it, however stubborn.
    """
    budget = max(0, remaining_ms - SETTLE_BUDGET_MS)
    wanted = now + (budget if limits.timeout_ms is None else min(limits.timeout_ms, budget))
    return min(wanted, latest_deadline(record, policy))


def latest_deadline(record: JobRecord, policy: Policy) -> int:
    """No handler of this lease may be asked to stop later: the stubborn must be gone before the lease is.

    Where leases are renewed, whoever renews them sees to that.
    """
    if policy.renews:
        return _NEVER
    margin = patience(policy) + min(SKEW_MS, policy.grace_ms // 5)
    return (record.lease_until or 0) - margin


def is_better_fresh(timeout_ms: int | None, *, waited_ms: int, remaining_ms: int) -> bool:
    """A fresh invocation would give a handler with this timeout more time than this one, which has waited.

    One that has not waited runs the job with what is left, however little that is: another would have no more. So a
    job is handed on once for each wait, and never to and fro.
    """
    return waited_ms > WORTH_A_START_MS and timeout_ms is not None and timeout_ms > remaining_ms - SETTLE_BUDGET_MS


def never_fits(limits: Limits, runner_ms: int | None) -> str | None:
    """Why the job's own timeout fits no invocation of a runner that may live so long, or None if it can.

    Not what one invocation has left: a slow start would bury a job that fits the next one.
    """
    if runner_ms is None or not limits.timeout_is_own or limits.timeout_ms is None:
        return None
    if limits.timeout_ms <= runner_ms - SETTLE_BUDGET_MS:
        return None
    return (
        f"its timeout of {limits.timeout_ms / 1000:g} s can never fit: this runner lives {runner_ms / 1000:g} s and "
        f"needs {SETTLE_BUDGET_MS // 1000} s of it to settle; raise the runner's timeout (900 s at most), give the "
        "queue a runner of its own, or lower the job's timeout"
    )


# --- settle -----------------------------------------------------------------------------------------------------


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


def settle(record: JobRecord, outcome: Outcome, limits: Limits, policy: Policy, *, now: int, luck: float) -> Settlement:
    """What becomes of a claimed job after its handler. `luck` in [0, 1) is the jitter's draw."""
    match outcome:
        case Succeeded():
            return _complete(record, outcome, policy, now)
        case Snoozed(wait):
            return _again(record, Event.SNOOZE, wait, policy, now, attempt=max(0, record.attempt - 1))
        case Failed(error, headline, wait, final):
            # the sweeper has written down the crash that exhausted it
            told = record if record.exhausted and record.error else _with_error(record, error, headline, now)
            if final or record.attempt >= limits.max_attempts:
                return bury(told, policy, now)
            delay = limits.backoff.delay(record.attempt, luck) if wait is None else wait
            return _again(told, Event.RETRY, delay, policy, now)


def will_bury(record: JobRecord, outcome: Outcome, limits: Limits) -> bool:
    """This outcome ends the job as failed, so `failed()` is to be told first."""
    return isinstance(outcome, Failed) and (outcome.final or record.attempt >= limits.max_attempts)


def give_back(record: JobRecord, policy: Policy, *, now: int) -> Settlement | None:
    """Return a job whose name this runner does not know, uncounted; None once patience has ended."""
    since = now if record.unknown_since is None else record.unknown_since
    if now - since >= UNKNOWN_PATIENCE_MS:
        return None
    attempt = record.attempt if record.exhausted else max(0, record.attempt - 1)
    return _again(
        record.evolve(unknown_since=since), Event.GIVE_BACK, UNKNOWN_RETRY_MS / 1000, policy, now, attempt=attempt
    )


def unfinished(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """A claimed job whose handler was ended from outside, as by a second Ctrl-C: back at once, and uncounted."""
    attempt = record.attempt if record.exhausted else max(0, record.attempt - 1)
    return _again(record, Event.GIVE_BACK, 0, policy, now, attempt=attempt)


def bury_with(record: JobRecord, error: str, headline: str, policy: Policy, *, now: int) -> Settlement:
    """The job as failed, for a reason found by RelayQ itself."""
    return bury(_with_error(record, error, headline, now), policy, now)


def bury(record: JobRecord, policy: Policy, now: int) -> Settlement:
    """The job as failed, with the error it bears."""
    after = _ended(record, Event.BURY, now, policy.failed_retention_ms)
    return Settlement(Event.BURY, after)


def cancel(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """The job as cancelled, whether it waited or ran."""
    return Settlement(Event.CANCEL, _ended(record, Event.CANCEL, now, max(policy.retention_ms, CANCELLED_KEPT_MS)))


def redrive(record: JobRecord, policy: Policy, *, now: int) -> Settlement:
    """A failed job, as it begins anew: the same id, attempt 0, its history of errors kept."""
    due_at, hand_off = next_look(now, now, policy)
    after = record.evolve(
        status=_to(record, Event.REDRIVE),
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
    return Settlement(
        Event.COMPLETE, _ended(record, Event.COMPLETE, now, max(policy.retention_ms, COMPLETED_KEPT_MS), **kept)
    )


def _again(
    record: JobRecord, event: Event, wait: float, policy: Policy, now: int, *, attempt: int | None = None
) -> Settlement:
    available_at = now + round(wait * 1000)
    due_at, hand_off = next_look(available_at, now, policy)
    after = record.evolve(
        status=_to(record, event),
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
        status=_to(record, event),
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


def _crashed_to_the_end(record: JobRecord) -> bool:
    """All the errors that are kept are of one attempt: not even the runner that knows its type gets over it."""
    return [error["attempt"] for error in record.errors] == [record.attempt] * ERRORS_KEPT


def _with_error(record: JobRecord, error: str, headline: str, now: int) -> JobRecord:
    kept = [*record.errors, {"attempt": record.attempt, "at": now, "error": cut(headline, ERROR_LINE_BYTES)}]
    return record.evolve(
        error=cut(error, ERROR_BYTES),
        errors_json=json.dumps(kept[-ERRORS_KEPT:], ensure_ascii=False, separators=(",", ":")),
    )


def _to(record: JobRecord, event: Event) -> Status:
    try:
        return TRANSITIONS[record.status, event]
    except KeyError:
        msg = f"job {record.id!r} is {record.status}: it cannot {event}"
        raise AssertionError(msg) from None


# --- sweep ------------------------------------------------------------------------------------------------------


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
    record: JobRecord, error: JobCrashed, limits: Limits, policy: Policy, *, now: int, luck: float
) -> Settlement:
    """End the lease of a handler that did not stop and whose process ends in a moment: a crash, and no sooner again.

    The next attempt may begin when it could if nothing were written: once this lease has certainly run out.
    """
    crash = f"JobCrashed: {error}"
    told = _with_error(record, crash, crash, now)
    is_last = record.attempt >= limits.max_attempts
    wait = 0.0 if is_last else limits.backoff.delay(record.attempt, luck)
    # a lease that is renewed may end later than this record says: then its process has as long as its patience
    lease_ends = now + patience(policy) if policy.renews else record.lease_until or now
    gone_at = lease_ends + SKEW_MS
    safe_at = max(now + round(wait * 1000), gone_at)
    found = _again(told.evolve(exhausted=is_last), Event.RELEASE, (safe_at - now) / 1000, policy, now)
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
    told = _with_error(record, crash, crash, now)
    bounds = limits(record, of_type, policy)
    is_sure = record.max_attempts is not None or of_type is not None
    if record.cancel_requested_at is not None:
        found = cancel(told, policy, now=now)
    elif record.exhausted and not is_sure and not _crashed_to_the_end(told):
        found = _again(told, Event.RELEASE, bounds.backoff.delay(record.attempt, luck), policy, now)
    elif record.exhausted:
        # its error is the crash of the last attempt, which the table holds already
        found = bury(record if record.error else told, policy, now)
    elif record.attempt >= bounds.max_attempts:
        found = _again(told.evolve(exhausted=True), Event.RELEASE, 0, policy, now)
    else:
        found = _again(told, Event.RELEASE, bounds.backoff.delay(record.attempt, luck), policy, now)
    return Settlement(found.event, found.after.evolve(settled_by=token), found.hand_off)
