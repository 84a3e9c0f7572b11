"""Operations: what an operator does with jobs: find, cancel, redrive and forget them, and look at queues and health."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from relayq_core.engine.handoff import Handoffs
from relayq_core.engine.paging import read_pages
from relayq_core.engine.registration import Registrations
from relayq_core.engine.settler import Settler
from relayq_core.errors import InvalidOption, KeyTaken, StoreError, UnreadableRow
from relayq_core.events.listeners import Events
from relayq_core.jobs.context import log_fields
from relayq_core.model import settling
from relayq_core.model.options import validate_job_id, validate_queue
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, Status, list_shards
from relayq_core.operations import health as views
from relayq_core.operations.health import Health, LiveJobs, QueueView
from relayq_core.ports import Answer, Clock, Due, Handoff, OperatorStore
from relayq_core.process.loggers import logger

#: A row that changes under a cancel is read again; a row that changes this often does not do so by chance.
_CANCEL_TRIES = 10
#: To find jobs of one status, at most this many rows are looked at.
LIVE_LOOKED_AT = 10_000
#: This many at once, which is what one read of the table returns.
_LOOKED_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """A selection of failed jobs; a field that is None selects all."""

    queue: str | None = None
    #: the job's name
    job: str | None = None
    #: a part of its error's first 200 bytes, whatever its case
    error: str | None = None
    #: failed then or later, epoch milliseconds
    since: int | None = None

    def selects(self, failed: JobRecord) -> bool:
        """Return whether a job is selected, by what the list of failures shows of it."""
        return (
            (self.queue is None or failed.queue == self.queue)
            and (self.job is None or failed.name == self.job)
            and (self.error is None or self.error.casefold() in (failed.error or "").casefold())
            and not self.are_all_newer_than(failed)
        )

    def are_all_newer_than(self, failed: JobRecord) -> bool:
        """Return whether every selected job is newer: in a list with the newest first, none follows this one."""
        return self.since is not None and (failed.finished_at or 0) < self.since


class Operations:
    """Questions and single writes; none of them scans a table."""

    def __init__(
        self,
        store: OperatorStore,
        handoff: Handoff,
        clock: Clock,
        policy: Policy,
        events: Events,
        *,
        registrations: Registrations | None = None,
    ) -> None:
        self._store = store
        self._handoffs = Handoffs(handoff, events)
        self._settler = Settler(store, handoff, clock, policy, events)
        self._clock = clock
        self._policy = policy
        self._registrations = Registrations(store, clock) if registrations is None else registrations

    def get(self, job_id: str) -> JobRecord | None:
        """Return the job from the table that holds it, or None. A redrive may move it between two reads: read again."""
        job_id = validate_job_id(job_id)
        return self._store.get(job_id) or self._store.get_failed(job_id) or self._store.get(job_id)

    def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a waiting job; mark a running one, so that its failure ends it. Return the job after that, or None."""
        record = self.get(job_id)
        if record is not None and record.is_newer and not record.status.is_ended:
            logger.warning("a newer version wrote the job, and only that can cancel it", extra=log_fields(record))
        answer = self.cancel_record(record, mark_running=True)
        if answer.done or answer.record is None or answer.record.status.is_ended or answer.record.is_newer:
            return answer.record
        raise StoreError(f"job {job_id!r} kept changing while it was being cancelled", "try again")

    def cancel_record(self, record: JobRecord | None, *, mark_running: bool) -> Answer:
        """Cancel the job if it waits and, with `mark_running`, mark it if it runs.

        Return whether this call did so, with the job after that. What has ended, and what only a newer version can
        change, is left as it is; so is, in the end, a row that changes each time it is about to be written.
        """
        for _ in range(_CANCEL_TRIES):
            if record is None or record.status.is_ended or record.is_newer:
                break
            if record.status.is_waiting:
                if (cancelled := self._settler.cancel_waiting(record)) is not None:
                    return Answer(done=True, record=cancelled)
            elif not mark_running:
                break
            elif (answer := self._store.mark_cancelled(record, self._clock.now())).done:
                return answer
            record = self.get(record.id)
        return Answer(done=False, record=record)

    def redrive(self, job_id: str) -> JobRecord | None:
        """Bring a failed job back, with attempt 0 and the same id; None if it is not in the failed table.

        Raises KeyTaken when its unique key is another job's now.
        """
        failed = self._store.get_failed(validate_job_id(job_id))
        if failed is None:
            return None
        if failed.is_newer:
            raise StoreError(
                f"job {failed.id!r} needs what this version of RelayQ cannot do", "redrive it with a newer one"
            )
        settlement = settling.redrive(failed, self._policy, now=self._clock.now())
        self._registrations.register(failed.queue)
        added = self._store.redrive(failed, settlement)
        if added is None:
            return None
        if added.holder is not None:
            raise KeyTaken(failed.id, added.holder)
        if added.found is not None and added.found != settlement.after:  # equal: this very write, sent again
            return added.found
        if settlement.hand_off:
            self._handoffs.hand_off(settlement.after)
        return settlement.after

    def forget(self, job_id: str) -> bool:
        """Delete a failed job for good; False if there was none."""
        return self._store.forget(validate_job_id(job_id))

    def forget_queue(self, queue: str) -> bool:
        """Take a queue's name back, so that there is room for another; False if there is no such queue.

        It is swept for a day more, for what is on its way to it, and a dispatch to it makes it known again. Raises
        InvalidOption while it has jobs, live or failed.
        """
        queue = validate_queue(queue)
        self._refuse_to_forget(queue)
        self._registrations.drop(queue)
        if not self._store.forget_queue(queue):
            return False
        try:
            self._refuse_to_forget(queue)  # a job may have come in between
        except InvalidOption:
            self._store.register_queue(queue)
            raise
        return True

    def _refuse_to_forget(self, queue: str) -> None:
        if next(self._iterate_rows(queue, 0), None) is not None:
            raise InvalidOption(
                "queue", f"{queue!r} has jobs that wait or run; `relayq list --queue {queue}` shows them"
            )
        if next(self._store.list_failed(queue, 1), None) is not None:
            raise InvalidOption(
                "queue",
                f"{queue!r} has failed jobs, which could no longer be listed; `relayq failed forget --queue {queue}` "
                "deletes them",
            )

    def failed(self, queue: str | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Return failed jobs, newest first: of one queue, or of all. `payload` and `error` are heads; get() has all."""
        return list(islice(self.failures(Failures(queue=queue), page=limit), limit))

    def failures(self, selection: Failures, *, page: int = 100) -> Iterator[JobRecord]:
        """Yield the selected failed jobs, newest first, read `page` at a time from each queue as they are needed."""
        return (job for job, is_selected in self.looked_through(selection, page=page) if is_selected)

    def looked_through(
        self, selection: Failures, *, until: int | None = None, page: int = 100
    ) -> Iterator[tuple[JobRecord, bool]]:
        """Yield all that is read to find them, each with whether it is selected, for a caller that limits the reads.

        `until`: only what failed then or earlier, epoch milliseconds.
        """
        queues = self._store.list_queues() if selection.queue is None else [validate_queue(selection.queue)]
        newest_first = heapq.merge(
            *(self._store.list_failed(queue, page, until) for queue in queues),
            key=lambda job: job.finished_at or 0,
            reverse=True,
        )
        for job in newest_first:
            if selection.are_all_newer_than(job):
                return
            yield job, selection.selects(job) and self._is_kept(job)

    def _is_kept(self, failed: JobRecord) -> bool:
        """Return whether a failed job has not expired: TTL deletes days late, and the list does not show when.

        What is younger than this process's retention is shown. What is older is read, since the process that buried
        it may keep its failures for longer, and none that is kept may be hidden.
        """
        if (failed.finished_at or 0) + self._policy.failed_retention_ms > self._clock.now():
            return True
        try:
            return self._store.get_failed(failed.id) is not None
        except UnreadableRow:
            return True

    def find_live(self, queue: str | None = None, status: Status | None = None, *, limit: int = 100) -> LiveJobs:
        """Return jobs that wait or run, by when they are due.

        The index knows no status: with one, LIVE_LOOKED_AT rows are looked through at most, or `limit` if that is more.
        """
        queues = self._store.list_queues() if queue is None else [validate_queue(queue)]
        step = limit if status is None else max(limit, _LOOKED_AT_ONCE)
        rows = heapq.merge(*(self._iterate_shard(shard, step) for name in queues for shard in list_shards(name)))
        most, looked_at = max(limit, LIVE_LOOKED_AT), 0
        matching: dict[str, JobRecord] = {}
        while len(matching) < limit and (some := list(islice(rows, min(step, most - looked_at)))):
            looked_at += len(some)
            records = self._store.get_many(row.job_id for row in some)
            # a row that moves on while the index is read is met twice
            matching |= {record.id: record for record in records if status in (None, record.status)}
        jobs = sorted(matching.values(), key=lambda record: (record.due_at or 0, record.id))
        capped = len(jobs) > limit or next(rows, None) is not None
        return LiveJobs(jobs=tuple(jobs[:limit]), looked_at=looked_at, capped=capped)

    def queues(self, *, limit: int = 1000) -> list[QueueView]:
        """Return every queue at a glance, from the index alone."""
        return [self.queue(queue, limit=limit) for queue in self._store.list_queues()]

    def queue(self, queue: str, *, limit: int = 1000) -> QueueView:
        """Return one queue at a glance, from the index alone."""
        now = self._clock.now()
        rows = list(islice(self._iterate_rows(validate_queue(queue), limit), limit + 1))
        capped = len(rows) > limit
        overdue = [row.due_at for row in rows if row.due_at <= now]
        # shard after shard was counted, up to the limit; the oldest may be in one that was not reached
        first = (
            [row.due_at for shard in list_shards(queue) for row in self._store.list_due(shard, now, 1).rows]
            if capped
            else []
        )
        return QueueView(
            queue=queue,
            live=min(len(rows), limit),
            overdue=min(len(overdue), limit),
            oldest_due_age_ms=now - min(overdue + first, default=now),
            capped=capped,
        )

    def health(self, *, limit: int = 100) -> Health:
        """Return whether both tables answer, the sweeper ticks and nothing is long overdue. Counts stop at `limit`."""
        problems: list[str] = []
        try:
            tick, sweepers = self._store.read_last_tick(), self._store.list_sweepers()
            queues = self.queues(limit=limit)
        except (StoreError, UnreadableRow) as error:
            problems.append(str(error))
        try:
            self._store.get_failed("health")  # no such job: what matters is that the table says so
        except (StoreError, UnreadableRow) as error:
            problems.append(str(error))
        if problems:
            return views.report_unreachable(problems)
        return views.judge(queues, None if tick is None else tick[0], self._clock.now(), sweepers)

    def _iterate_shard(self, shard: str, page: int) -> Iterator[Due]:
        """Yield all rows of a shard, oldest first, read `page` at a time as they are asked for."""
        return chain.from_iterable(read_pages(self._store, shard, limit=min(page, 1000)))

    def _iterate_rows(self, queue: str, limit: int) -> Iterator[Due]:
        """Yield rows of each shard in turn, at most one more than the limit, which shows that there are more."""
        for shard in list_shards(queue):
            yield from islice(self._iterate_shard(shard, limit + 1), limit + 1)
