"""Worker: find what is due, claim it, have a process run it, and renew its lease until it has ended."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from relayq_core.client import RelayQ
from relayq_core.engine.results import RunOutcome
from relayq_core.engine.settler import Settler
from relayq_core.errors import JobCrashed, StoreError, StoreUnavailable, UnreadableRow
from relayq_core.jobs.context import log_fields
from relayq_core.model import leases, settling
from relayq_core.model.options import iterate_several
from relayq_core.model.record import JobRecord, list_shards
from relayq_core.ports import Due, WorkerStore
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error
from relayq_core.worker.child import Report
from relayq_core.worker.pool import ProcessExit, Slots

#: Workers that were forked together must not read the shards in the same order.
_dice = random.SystemRandom()
#: Between two polls of an idle worker, seconds: twice as long each time, up to the last.
_FIRST_PAUSE = 0.05
_LAST_PAUSE = 1.0
#: A lease is renewed when a third of it has passed; a handler whose lease cannot be renewed is ended before it is over.
_RENEW_MS = leases.RENEWED_MS // 3
_RENEW_AGAIN_MS = 2_000
#: A call of the store: four tries of the SDK, each with a second to connect and three to answer, and its pauses.
_LONGEST_CALL_MS = 25_000
#: The list of queues is read again this often.
_QUEUES_MS = 15_000


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """What a worker reports about a job: `started`, a run's outcome, `crashed` or `interrupted`."""

    what: str
    job: JobRecord
    #: milliseconds since it was started here
    took_ms: int = 0


@dataclass(slots=True)
class _HeldJob:
    """A job that runs here: its claim, when its lease ends, and when to renew it."""

    job: JobRecord
    until: int
    renew_at: int


class Worker:
    """Runs jobs of some queues in processes of its own, beside any number of other workers and runners.

    `stopping()` returns how many times it was asked to stop: after the first it finishes the jobs that it has, after
    the second it ends their handlers and gives the jobs back. `notify` is called at each start and end.
    """

    def __init__(
        self,
        relayq: RelayQ,
        slots: Slots,
        *,
        stopping: Callable[[], int],
        notify: Callable[[WorkerEvent], None] = lambda event: None,
    ) -> None:
        self._store: WorkerStore = relayq.store
        self._clock = relayq.clock
        self._policy = relayq.policy
        self._settler = Settler(relayq.store, relayq.handoff, relayq.clock, relayq.policy, relayq.events)
        self._rows = relayq.sweeper.rows
        self._slots = slots
        self._stopping = stopping
        self._notify = notify
        self._held: dict[str, _HeldJob] = {}
        #: 1 once `notify` has failed
        self._notify_failed = 0
        #: an error that trying again will not mend, such as a missing permission
        self._refusal: StoreError | None = None
        self._known: tuple[int, list[str]] | None = None
        self.counts: Counter[str] = Counter()

    def work(self, queues: Sequence[str] = (), *, most: int | None = None, once: bool = False) -> Counter[str]:
        """Run jobs until it is stopped; return how many ended in which way.

        `queues` in order of priority; none means all. It leaves after `most` jobs and, with `once`, as soon as nothing
        is due. Raises StoreError for an error that trying again will not mend, when the jobs that run have ended.
        """
        try:
            return self._work(list(iterate_several("queues", queues, "names of queues")), most, once=once)
        except BaseException:
            self._give_all_back()  # whatever has happened, their leases would no longer be renewed
            raise

    def _work(self, queues: Sequence[str], most: int | None, *, once: bool) -> Counter[str]:
        pause = _FIRST_PAUSE
        started = 0
        while True:
            stopping = max(self._stopping(), self._notify_failed, int(self._refusal is not None))
            if stopping > 1:
                self._give_all_back()
            room = 0 if stopping else self._count_free(most, started)
            count, read_all = self._take(queues, room) if room else (0, False)
            started += count
            pause = _FIRST_PAUSE if count else min(2 * pause, _LAST_PAUSE)
            if not self._held and (stopping or started == most or (once and read_all and not count)):
                if self._refusal is not None:
                    raise self._refusal
                return self.counts
            self._collect_reports(0.0 if count and room > count else min(pause, self._compute_pause()))
            self._renew_leases()

    def _count_free(self, most: int | None, started: int) -> int:
        free = sum(slot.is_free for slot in self._slots.slots)
        return free if most is None else min(free, most - started)

    # --- take ---

    def _take(self, queues: Sequence[str], room: int) -> tuple[int, bool]:
        """Claim up to `room` due jobs and start them. Return how many, and whether all shards were read."""
        count = 0
        try:
            for row in self._find_due(queues, room):
                if (claimed := self._claim(row)) is not None:
                    self._start(claimed)
                    count += 1
                if count == room:
                    return count, False
        except (StoreUnavailable, UnreadableRow):
            logger.exception("the tables cannot be used; trying again")
            return count, False
        except StoreError as error:
            self._refusal = error
            return count, False
        return count, True

    def _find_due(self, queues: Sequence[str], room: int) -> Iterator[Due]:
        """Yield rows that are due, queue by queue, the oldest of each first."""
        for queue in queues or self._list_queues():
            shards = list_shards(queue)
            _dice.shuffle(shards)
            limit = room + len(self._held)
            pages = [self._read_page(shard, limit) for shard in shards]
            yield from sorted(row for rows in pages for row in rows if row.job_id not in self._held)

    def _read_page(self, shard: str, limit: int) -> tuple[Due, ...]:
        self._end_expiring()
        return self._store.list_due(shard, self._clock.now(), limit).rows

    def _list_queues(self) -> list[str]:
        now = self._clock.now()
        if self._known is None or now - self._known[0] >= _QUEUES_MS:
            queues = self._store.list_queues()
            _dice.shuffle(queues)  # no queue goes before another unless the caller orders them
            self._known = (now, queues)
        return self._known[1]

    def _claim(self, row: Due) -> JobRecord | None:
        """Claim a row that waits; sweep one that does not as the sweeper does, and return None."""
        self._end_expiring()
        lease = leases.request_renewed_lease(secrets.token_hex(8), self._policy, now=self._clock.now())
        try:
            answer = self._store.claim(row.job_id, lease)
            if answer.done:
                return self._keep_if_lasting(answer.record)
            self._rows.sweep_running(row, answer.record)
        except UnreadableRow as error:
            logger.error("%s; looked at again in an hour", error, extra={"job_id": row.job_id})
            self._rows.set_aside(row, error.due_at)
        return None

    def _keep_if_lasting(self, claimed: JobRecord | None) -> JobRecord | None:
        """Return the job, or None if its claim was answered so late that another worker may have it by now."""
        if claimed is None or not self._is_expiring(claimed.lease_until or 0):
            return claimed
        logger.warning("the claim was answered too late; its lease will run out", extra=log_fields(claimed))
        return None

    def _start(self, claimed: JobRecord) -> None:
        slot = next(slot for slot in self._slots.slots if slot.is_free)
        now = self._clock.now()
        until = claimed.lease_until or now
        # counted from when the lease was requested: the answer may have come late
        held = _HeldJob(claimed, until, until - self._policy.grace_ms - leases.RENEWED_MS + _RENEW_MS)
        self._held[claimed.id] = held
        slot.allow_until(_compute_end(held))
        slot.assign(claimed)
        self._notify_of(WorkerEvent("started", claimed))

    # --- report ---

    def _collect_reports(self, seconds: float) -> None:
        for _, job, report in self._slots.collect(seconds):
            held = self._held.pop(job.id)
            took_ms = self._clock.now() - (held.job.started_at or 0)
            match report:
                case Report(ended):
                    self._count(ended.value, job, took_ms)
                case ProcessExit(status):
                    logger.warning("the process of a job ended with status %d", status, extra=log_fields(job))
                    self._end_crashed(job, report, took_ms)

    def _end_crashed(self, job: JobRecord, process_exit: ProcessExit, took_ms: int) -> None:
        """End the lease of a job whose process is gone now, and not only when it runs out."""
        self._end_expiring()
        try:
            error = JobCrashed(job.attempt, f"the runner of attempt {job.attempt} {process_exit.describe()}")
            self._rows.end_crashed(job, error)
        except StoreError:
            logger.exception("the job could not be released; its lease will run out", extra=log_fields(job))
        self._count("crashed", job, took_ms)

    def _count(self, what: str, job: JobRecord, took_ms: int) -> None:
        self.counts[what] += 1
        self._notify_of(WorkerEvent(what, job, took_ms))

    def _notify_of(self, event: WorkerEvent) -> None:
        """Call `notify`; if that fails, as with a closed pipe, finish the jobs that run and leave."""
        try:
            self._notify(event)
        except Exception as error:
            if not self._notify_failed:
                logger.warning(
                    "the worker's output cannot be written (%s); leaving after the jobs that run",
                    summarize_error(error),
                )
            self._notify_failed = 1

    # --- renew ---

    def _compute_pause(self) -> float:
        """Return the seconds until a lease is to be renewed."""
        soonest = min((held.renew_at for held in self._held.values()), default=self._clock.now() + _RENEW_MS)
        return max(0.0, (soonest - self._clock.now()) / 1000)

    def _renew_leases(self) -> None:
        """Renew each lease whose time has come; end a handler whose lease is lost."""
        for held in list(self._held.values()):
            self._end_expiring()
            now = self._clock.now()
            if now < held.renew_at or held.job.id not in self._held:
                continue
            until = leases.extend_lease(self._policy, now=now)
            try:
                is_held = self._store.renew_lease(held.job, until)
            except StoreError as error:
                logger.warning("a lease was not renewed (%s)", error, extra=log_fields(held.job))
                held.renew_at = self._clock.now() + _RENEW_AGAIN_MS
            else:
                held.until, held.renew_at = until, now + _RENEW_MS
                if is_held:
                    self._keep(held)
                else:
                    self._lose(held)

    def _keep(self, held: _HeldJob) -> None:
        for slot in self._slots.slots:
            if slot.job is not None and slot.job.id == held.job.id:
                slot.allow_until(_compute_end(held))

    def _end_expiring(self) -> None:
        """End handlers that could outlive their lease during a call of the store. Call this before each."""
        for held in list(self._held.values()):
            if self._is_expiring(held.until):
                self._lose(held)

    def _is_expiring(self, until: int) -> bool:
        """Whether a lease with this end could be over before another call of the store has been answered."""
        return self._clock.now() + _LONGEST_CALL_MS + leases.SKEW_MS > until

    def _lose(self, held: _HeldJob) -> None:
        self._end(held.job)
        del self._held[held.job.id]
        self._count(RunOutcome.LEASE_LOST.value, held.job, self._clock.now() - (held.job.started_at or 0))

    def _end(self, job: JobRecord) -> None:
        """End the process that runs a job, whatever it does."""
        for slot in self._slots.slots:
            if slot.job is not None and slot.job.id == job.id:
                slot.job = None
                slot.kill()

    # --- give back ---

    def _give_all_back(self) -> None:
        """End every handler, then give its job back; the attempt is not counted."""
        for held in list(self._held.values()):
            self._end(held.job)
            self._give_back(held.job)

    def _give_back(self, job: JobRecord) -> None:
        held = self._held.pop(job.id)
        now = self._clock.now()
        settlement = settling.return_unfinished(job, self._policy, now=now)
        try:
            self._settler.settle(job, settlement)
        except StoreError:
            logger.exception("the job could not be given back; its lease will run out", extra=log_fields(job))
        self._count("interrupted", job, now - (held.job.started_at or 0))


def _compute_end(held: _HeldJob) -> int:
    """Return the moment at which the handler of this lease has to be gone."""
    return held.until - leases.SKEW_MS
