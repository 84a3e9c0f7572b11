"""Run: wait for the job's moment, claim it, perform it, settle it. One handoff, one job."""

from __future__ import annotations

import functools
import random
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from relayq_core.engine.attempt import Attempt, failure, outcome_of, ran, success
from relayq_core.engine.settler import Settler
from relayq_core.errors import (
    Bury,
    InvalidPayload,
    JobCrashed,
    JobTimeout,
    StoreError,
    UnknownJob,
    UnreadableRow,
    is_a,
)
from relayq_core.events.listeners import Events
from relayq_core.jobs.context import JobContext, enter_job, isolate, log_fields
from relayq_core.jobs.registry import JobType, Registry, RunnableJob
from relayq_core.model import bounds, leases, settling, sweeping
from relayq_core.model.bounds import Bounds
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Event, Settlement
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import Outcome, Snoozed
from relayq_core.ports import Clock, Handoff, JobStore
from relayq_core.process.deadline import OuterAlarm, deadline
from relayq_core.process.loggers import logger
from relayq_core.text import cut, describe_error, summarize_error

#: `failed()` and the settle come after the handler's deadline; this much of the invocation stays for the settle.
_SETTLE_MS = 3_000
#: What a log line shows of an error: told by RelayQ, since a traceback of pydantic's would show the payload.
_LOGGED_BYTES = 2_000
#: A claim that comes early by another machine's clock is made again; not for ever.
_CLAIMS = 3


#: A pseudo-random generator would be restored with its state in every clone of a snapshot: retries in step.
_dice = random.SystemRandom()


class Stop(Protocol):
    """What stops a handler: see deadline.py, the only one outside the tests."""

    def __call__(
        self, seconds: float, *, patience: float, last_words: Callable[[], object] = ...
    ) -> AbstractContextManager[None]:
        """Raise JobTimeout in the body after `seconds`; end what still runs `patience` seconds later.

        `last_words` is called right before that, in another thread if at all.
        """
        ...


class Ended(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    RETRYING = "retrying"
    SNOOZED = "snoozed"
    GIVEN_BACK = "given back"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: somebody else's, ended, or not there: a doubled or late handoff
    NOT_CLAIMED = "not claimed"
    #: too little time was left; handed off again
    HANDED_ON = "handed on"
    #: another runner holds the job now: this one's outcome was discarded
    LEASE_LOST = "lease lost"
    #: claimed, but the store could not be written: the lease will run out
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended, and the job as it then was, as far as this runner knows."""

    ended: Ended
    job: JobRecord | None = None


@dataclass(slots=True)
class _Claim:
    """A claim in the making: what is known of the job so far, and what the wait for it has taken."""

    job_id: str
    run_at: int
    name: str | None
    queue: str | None
    #: what the invocation had left when it began
    whole_ms: int
    waited_ms: int = 0


class Runner:
    """Runs one job per call. Once it has claimed it raises nothing but what an alarm of its caller's raises."""

    def __init__(
        self,
        store: JobStore,
        handoff: Handoff,
        clock: Clock,
        policy: Policy,
        registry: Registry,
        events: Events,
        *,
        stop: Stop = deadline,
    ) -> None:
        self._store = store
        self._handoff = handoff
        self._clock = clock
        self._policy = policy
        self._registry = registry
        self._events = events
        self._settler = Settler(store, handoff, clock, policy, events)
        self._stop = stop

    def run(
        self,
        job_id: str,
        run_at: int | None,
        remaining: Callable[[], int],
        name: str | None = None,
        queue: str | None = None,
    ) -> Ran:
        """Run the job, if it waits and its time has come or is near.

        `run_at` in epoch milliseconds; `remaining()` says how many milliseconds this invocation has left. `name` and
        `queue` are the job's as the handoff has them: hints, which may be wrong or missing.
        Raises StoreError, and only before the claim.
        """
        claim = _Claim(job_id, run_at or 0, name, queue, remaining())
        claimed = self._wait_and_claim(claim, remaining)
        return self._perform(claimed, claim.waited_ms, remaining) if isinstance(claimed, JobRecord) else Ran(claimed)

    def perform(self, claimed: JobRecord, remaining: Callable[[], int]) -> Ran:
        """Perform a job that somebody has claimed for this runner, and settle it. Never raises."""
        return self._perform(claimed, 0, remaining)

    def _perform(self, claimed: JobRecord, waited_ms: int, remaining: Callable[[], int]) -> Ran:
        if self._clock.now() >= leases.latest_deadline(claimed, self._policy):
            return self._lost(claimed)  # the claim's answer came when its lease was as good as over
        try:
            return isolate(self._perform_and_settle, claimed, waited_ms, remaining)
        except OuterAlarm as alarm:
            raise alarm.error from None
        except StoreError:
            logger.exception("the job could not be settled; its lease will run out", extra=log_fields(claimed))
        except Exception:
            logger.exception("a defect of RelayQ; the job's lease will run out", extra=log_fields(claimed))
        return Ran(Ended.UNSETTLED, claimed)

    # --- claim ---

    def _wait_and_claim(self, claim: _Claim, remaining: Callable[[], int]) -> JobRecord | Ended:
        """Sleep until the job's moment, without a lease: whoever dies asleep loses nothing. Then claim it."""
        lease_id = secrets.token_hex(8)  # made here: a snapshot of the process may be restored many times
        for _ in range(_CLAIMS):
            known = self._registry.get(claim.name) if claim.name is not None else None
            if (ended := self._wait(claim, self._longest(known), remaining)) is not None:
                return ended
            try:
                answer = self._store.claim(claim.job_id, self._lease(lease_id, known, remaining()))
            except UnreadableRow:
                logger.exception("the job's row makes no sense", extra={"job_id": claim.job_id})
                return Ended.NOT_CLAIMED
            if answer.done and answer.record is not None:
                return answer.record
            if answer.record is None or not answer.record.status.is_waiting:
                return Ended.NOT_CLAIMED
            # early by this clock: sleep the rest; of another name than was said: ask for the lease of that one
            claim.run_at, claim.name = answer.record.available_at, answer.record.name
        return Ended.NOT_CLAIMED

    def _wait(self, claim: _Claim, longest_ms: int | None, remaining: Callable[[], int]) -> Ended | None:
        """Sleep until the job's moment, if that is near; None once it may be claimed here."""
        early = max(0, claim.run_at - self._clock.now())
        if early > self._policy.max_wait_ms + leases.SKEW_MS:
            return Ended.NOT_CLAIMED  # the sweeper's
        if remaining() - early < leases.LEAST_TIME_MS:
            return self._hand_on(claim, claim.whole_ms - early)
        if early:
            self._clock.sleep(early)
            claim.waited_ms += early
        if bounds.is_better_fresh(longest_ms, waited_ms=claim.waited_ms, remaining_ms=remaining()):
            return self._hand_on(claim, claim.whole_ms)
        return None

    def _longest(self, known: JobType | None) -> int | None:
        """The longest timeout that may be asked for: the type's or, where that is not known, of all types."""
        if known is not None:
            return bounds.timeout_of(known.options, self._policy)
        timeouts = [bounds.timeout_of(each.options, self._policy) for each in self._registry.values()]
        return max((timeout for timeout in timeouts if timeout is not None), default=None)

    def _lease(self, lease_id: str, known: JobType | None, remaining_ms: int) -> Lease:
        types = self._registry.values() if known is None else (known,)
        longest = bounds.longest_timeout((each.options for each in types), self._policy)
        name = None if known is None else known.name
        return leases.lease(lease_id, self._clock.now(), remaining_ms, self._policy, longest, name)

    def _hand_on(self, claim: _Claim, fresh_ms: int) -> Ended:
        """Too little time is left here: let a fresh invocation do it, if one has time enough."""
        if fresh_ms < leases.LEAST_TIME_MS:
            logger.error(
                "this runner's timeout is too short to wait for the job and then run it; raise it to "
                "RELAYQ_MAX_WAIT_SECONDS plus the longest job's timeout plus 20 s",
                extra={"job_id": claim.job_id},
            )
            return Ended.NOT_CLAIMED
        try:
            self._handoff.offer(claim.job_id, claim.queue, claim.run_at, name=claim.name, here=True)
        except Exception as error:
            logger.warning("the handoff failed (%s); the sweeper will start the job", summarize_error(error))
            return Ended.NOT_CLAIMED
        return Ended.HANDED_ON

    # --- perform ---

    def _perform_and_settle(self, record: JobRecord, waited_ms: int, remaining: Callable[[], int]) -> Ran:
        job_type = self._registry.get(record.name)
        if job_type is None:
            return self._settle_unknown(record, remaining)
        limits = bounds.bounds_of(record, job_type.options, self._policy)
        resumed = settling.resumed(record, limits, self._policy, now=self._clock.now(), luck=_dice.random())
        if resumed is not None:
            return self._settle(record, resumed, Attempt(Snoozed(0)), remaining)
        claimed, record = record, bounds.bounded(record, limits)
        if not record.exhausted and bounds.is_better_fresh(
            limits.timeout_ms, waited_ms=waited_ms, remaining_ms=remaining()
        ):
            return self._pass_on(record, remaining)
        refused = self._refused(record, limits)
        attempt = refused or self._attempt(record, job_type, limits, remaining)
        # where its time was over before it was built, as by slow listeners, failed() may build it yet
        may_be_built = refused or attempt.job or is_a(attempt.error, JobTimeout)
        if settling.will_bury(record, attempt.outcome, limits) and may_be_built:
            self._tell_failed(attempt, job_type, record, remaining)
        settlement = settling.settle(
            record, attempt.outcome, limits, self._policy, now=self._clock.now(), luck=_dice.random()
        )
        # as the row has it, so that what was bounded is written too
        return self._settle(claimed, settlement, attempt, remaining)

    def _pass_on(self, record: JobRecord, remaining: Callable[[], int]) -> Ran:
        """Give a job back, uncounted, whose own timeout lacks the time that was spent waiting for it here."""
        settlement = settling.unfinished(record, self._policy, now=self._clock.now())
        ran = self._settle(record, settlement, Attempt(Snoozed(0)), remaining)
        return Ran(Ended.HANDED_ON, ran.job) if ran.ended is Ended.GIVEN_BACK else ran

    def _refused(self, record: JobRecord, limits: Bounds) -> Attempt | None:
        """The handler is not to be started: its last attempt crashed, or its timeout can never fit here."""
        error: Exception
        if record.exhausted:
            error = JobCrashed(record.attempt, _crash(record))
        elif (problem := bounds.never_fits(limits, self._policy.runner_ms)) is not None:
            error = Bury(problem)
        else:
            return None
        return Attempt(failure(error, final=True), error)

    def _attempt(self, record: JobRecord, job_type: JobType, limits: Bounds, remaining: Callable[[], int]) -> Attempt:
        """Build the job and run its handler: the one place where whatever it raises becomes an outcome.

        All code that is not RelayQ's runs inside its time, the listeners too: none of it may outlive the lease.
        """
        started = self._clock.now()
        deadline_ms = leases.handler_deadline(record, limits, self._policy, started, remaining())
        seconds = (deadline_ms - started) / 1000
        make_context = functools.partial(self._context, record, limits, deadline_ms)
        last_words = functools.partial(self._last_words, record, limits, seconds)
        made: list[RunnableJob] = []
        error: BaseException | None = None
        outcome: Outcome

        def handled() -> Outcome:
            job, ignored = job_type.build(record.payload_json)
            made.append(job)
            if ignored:
                named = cut(", ".join(ignored), _LOGGED_BYTES)
                logger.warning("unknown fields ignored: %s", named, extra=log_fields(record))
            return success(ran(lambda: job.handle(make_context)), record)

        try:
            with enter_job(record), self._stop(seconds, patience=self._patience, last_words=last_words):
                self._events.notify("started", record, wait_ms=max(0, started - record.available_at))
                if self._clock.now() >= deadline_ms:
                    raise JobTimeout(seconds)  # its listeners have used it up
                started = self._clock.now()
                outcome = isolate(handled)
        except OuterAlarm:
            raise
        except BaseException as raised:
            # its own payload will not be better next time; one that the handler dispatched may be
            outcome, error = outcome_of(raised, final=(Bury,) if made else (Bury, InvalidPayload))
        return Attempt(outcome, error, made[0] if made else None, float(self._clock.now() - started))

    def _last_words(self, record: JobRecord, limits: Bounds, seconds: float) -> None:
        """Write down why this process ends, while its lease lasts: its handler would not stop.

        It still runs at this moment. So the next attempt may not begin before this lease would have run out.
        """
        error = JobCrashed(
            record.attempt,
            f"the runner of attempt {record.attempt} was ended: "
            f"its handler overran its time of {seconds:g} s and did not stop",
        )
        try:
            self._settler.settle_silently(
                record,
                sweeping.overrun(record, error, limits, self._policy, now=self._clock.now(), luck=_dice.random()),
            )
        finally:
            logger.error("%s", error, extra=log_fields(record))

    def _context(self, record: JobRecord, limits: Bounds, deadline_ms: int) -> JobContext:
        def report(progress_json: str) -> bool:
            try:
                return self._store.save_progress(record, progress_json)
            except StoreError as error:
                logger.warning("progress was not kept: %s", summarize_error(error), extra=log_fields(record))
                return False

        return JobContext(
            job_id=record.id,
            name=record.name,
            queue=record.queue,
            attempt=record.attempt,
            max_attempts=limits.max_attempts,
            trace_id=record.trace_id,
            deadline_ms=deadline_ms,
            _now=self._clock.now,
            _report=report,
        )

    def _tell_failed(
        self, attempt: Attempt, job_type: JobType, record: JobRecord, remaining: Callable[[], int]
    ) -> None:
        """Call the job's failed(), inside the lease. What it raises is logged, and changes nothing."""
        lasts = leases.lease_lasts(record, self._policy, now=self._clock.now()) - self._policy.grace_ms // 5
        seconds = max(0.1, min(lasts, remaining() - _SETTLE_MS) / 1000)
        error = JobCrashed(record.attempt) if attempt.error is None else attempt.error

        def told() -> None:
            job = attempt.job or self._built(record, job_type)
            if job is not None:
                ran(lambda: job.failed(error))

        try:
            with enter_job(record), self._stop(seconds, patience=self._patience / 5):
                isolate(told)
        except OuterAlarm:
            raise
        except BaseException as raised:
            logger.error(
                "the job's failed() raised %s", describe_error(raised, _LOGGED_BYTES), extra=log_fields(record)
            )

    def _built(self, record: JobRecord, job_type: JobType) -> RunnableJob | None:
        try:
            return job_type.build(record.payload_json)[0]
        except JobTimeout:
            raise
        except BaseException as unbuilt:
            logger.warning("failed() is not told: the job cannot be built (%s)", summarize_error(unbuilt))
            return None

    @property
    def _patience(self) -> float:
        """Seconds a handler may ignore its timeout: always inside the lease's grace."""
        return leases.patience(self._policy) / 1000

    # --- settle ---

    def _settle_unknown(self, record: JobRecord, remaining: Callable[[], int]) -> Ran:
        """No job of this name is registered here: a deploy may be under way, so give it back for a while."""
        unknown = UnknownJob(record.name, self._registry)
        settlement = settling.give_back(record, self._policy, now=self._clock.now())
        if settlement is None:
            told = failure(unknown, final=True)
            settlement = settling.bury_with(record, told.error, told.headline, self._policy, now=self._clock.now())
        return self._settle(record, settlement, Attempt(failure(unknown, final=True), unknown), remaining)

    def _settle(self, record: JobRecord, settlement: Settlement, attempt: Attempt, remaining: Callable[[], int]) -> Ran:
        written = self._settler.settle(
            record, settlement, error=attempt.error, duration_ms=attempt.duration_ms, remaining=remaining
        )
        return self._lost(record) if written is None else Ran(_ENDED[written.event], written.after)

    def _lost(self, record: JobRecord) -> Ran:
        self._settler.announce_lost_lease(record)
        return Ran(Ended.LEASE_LOST, record)


def _crash(record: JobRecord) -> str | None:
    """How its last attempt ended, if the row says so."""
    kind, _, sentence = (record.error or "").partition(": ")
    return sentence if kind == JobCrashed.__name__ else None


_ENDED = {
    Event.COMPLETE: Ended.COMPLETED,
    Event.RETRY: Ended.RETRYING,
    Event.SNOOZE: Ended.SNOOZED,
    Event.GIVE_BACK: Ended.GIVEN_BACK,
    Event.BURY: Ended.FAILED,
    Event.CANCEL: Ended.CANCELLED,
}
