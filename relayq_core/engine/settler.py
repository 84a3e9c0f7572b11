"""Settler: the one place where a claimed job ends or goes back to its queue, and where that is announced."""

from __future__ import annotations

from collections.abc import Callable

from relayq_core.engine.handoff import Handoffs
from relayq_core.errors import LeaseLost, StoreUnavailable
from relayq_core.events.listeners import Events, JobEvent
from relayq_core.jobs.context import log_fields
from relayq_core.model import leases, settling
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.ports import Clock, Handoff, Settled, SettleStore
from relayq_core.process.budget import calls_within
from relayq_core.process.loggers import logger
from relayq_core.text import locate_error

#: Between two tries of a settle that DynamoDB did not answer.
_RETRY_MS = 1_000


class Settler:
    """Writes settlements. Whatever settles a job does it here: the runner, the sweeper, a worker, a cancel."""

    def __init__(self, store: SettleStore, handoff: Handoff, clock: Clock, policy: Policy, events: Events) -> None:
        self._store = store
        self._handoffs = Handoffs(handoff, events)
        self._clock = clock
        self._policy = policy
        self._events = events

    def settle(
        self,
        before: JobRecord,
        settlement: Settlement,
        *,
        error: BaseException | None = None,
        duration_ms: float | None = None,
        remaining: Callable[[], int] | None = None,
    ) -> Settlement | None:
        """Write what becomes of a claimed job, hand it off if it is to run again, and announce it.

        A job whose cancel was requested is written as cancelled instead, unless it succeeded. Return the settlement
        that was written, or None if `before.lease_id` no longer holds the job: then nothing was changed.

        `error` and `duration_ms` are announced with it. With `remaining`, the milliseconds that this invocation has
        left, a write that DynamoDB does not answer is repeated. Raises StoreError.
        """
        settled = self._write(before, settlement, remaining)
        if settled is Settled.CANCEL_REQUESTED:
            settlement = settling.cancel_instead(before, settlement, self._policy, now=self._clock.now())
            settled = self._write(before, settlement, remaining)
        if settled is not Settled.DONE:
            return None
        if settlement.hand_off:
            self._handoffs.hand_off(settlement.after)
        self._announce(settlement, error, duration_ms)
        return settlement

    def settle_silently(self, before: JobRecord, settlement: Settlement) -> None:
        """Write what becomes of a claimed job and do nothing else, in a process that ends in a moment."""
        self._store.settle(before, settlement)

    def cancel_waiting(self, record: JobRecord) -> JobRecord | None:
        """Cancel a job that waits, and announce it; None if it has changed since it was read. Raises StoreError."""
        settlement = settling.cancel(record, self._policy, now=self._clock.now())
        if not self._store.cancel_waiting(record, settlement):
            return None
        self._announce(settlement, None, None)
        return settlement.after

    def announce_lost_lease(self, record: JobRecord) -> None:
        """Log and emit that this runner's outcome is discarded: another one holds the job."""
        error = LeaseLost(record.id)
        logger.warning("%s", error, extra=log_fields(record))
        self._events.emit(JobEvent(kind="lease_lost", job=record, error=error))

    def _write(self, before: JobRecord, settlement: Settlement, remaining: Callable[[], int] | None = None) -> Settled:
        """Write it; if DynamoDB does not answer, write again for as long as the lease and the invocation last.

        The handler's work must not be repeated because DynamoDB was away for a moment, and each try recognises an
        earlier one.
        """
        if remaining is None:
            return self._store.settle(before, settlement)
        began = self._clock.now()
        lease_ends = began + leases.measure_lease(before, self._policy, now=began)
        while True:
            try:
                # not the lease's time: a settle that comes too late is refused, and says that the lease was lost
                with calls_within(max(remaining(), _RETRY_MS) / 1000):
                    return self._store.settle(before, settlement)
            except StoreUnavailable as error:
                if min(lease_ends - self._clock.now(), remaining()) <= _RETRY_MS:
                    raise
                logger.warning("the job could not be settled yet (%s); trying again", error, extra=log_fields(before))
                self._clock.sleep(_RETRY_MS)

    def _announce(self, settlement: Settlement, error: BaseException | None, duration_ms: float | None) -> None:
        """Write one log line and emit one event; a job that was given back has no event."""
        job = settlement.after
        fields = log_fields(job) if duration_ms is None else {**log_fields(job), "duration_ms": duration_ms}
        match settlement.transition:
            case Transition.COMPLETE:
                logger.info("job completed", extra=fields)
                self._events.notify("processed", job, duration_ms=duration_ms)
            case Transition.RETRY | Transition.RELEASE | Transition.BURY:
                problem = "no error" if error is None else locate_error(error)
                logger.warning("job failed: %s; %s", problem, _describe_next(settlement), extra=fields)
                will_retry = settlement.transition is not Transition.BURY
                self._events.emit(
                    JobEvent(kind="failed", job=job, duration_ms=duration_ms, error=error, will_retry=will_retry)
                )
            case Transition.SNOOZE:
                logger.info("job snoozed; %s", _describe_next(settlement), extra=fields)
                self._events.emit(JobEvent(kind="snoozed", job=job, duration_ms=duration_ms))
            case Transition.GIVE_BACK if error is not None:
                logger.warning("%s; given back, %s", error, _describe_next(settlement), extra=fields)
            case Transition.GIVE_BACK:
                logger.info("job given back; %s", _describe_next(settlement), extra=fields)
            case Transition.CANCEL:
                logger.info("job cancelled", extra=fields)
                self._events.emit(JobEvent(kind="cancelled", job=job, duration_ms=duration_ms))


def _describe_next(settlement: Settlement) -> str:
    """Say what happens to the job after this, as the end of a log line."""
    job = settlement.after
    if settlement.transition is Transition.BURY:
        return "it is in the failed table"
    again = f"it is tried again in {(job.available_at - job.updated_at) / 1000:g} s"
    return f"{again}, only to call failed()" if job.exhausted else again
