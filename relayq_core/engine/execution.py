"""Execution: what one invocation does with one claimed job, from the start of its handler to its settlement."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from relayq_core.engine.attempt import Attempt, build_failure, build_success, classify_error, run_to_completion
from relayq_core.engine.claiming import Invocation
from relayq_core.engine.results import RunOutcome, RunResult
from relayq_core.engine.settler import Settler
from relayq_core.errors import Bury, InvalidPayload, JobCrashed, JobTimeout, StoreError, is_a
from relayq_core.events.listeners import Events
from relayq_core.jobs.context import JobContext, enter_job, isolate, log_fields
from relayq_core.jobs.registry import JobType, RunnableJob
from relayq_core.model import bounds, leases, settling, sweeping
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import AttemptOutcome
from relayq_core.ports import Clock, RunnerStore
from relayq_core.process.deadline import OuterAlarm
from relayq_core.process.loggers import logger
from relayq_core.text import cut, describe_error, summarize_error

#: What a log line shows of an error, in bytes. RelayQ words it: a traceback of pydantic's would show the payload.
_LOGGED_BYTES = 2_000
#: A pseudo-random generator would be restored with its state in every clone of a snapshot: retries in step.
_dice = random.SystemRandom()


class HandlerDeadline(Protocol):
    """What stops a handler: process/deadline.py, the only one outside the tests."""

    def __call__(
        self, seconds: float, *, patience: float, last_words: Callable[[], object] = ...
    ) -> AbstractContextManager[None]:
        """Raise JobTimeout in the body after `seconds`; end the process if it still runs `patience` seconds later.

        `last_words` is called right before that, in another thread if at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What every execution of a runner uses."""

    store: RunnerStore
    clock: Clock
    policy: Policy
    events: Events
    settler: Settler
    deadline: HandlerDeadline


class Execution:
    """One claimed job in one invocation. `run` it once."""

    def __init__(self, parts: Parts, claimed: JobRecord, job_type: JobType, invocation: Invocation) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._policy = parts.policy
        self._invocation = invocation
        self._job_type = job_type
        self._bounds = bounds.resolve_bounds(claimed, job_type.options, parts.policy)
        #: as the row has it, so that a settlement writes what was capped
        self._claimed = claimed
        self._record = bounds.cap_attempts(claimed, self._bounds)
        #: the job as an object of its type, once it has been built
        self._job: RunnableJob | None = None

    def run(self) -> RunResult:
        """Call the handler unless something speaks against it, and settle the job. Raises StoreError."""
        now = self._clock.now()
        resumed = settling.resume(self._claimed, self._bounds, self._policy, now=now, draw=_dice.random())
        if resumed is not None:
            return self._settle(resumed)
        if not self._record.exhausted and bounds.would_fit_fresh(
            self._bounds.timeout_ms,
            waited_ms=self._invocation.waited_ms,
            remaining_ms=self._invocation.remaining(),
        ):
            return self._pass_on()
        refused = self._refuse()
        attempt = self._try_handler() if refused is None else refused
        # a job whose time was over before it was built, as by slow listeners, may be built for failed() yet
        can_build = refused is not None or self._job is not None or is_a(attempt.error, JobTimeout)
        if can_build and settling.will_bury(self._record, attempt.outcome, self._bounds):
            self._call_failed_hook(attempt.error)
        settlement = settling.settle(
            self._record, attempt.outcome, self._bounds, self._policy, now=self._clock.now(), draw=_dice.random()
        )
        return self._settle(settlement, attempt)

    def _settle(self, settlement: Settlement, attempt: Attempt | None = None) -> RunResult:
        return settle_run(self._parts.settler, self._claimed, settlement, self._invocation, attempt)

    def _pass_on(self) -> RunResult:
        """Give a job back, uncounted, whose own timeout lacks the time that was spent waiting for it here."""
        result = self._settle(settling.return_unfinished(self._record, self._policy, now=self._clock.now()))
        return RunResult(RunOutcome.HANDED_ON, result.job) if result.ended is RunOutcome.GIVEN_BACK else result

    # --- the handler ---

    def _refuse(self) -> Attempt | None:
        """Return the failure of a job whose handler is not to start, or None.

        Its last attempt crashed, or its timeout can never fit a runner like this.
        """
        error: Exception
        if self._record.exhausted:
            error = JobCrashed(self._record.attempt, _read_crash(self._record))
        elif (problem := bounds.explain_misfit(self._bounds, self._policy.runner_ms)) is not None:
            error = Bury(problem)
        else:
            return None
        return Attempt(build_failure(error, final=True), error)

    def _try_handler(self) -> Attempt:
        """Build the job and call its handler: the one place where whatever that raises becomes an outcome.

        All code that is not RelayQ's runs inside its time, the listeners too: none of it may outlive the lease.
        """
        started = self._clock.now()
        deadline_ms = leases.compute_handler_deadline(
            self._record, self._bounds, self._policy, now=started, remaining_ms=self._invocation.remaining()
        )
        seconds = (deadline_ms - started) / 1000
        last_words = functools.partial(self._write_last_words, seconds)
        error: BaseException | None = None
        outcome: AttemptOutcome
        try:
            with (
                enter_job(self._record),
                self._parts.deadline(seconds, patience=self._patience_seconds, last_words=last_words),
            ):
                wait_ms = max(0, started - self._record.available_at)
                self._parts.events.notify("started", self._record, wait_ms=wait_ms)
                if self._clock.now() >= deadline_ms:
                    raise JobTimeout(seconds)  # the listeners have used it up
                started = self._clock.now()
                outcome = isolate(self._handle, deadline_ms)
        except OuterAlarm:
            raise
        except BaseException as raised:
            # its own payload will not be better next time; one that the handler dispatched may be
            final = (Bury, InvalidPayload) if self._job is None else (Bury,)
            outcome, error = classify_error(raised, final=final)
        return Attempt(outcome, error, float(self._clock.now() - started))

    def _handle(self, deadline_ms: int) -> AttemptOutcome:
        job, ignored = self._job_type.build(self._record.payload_json)
        self._job = job
        if ignored:
            names = cut(", ".join(ignored), _LOGGED_BYTES)
            logger.warning("unknown fields ignored: %s", names, extra=log_fields(self._record))
        return build_success(
            run_to_completion(lambda: job.handle(functools.partial(self._build_context, deadline_ms))), self._record
        )

    def _build_context(self, deadline_ms: int) -> JobContext:
        record = self._record
        return JobContext(
            job_id=record.id,
            name=record.name,
            queue=record.queue,
            attempt=record.attempt,
            max_attempts=self._bounds.max_attempts,
            trace_id=record.trace_id,
            deadline_ms=deadline_ms,
            _now=self._clock.now,
            _report=self._report_progress,
        )

    def _report_progress(self, progress_json: str) -> bool:
        try:
            return self._parts.store.save_progress(self._record, progress_json)
        except StoreError as error:
            logger.warning("progress was not kept: %s", summarize_error(error), extra=log_fields(self._record))
            return False

    def _write_last_words(self, seconds: float) -> None:
        """Write why this process ends, while its lease lasts: its handler did not stop after `seconds`.

        It still runs at this moment, so the next attempt may not begin before this lease would have run out.
        """
        record = self._record
        error = JobCrashed(
            record.attempt,
            f"the runner of attempt {record.attempt} was ended: "
            f"its handler overran its time of {seconds:g} s and did not stop",
        )
        settlement = sweeping.release_overrun(
            record, error, self._bounds, self._policy, now=self._clock.now(), draw=_dice.random()
        )
        try:
            self._parts.settler.settle_silently(record, settlement)
        finally:
            logger.error("%s", error, extra=log_fields(record))

    # --- failed() ---

    def _call_failed_hook(self, error: BaseException | None) -> None:
        """Call the job's failed(), inside the lease. What it raises is logged and changes nothing."""
        record = self._record
        seconds = leases.compute_hook_seconds(
            record, self._policy, now=self._clock.now(), remaining_ms=self._invocation.remaining()
        )
        cause = JobCrashed(record.attempt) if error is None else error

        def call() -> None:
            job = self._build_for_hook() if self._job is None else self._job
            if job is not None:
                run_to_completion(lambda: job.failed(cause))

        try:
            with enter_job(record), self._parts.deadline(seconds, patience=self._patience_seconds / 5):
                isolate(call)
        except OuterAlarm:
            raise
        except BaseException as raised:
            problem = describe_error(raised, _LOGGED_BYTES)
            logger.error("the job's failed() raised %s", problem, extra=log_fields(record))

    def _build_for_hook(self) -> RunnableJob | None:
        try:
            return self._job_type.build(self._record.payload_json)[0]
        except JobTimeout:
            raise
        except BaseException as error:
            logger.warning("failed() is not called: the job cannot be built (%s)", summarize_error(error))
            return None

    @property
    def _patience_seconds(self) -> float:
        """Seconds that a handler may ignore its timeout: always inside the lease's grace."""
        return leases.compute_patience(self._policy) / 1000


def settle_run(
    settler: Settler,
    claimed: JobRecord,
    settlement: Settlement,
    invocation: Invocation,
    attempt: Attempt | None = None,
) -> RunResult:
    """Settle a job that was claimed in this invocation, and return how its run ended. Raises StoreError."""
    about: dict[str, Any] = {} if attempt is None else {"error": attempt.error, "duration_ms": attempt.duration_ms}
    written = settler.settle(claimed, settlement, remaining=invocation.remaining, **about)
    return discard_run(settler, claimed) if written is None else RunResult(_OUTCOMES[written.transition], written.after)


def discard_run(settler: Settler, claimed: JobRecord) -> RunResult:
    """Announce that another runner holds the job, and return that as the end of this run."""
    settler.announce_lost_lease(claimed)
    return RunResult(RunOutcome.LEASE_LOST, claimed)


def _read_crash(record: JobRecord) -> str | None:
    """Return how the job's last attempt crashed, if the row says so."""
    kind, _, sentence = (record.error or "").partition(": ")
    return sentence if kind == JobCrashed.__name__ else None


_OUTCOMES = {
    Transition.COMPLETE: RunOutcome.COMPLETED,
    Transition.RETRY: RunOutcome.RETRYING,
    Transition.SNOOZE: RunOutcome.SNOOZED,
    Transition.GIVE_BACK: RunOutcome.GIVEN_BACK,
    Transition.BURY: RunOutcome.FAILED,
    Transition.CANCEL: RunOutcome.CANCELLED,
}
