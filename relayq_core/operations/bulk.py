"""Operations on many jobs, one at a time: each outcome is yielded as it happens, and the caller may stop in between."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from relayq_core.engine.paging import read_pages
from relayq_core.errors import InvalidOption, RelayQError, StoreError, UnreadableRow
from relayq_core.model import leases
from relayq_core.model.options import iterate_several, validate_queue
from relayq_core.model.record import JobRecord, Status, list_shards
from relayq_core.operations.jobs import Operations
from relayq_core.ports import Clock, Due, OperatorStore
from relayq_core.text import cut

#: `gone`: it had changed already. `running`: left alone. `refused`: nothing was changed, and `reason` says why.
What = Literal["redriven", "forgotten", "cancelled", "running", "gone", "refused"]

#: Rows that one read of the index returns; the jobs themselves are then read in one call.
_PAGE = 100
#: How often a paced operation looks whether to stop, milliseconds.
_LOOK_MS = 200
#: A table that refuses this many in a row will refuse the rest.
ERRORS_IN_A_ROW = 5
_SLOWEST, _FASTEST = 0.01, 1000

_Job = TypeVar("_Job", str, JobRecord)


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of one job."""

    job_id: str
    what: What
    reason: str = ""
    #: refused by the table, which may refuse the next as well, and not for what the job is
    by_table: bool = False


@dataclass(slots=True)
class Tally:
    """What became of many jobs: how many of each outcome, and which were refused and why."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[BulkOutcome] = field(default_factory=list)

    def add(self, outcome: BulkOutcome) -> None:
        """Count one."""
        self.counts[outcome.what] += 1
        if outcome.what == "refused":
            self.refused.append(outcome)

    @classmethod
    def of(cls, outcomes: Iterable[BulkOutcome]) -> Tally:
        """Carry out all of them, and count."""
        tally = cls()
        for outcome in outcomes:
            tally.add(outcome)
        return tally


def never_stop() -> bool:
    """Do not stop."""
    return False


class Bulk:
    """Redrive, forget and clear, each lazily: nothing is done before its outcome is asked for."""

    def __init__(self, operations: Operations, store: OperatorStore, clock: Clock) -> None:
        self._operations = operations
        self._store = store
        self._clock = clock

    def redrive(
        self, job_ids: Iterable[str], *, rate: float | None = None, stop: Callable[[], bool] = never_stop
    ) -> Iterator[BulkOutcome]:
        """Bring failed jobs back, at most `rate` a second, until `stop()`.

        One job that is refused does not keep the next from being brought back. A table that refuses five in a row
        does: StoreError.
        """
        return self._carry_out(iterate_several("job_ids", job_ids, "several ids"), self._redrive_one, rate, stop)

    def forget(
        self, job_ids: Iterable[str], *, rate: float | None = None, stop: Callable[[], bool] = never_stop
    ) -> Iterator[BulkOutcome]:
        """Delete failed jobs for good, at most `rate` a second, until `stop()`; else as redrive()."""
        return self._carry_out(iterate_several("job_ids", job_ids, "several ids"), self._forget_one, rate, stop)

    def clear(
        self,
        queue: str,
        *,
        rate: float | None = None,
        dry_run: bool = False,
        stop: Callable[[], bool] = never_stop,
    ) -> Iterator[BulkOutcome]:
        """Cancel what waits in a queue when this begins, and leave what runs; with `dry_run` only report it.

        Each is a conditional write, so that a job which is claimed before it runs on.
        """
        waiting = self._find_live(validate_queue(queue), self._clock.now() + leases.SKEW_MS)
        if dry_run:
            return (BulkOutcome(job.id, "cancelled" if job.status.is_waiting else "running") for job in waiting)
        return self._carry_out(waiting, self._cancel_one, rate, stop)

    # --- one job ---

    def _redrive_one(self, job_id: str) -> BulkOutcome:
        redriven = self._operations.redrive(job_id)
        return BulkOutcome(job_id, "gone" if redriven is None else "redriven")

    def _forget_one(self, job_id: str) -> BulkOutcome:
        return BulkOutcome(job_id, "forgotten" if self._operations.forget(job_id) else "gone")

    def _cancel_one(self, job: JobRecord) -> BulkOutcome:
        answer = self._operations.cancel_record(job, mark_running=False)
        if answer.done:
            return BulkOutcome(job.id, "cancelled")
        if answer.record is None or answer.record.status.is_ended:
            return BulkOutcome(job.id, "gone")
        if answer.record.status is Status.PROCESSING:
            return BulkOutcome(job.id, "running")
        if answer.record.is_newer:
            return BulkOutcome(job.id, "refused", "a newer version wrote the job, and only that can cancel it")
        return BulkOutcome(job.id, "refused", "it kept changing while it was being cancelled")

    # --- many ---

    def _find_live(self, queue: str, before: int) -> Iterator[JobRecord]:
        """Yield the live jobs of a queue that were dispatched before then, read consistently a page at a time."""
        for shard in list_shards(queue):
            for rows in read_pages(self._store, shard, limit=_PAGE):
                yield from self._read(rows, queue, before)

    def _read(self, rows: Iterable[Due], queue: str, before: int) -> Iterator[JobRecord]:
        for job in self._store.get_many(row.job_id for row in rows):
            if job.created_at <= before and job.queue == queue and not job.status.is_ended:
                yield job

    def _carry_out(
        self,
        jobs: Iterable[_Job],
        do: Callable[[_Job], BulkOutcome],
        rate: float | None,
        stop: Callable[[], bool],
    ) -> Iterator[BulkOutcome]:
        errors = 0
        for job in self._pace(jobs, _validate_rate(rate), stop):
            try:
                outcome = do(job)
                errors = 0
            except RelayQError as error:
                by_table = isinstance(error, StoreError) and not isinstance(error, UnreadableRow)
                outcome = BulkOutcome(job if isinstance(job, str) else job.id, "refused", cut(error, 500), by_table)
                errors = errors + 1 if by_table else 0
                if errors >= ERRORS_IN_A_ROW:
                    raise
            yield outcome

    def _pace(self, jobs: Iterable[_Job], rate: float | None, stop: Callable[[], bool]) -> Iterator[_Job]:
        """Yield each job at least 1/rate seconds after the one before: no burst makes up for what was slow."""
        interval = 0.0 if rate is None else 1000 / rate
        turn = float(self._clock.now())
        for job in jobs:
            while not stop() and (wait := math.ceil(turn - self._clock.now())) > 0:
                self._clock.sleep(min(wait, _LOOK_MS))
            if stop():
                return
            turn = max(turn, self._clock.now()) + interval
            yield job


def _validate_rate(rate: float | None) -> float | None:
    """Return the rate in jobs a second, from 0.01 to 1000, or None for no limit. Raises InvalidOption."""
    if rate is not None and not _SLOWEST <= rate <= _FASTEST:
        raise InvalidOption("rate", f"expected {_SLOWEST} to {_FASTEST} a second, got {rate:g}")
    return rate
