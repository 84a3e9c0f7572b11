"""A store in memory, held to the same contract as the one on DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.errors import UnreadableRow, refuse_queue
from relayq_core.model import leases, lifecycle, queues, settling
from relayq_core.model.budgets import ERROR_HEAD_BYTES
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.record import CAN, JobRecord, Status, compute_shard
from relayq_core.ports import Added, Answer, Clock, Due, Page, Settled
from relayq_core.text import take_head


@dataclass(frozen=True, slots=True)
class _Key:
    """The job that has a unique key, and until when (epoch seconds); None: until its job ends."""

    job_id: str
    expires_at: int | None


class _Tables:
    """The two tables and the unique keys, behind one lock."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._queues: set[str] = set()
        #: queue -> when it was forgotten
        self._forgotten: dict[str, int] = {}
        self._spoilt: set[str] = set()
        self._tick: tuple[int, dict[str, int]] | None = None
        self._sweepers: tuple[str, ...] = ()
        self.jobs: dict[str, JobRecord] = {}
        self.failures: dict[str, JobRecord] = {}
        self._keys: dict[str, _Key] = {}

    # --- rows ---

    def _read(self, row: JobRecord) -> JobRecord:
        """Return the row, expired or not. Raises UnreadableRow."""
        if row.id in self._spoilt:
            raise UnreadableRow(row.id, "it was spoilt by a test", due_at=row.due_at)
        return row

    def _has_expired(self, expires_at: int | None) -> bool:
        """Return whether a row counts as gone, though it is still here."""
        return expires_at is not None and expires_at <= self._clock.now() // 1000

    # --- leases and keys ---

    def _holder(self, record: JobRecord) -> str | None:
        """Return the id of the other job that has the record's unique key, or None."""
        key = None if record.unique_pk is None else self._keys.get(record.unique_pk)
        if key is None or key.job_id == record.id or not self._is_held(key):
            return None
        return key.job_id

    def _is_held(self, key: _Key) -> bool:
        """Return whether its window is open. A key without one is held until its job ends, released or not."""
        if key.expires_at is not None:
            return not self._has_expired(key.expires_at)
        job = self.jobs.get(key.job_id)
        return job is not None and not job.status.is_ended

    def _put(self, record: JobRecord) -> None:
        self.jobs[record.id] = record
        self._spoilt.discard(record.id)
        if record.unique_pk is not None:
            window = record.unique_for_ms
            ends = None if window is None else settling.compute_expiry(self._clock.now() + window)
            self._keys[record.unique_pk] = _Key(record.id, ends)

    @staticmethod
    def _is_able(row: JobRecord) -> bool:
        """Return whether this version may change the row: it needs no more than this one can do."""
        return (row.needs or 0) <= CAN

    @staticmethod
    def _holds(row: JobRecord, before: JobRecord) -> bool:
        return row.status is Status.PROCESSING and row.lease_id == before.lease_id is not None

    def _release_key(self, record: JobRecord) -> None:
        """Release a key that is held until its job ends, if it is still this job's."""
        if record.holds_key and record.unique_pk is not None:
            key = self._keys.get(record.unique_pk)
            if key is not None and key.job_id == record.id:
                del self._keys[record.unique_pk]


class _Queues(_Tables):
    """QueueStore in memory."""

    def register_queue(self, queue: str) -> None:
        with self._lock:
            if queue not in self._queues and len(self._queues) >= queues.MOST_QUEUES:
                raise refuse_queue(queue, queues.MOST_QUEUES)
            self._queues.add(queue)

    def forget_queue(self, queue: str) -> bool:
        with self._lock:
            if queue not in self._queues:
                return False
            self._queues.remove(queue)
            self._forgotten[queue] = self._clock.now()
            return True

    def list_queues(self) -> list[str]:
        since = self._clock.now() - queues.FORGOTTEN_MS
        return sorted(self._queues | {queue for queue, at in self._forgotten.items() if at > since})


class _Dispatches(_Tables):
    """DispatchStore in memory."""

    def add(self, record: JobRecord) -> Added:
        with self._lock:
            row = self.jobs.get(record.id)
            if row is not None and not self._has_expired(row.expires_at):
                return Added(found=self._read(row))
            if (holder := self._holder(record)) is not None:
                return Added(holder=holder)
            self._put(record)
            return Added()

    def add_many(self, records: Sequence[JobRecord]) -> list[bool]:
        return [self.add(record) == Added() for record in records]

    def find_holder(self, unique_pk: str) -> str | None:
        with self._lock:
            key = self._keys.get(unique_pk)
            return key.job_id if key is not None and self._is_held(key) else None


class _Claims(_Tables):
    """ClaimStore in memory."""

    def claim(self, job_id: str, lease: Lease) -> Answer:
        with self._lock:
            record = self.jobs.get(job_id)
            if record is None:
                return Answer(False)
            row = self._read(record)
            if not self._is_able(row):
                return Answer(False, row)
            if not leases.is_claimable(row, now=lease.now, name=lease.name):
                return Answer(row.lease_id == lease.id, row)
            self.jobs[job_id] = leases.claim(row, lease)
            return Answer(True, self.jobs[job_id])

    def renew_lease(self, before: JobRecord, lease_until: int) -> bool:
        with self._lock:
            row = self.jobs.get(before.id)
            if row is None or not self._holds(row, before):
                return False
            self.jobs[row.id] = row.evolve(lease_until=lease_until)
            return True

    def save_progress(self, before: JobRecord, progress_json: str) -> bool:
        with self._lock:
            row = self.jobs.get(before.id)
            if row is None or not self._holds(row, before):
                return False
            self.jobs[row.id] = row.evolve(progress_json=progress_json, updated_at=self._clock.now())
            return True


class _Settlements(_Tables):
    """SettleStore in memory."""

    def settle(self, before: JobRecord, settlement: Settlement) -> Settled:
        after = settlement.after
        with self._lock:
            if settlement.transition is Transition.BURY:
                return self._bury(before, after)
            if not settlement.keeps_row:
                return self._complete_and_delete(before)
            refusal = self._refusal(before, settlement.transition, after.settled_by)
            return refusal or self._write(before, after)

    def _complete_and_delete(self, before: JobRecord) -> Settled:
        if before.id not in self.jobs:
            return Settled.DONE  # an earlier try of this very write
        if (refusal := self._refusal(before, Transition.COMPLETE, None)) is not None:
            return refusal
        self._release_key(before)
        self._delete(before.id)
        return Settled.DONE

    def _bury(self, before: JobRecord, after: JobRecord) -> Settled:
        if before.id not in self.jobs:
            failed = self.failures.get(before.id)
            is_there = failed is not None and not self._has_expired(failed.expires_at)
            is_mine = is_there and failed is not None and failed.settled_by == after.settled_by
            return Settled.DONE if is_mine else Settled.LOST
        if (refusal := self._refusal(before, Transition.BURY, after.settled_by)) is not None:
            return refusal
        self._release_key(before)
        row = self.jobs[before.id]
        # as the row is by now: progress is written after the claim; of an unreadable row, what can be read
        self.failures[before.id] = (
            after.evolve(progress_json=row.progress_json, extra=row.extra)
            if row.id in self._spoilt
            else row.evolve(**lifecycle.find_changes(before, after))
        )
        self._delete(before.id)
        return Settled.DONE

    def _refusal(self, before: JobRecord, transition: Transition, settled_by: str | None) -> Settled | None:
        """Return why a settle under `before.lease_id` is refused, or None if it is not.

        Only the holder of the lease may settle. Once a cancel was requested, only a success or the cancel is accepted.
        """
        row = self.jobs.get(before.id)
        if row is None:
            return Settled.LOST
        is_held = self._holds(row, before) and self._is_able(row)
        is_marked = row.cancel_requested_at is not None
        if is_held and not (is_marked and transition in lifecycle.YIELDS_TO_CANCEL):
            return None
        if settled_by is not None and row.settled_by == settled_by:
            return Settled.DONE  # an earlier try of this very write
        return Settled.CANCEL_REQUESTED if is_held else Settled.LOST

    def _write(self, before: JobRecord, after: JobRecord) -> Settled:
        """Change what the settlement changes, and keep what others have written since the claim."""
        changes = lifecycle.find_changes(before, after)
        self.jobs[before.id] = self.jobs[before.id].evolve(**changes)
        if "attempt" in changes:
            self._spoilt.discard(before.id)
        if after.status.is_ended:
            self._release_key(before)
        return Settled.DONE

    def _delete(self, job_id: str) -> None:
        del self.jobs[job_id]
        self._spoilt.discard(job_id)

    def cancel_waiting(self, before: JobRecord, settlement: Settlement) -> bool:
        with self._lock:
            row = self.jobs.get(before.id)
            if row is None or not row.status.is_waiting or row.attempt != before.attempt or row.id in self._spoilt:
                return False
            if not self._is_able(row):
                return False
            return self._write(before, settlement.after) is Settled.DONE

    def mark_cancelled(self, before: JobRecord, now: int) -> Answer:
        with self._lock:
            row = self.jobs.get(before.id)
            if row is None:
                return Answer(False)
            if not self._holds(row, before) or not self._is_able(row):
                return Answer(False, self._read(row))
            self.jobs[row.id] = row.evolve(cancel_requested_at=now)
            return Answer(True, self._read(self.jobs[row.id]))


class _Sweeps(_Tables):
    """SweepStore and TickStore in memory."""

    def list_due(self, shard: str, until: int, limit: int, cursor: object | None = None) -> Page:
        with self._lock:
            rows = sorted(
                Due(row.due_at, row.id, row.queue)
                for row in self.jobs.values()
                if row.due_at is not None and row.due_at <= until and compute_shard(row.queue, row.id) == shard
            )
        rest = rows if cursor is None else [row for row in rows if (row.due_at, row.job_id) > cursor]  # type: ignore[operator]
        page = tuple(rest[:limit])
        return Page(page, (page[-1].due_at, page[-1].job_id) if len(rest) > limit else None)

    def nudge(self, row: Due, nudges: int, due_at: int) -> Answer:
        with self._lock:
            record = self.jobs.get(row.job_id)
            if record is None:
                return Answer(False)
            if record.due_at != row.due_at or not record.status.is_waiting or record.nudges != nudges:
                return Answer(False, self._read(record))
            self.jobs[record.id] = record.evolve(due_at=due_at, nudges=nudges + 1)
            return Answer(True, self._read(self.jobs[record.id]))

    def postpone(self, row: Due, due_at: int) -> bool:
        with self._lock:
            record = self.jobs.get(row.job_id)
            if record is None or record.due_at != row.due_at:
                return False
            self.jobs[record.id] = record.evolve(due_at=due_at)
            return True

    def record_tick(self, at: int, counts: dict[str, int], by: str = "") -> None:
        with self._lock:
            self._tick = (at, dict(counts))
            if by:
                self._sweepers = (self._sweepers[-1] if self._sweepers else by, by)

    def list_sweepers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._sweepers))

    def read_last_tick(self) -> tuple[int, dict[str, int]] | None:
        return self._tick


class _Reads(_Tables):
    """ReadStore in memory."""

    def get(self, job_id: str) -> JobRecord | None:
        with self._lock:
            row = self.jobs.get(job_id)
            return None if row is None or self._has_expired(self._read(row).expires_at) else row

    def get_many(self, job_ids: Iterable[str]) -> list[JobRecord]:
        with self._lock:
            readable = [job_id for job_id in dict.fromkeys(job_ids) if job_id not in self._spoilt]
            return [row for job_id in readable if (row := self.get(job_id)) is not None]

    def get_failed(self, job_id: str) -> JobRecord | None:
        with self._lock:
            row = self.failures.get(job_id)
            return None if row is None or self._has_expired(row.expires_at) else row

    def list_failed(self, queue: str, limit: int, until: int | None = None) -> Iterator[JobRecord]:
        with self._lock:
            rows = [row for row in self.failures.values() if row.queue == queue]
            heads = [_head(row) for row in rows if until is None or (row.finished_at or 0) <= until]
        yield from sorted(heads, key=lambda row: row.finished_at or 0, reverse=True)


class _Failures(_Tables):
    """FailureStore in memory."""

    def redrive(self, failed: JobRecord, settlement: Settlement) -> Added | None:
        after = settlement.after
        with self._lock:
            row = self.jobs.get(after.id)
            if row is not None and not self._has_expired(row.expires_at):
                return Added(found=self._read(row))
            failure = self.failures.get(failed.id)
            if failure is None or failure.settled_by != failed.settled_by or not self._is_able(failure):
                return None
            if (holder := self._holder(after)) is not None:
                return Added(holder=holder)
            del self.failures[failed.id]
            self._put(after)
            return Added()

    def forget(self, job_id: str) -> bool:
        with self._lock:
            return self.failures.pop(job_id, None) is not None


class MemoryStore(_Queues, _Dispatches, _Claims, _Settlements, _Sweeps, _Reads, _Failures):
    """JobStore in memory. The same contract tests hold for it and for the store on DynamoDB.

    Every method is atomic, so threads may share a store. `jobs` and `failures` are the two tables, for a test to read.
    """

    def spoil(self, job_id: str) -> None:
        """Make the row of a job unreadable, as an edit of its `attempt` by hand might.

        It can still be written, and is readable again once its attempt has been written.
        """
        self._spoilt.add(job_id)


def _head(record: JobRecord) -> JobRecord:
    """Return a failed job as the list shows it: no payload, the head of its error, one time for all."""
    at = record.finished_at or 0
    return JobRecord(
        id=record.id,
        name=record.name,
        queue=record.queue,
        status=Status.FAILED,
        attempt=record.attempt,
        error=take_head(record.error or "", ERROR_HEAD_BYTES),
        created_at=at,
        updated_at=at,
        available_at=at,
        finished_at=at,
    )
