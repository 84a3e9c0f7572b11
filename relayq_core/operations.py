"""Operations: what an operator asks of the jobs: where is it, cancel it, bring it back, forget it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from relayq_core import lifecycle
from relayq_core.errors import KeyTaken, StoreError
from relayq_core.events import Events, JobEvent
from relayq_core.handing import hand_off
from relayq_core.lifecycle import Policy
from relayq_core.options import checked_job_id, checked_queue
from relayq_core.ports import Clock, Due, Handoff, JobStore
from relayq_core.record import JobRecord, Status, shards_of

#: A row that changes under a cancel is looked at again; so often, it is not chance any more.
_CANCEL_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue at a glance. Counts stop at `limit`: `capped` says that there are more."""

    queue: str
    live: int
    overdue: int
    #: how long the oldest overdue row has been due, milliseconds
    oldest_due_age_ms: int
    capped: bool


class Operations:
    """Questions and single writes; none of them scans a table."""

    def __init__(self, store: JobStore, handoff: Handoff, clock: Clock, policy: Policy, events: Events) -> None:
        self._store = store
        self._handoff = handoff
        self._clock = clock
        self._policy = policy
        self._events = events

    def get(self, job_id: str) -> JobRecord | None:
        """The job from whichever table holds it, or None. A redrive may pass between the two: look twice."""
        job_id = checked_job_id(job_id)
        return self._store.get(job_id) or self._store.get_failed(job_id) or self._store.get(job_id)

    def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a waiting job; mark a running one, so that its failure ends it. The job as it then is, or None."""
        for _ in range(_CANCEL_TRIES):
            record = self.get(job_id)
            if record is None or record.status.is_ended:
                return record
            now = self._clock.now()
            if record.status is Status.PROCESSING:
                answer = self._store.mark_cancelled(record, now)
                if answer.done:
                    return answer.record
                continue
            settlement = lifecycle.cancel(record, self._policy, now=now)
            if self._store.cancel_waiting(record, settlement):
                self._events.emit(JobEvent(kind="cancelled", job=settlement.after))
                return settlement.after
        raise StoreError(f"job {job_id!r} kept changing while it was being cancelled", "try again")

    def redrive(self, job_id: str) -> JobRecord | None:
        """Bring a failed job back, with attempt 0 and the same id; None if it is not in the failed table.

        Raises KeyTaken when its unique key is another job's now.
        """
        failed = self._store.get_failed(checked_job_id(job_id))
        if failed is None:
            return None
        settlement = lifecycle.redrive(failed, self._policy, now=self._clock.now())
        self._store.register_queue(failed.queue)
        added = self._store.redrive(failed, settlement)
        if added is None:
            return None
        if added.holder is not None:
            raise KeyTaken(failed.id, added.holder)
        if added.found is not None and added.found != settlement.after:  # equal: this very write, sent again
            return added.found
        if settlement.hand_off:
            hand_off(self._handoff, self._events, settlement.after, settlement.run_at)
        return settlement.after

    def forget(self, job_id: str) -> bool:
        """Delete a failed job for good; False if there was none."""
        return self._store.forget(checked_job_id(job_id))

    def failed(self, queue: str | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Failed jobs, newest first: of one queue, or of all. `payload` and `error` are heads; get() has all."""
        queues = self._store.queues() if queue is None else [checked_queue(queue)]
        found = [record for name in queues for record in islice(self._store.failed(name, limit), limit)]
        return sorted(found, key=lambda record: record.finished_at or 0, reverse=True)[:limit]

    def live(self, queue: str | None = None, status: Status | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Jobs that wait or run, by when they are due."""
        queues = self._store.queues() if queue is None else [checked_queue(queue)]
        rows = sorted(row for name in queues for row in self._rows(name, _FOR_EVER, limit))
        records = self._store.get_many(row.job_id for row in rows)
        found = [record for record in records if status is None or record.status is status]
        return sorted(found, key=lambda record: (record.due_at or 0, record.id))[:limit]

    def queues(self, *, limit: int = 1000) -> list[QueueView]:
        """Every queue, from the index alone."""
        return [self._view(queue, limit) for queue in self._store.queues()]

    def _view(self, queue: str, limit: int) -> QueueView:
        now = self._clock.now()
        rows = list(islice(self._rows(queue, _FOR_EVER, limit), limit + 1))
        overdue = [row.due_at for row in rows if row.due_at <= now]
        return QueueView(
            queue=queue,
            live=min(len(rows), limit),
            overdue=min(len(overdue), limit),
            oldest_due_age_ms=now - min(overdue, default=now),
            capped=len(rows) > limit,
        )

    def _rows(self, queue: str, until: int, limit: int) -> Iterator[Due]:
        for shard in shards_of(queue):
            cursor: object | None = None
            seen = 0
            while seen <= limit:
                page = self._store.due(shard, until, min(limit + 1, 1000), cursor)
                yield from page.rows
                seen += len(page.rows)
                if (cursor := page.cursor) is None:
                    break


_FOR_EVER = 10**15
