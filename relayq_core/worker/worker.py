"""Work: find what is due, claim it, have it performed by a process, and renew its lease until it has ended."""

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
from relayq_core.ports import Due
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error
from relayq_core.worker.child import Report
from relayq_core.worker.pool import Died, Slots

#: Workers that were forked together must not look in the same order.
_dice = random.SystemRandom()
#: Between two polls of an idle worker, seconds: twice as long each time, up to the last.
_FIRST_PAUSE = 0.05
_LAST_PAUSE = 1.0
#: A lease is renewed when a third of it has passed; what cannot be renewed is ended before it runs out.
_BEAT_MS = leases.RENEWED_MS // 3
_BEAT_AGAIN_MS = 2_000
#: A call of the store: four tries of the SDK, each with a second to connect and three to answer, and its pauses.
_LONGEST_CALL_MS = 25_000
#: New queues are looked for this often.
_QUEUES_MS = 15_000


@dataclass(frozen=True, slots=True)
class News:
    """What a worker tells of a job it claimed: started, or how it ended (a runner's word, crashed or interrupted)."""

    what: str
    job: JobRecord
    #: milliseconds since it was started here
    took_ms: int = 0


@dataclass(slots=True)
class _Held:
    """A job that runs here: its claim, when its lease ends, and when to renew it."""

    job: JobRecord
    until: int
    renew_at: int


class Worker:
    """Runs jobs of some queues in processes of its own, beside any number of other workers and runners.

    `stopping()` says how often somebody has asked it to stop: once, it finishes what it has in hand; twice, it ends the
    handlers and gives their jobs back. `tell` hears of each start and end.
    """

    def __init__(
        self,
        relayq: RelayQ,
        slots: Slots,
        *,
        stopping: Callable[[], int],
        tell: Callable[[News], None] = lambda news: None,
    ) -> None:
        self._store = relayq.store
        self._clock = relayq.clock
        self._policy = relayq.policy
        self._settler = Settler(relayq.store, relayq.handoff, relayq.clock, relayq.policy, relayq.events)
        self._rows = relayq.sweeper.rows
        self._slots = slots
        self._stopping = stopping
        self._tell = tell
        self._held: dict[str, _Held] = {}
        #: 1 once telling has failed
        self._unheard = 0
        #: what the tables refuse for good, as a right that is missing
        self._refusal: StoreError | None = None
        self._known: tuple[int, list[str]] | None = None
        self.counts: Counter[str] = Counter()

    def work(self, queues: Sequence[str] = (), *, most: int | None = None, once: bool = False) -> Counter[str]:
        """Run jobs until it is stopped; how they ended, counted.

        `queues` in the order in which they go before each other; none means all. It leaves after `most` jobs; with
        `once` as soon as nothing is due, too. Raises StoreError for what the tables refuse for good, when the jobs in
        hand have ended.
        """
        try:
            return self._work(list(iterate_several("queues", queues, "names of queues")), most, once=once)
        except BaseException:
            self._give_all_back()  # whatever has happened, nobody would renew their leases
            raise

    def _work(self, queues: Sequence[str], most: int | None, *, once: bool) -> Counter[str]:
        pause = _FIRST_PAUSE
        started = 0
        while True:
            stopping = max(self._stopping(), self._unheard, int(self._refusal is not None))
            if stopping > 1:
                self._give_all_back()
            wants = 0 if stopping else self._free(most, started)
            took, found_all = self._take(queues, wants) if wants else (0, False)
            started += took
            pause = _FIRST_PAUSE if took else min(2 * pause, _LAST_PAUSE)
            if not self._held and (stopping or started == most or (once and found_all and not took)):
                if self._refusal is not None:
                    raise self._refusal
                return self.counts
            self._hear(0.0 if took and wants > took else min(pause, self._until_next_beat()))
            self._beat()

    def _free(self, most: int | None, started: int) -> int:
        free = sum(slot.is_free for slot in self._slots.slots)
        return free if most is None else min(free, most - started)

    # --- take ---

    def _take(self, queues: Sequence[str], wanted: int) -> tuple[int, bool]:
        """Claim so many jobs that are due, and start them; how many, and whether it has looked everywhere."""
        took = 0
        try:
            for row in self._due(queues, wanted):
                if (claimed := self._claimed(row)) is not None:
                    self._start(claimed)
                    took += 1
                if took == wanted:
                    return took, False
        except (StoreUnavailable, UnreadableRow):
            logger.exception("the tables cannot be used; trying again")
            return took, False
        except StoreError as error:
            self._refusal = error
            return took, False
        return took, True

    def _due(self, queues: Sequence[str], wanted: int) -> Iterator[Due]:
        """Rows that are due, queue by queue; of each the oldest first."""
        for queue in queues or self._all_queues():
            shards = list_shards(queue)
            _dice.shuffle(shards)
            limit = wanted + len(self._held)
            pages = [self._page(shard, limit) for shard in shards]
            yield from sorted(row for rows in pages for row in rows if row.job_id not in self._held)

    def _page(self, shard: str, limit: int) -> tuple[Due, ...]:
        self._end_hopeless()
        return self._store.list_due(shard, self._clock.now(), limit).rows

    def _all_queues(self) -> list[str]:
        now = self._clock.now()
        if self._known is None or now - self._known[0] >= _QUEUES_MS:
            found = self._store.list_queues()
            _dice.shuffle(found)  # no queue goes before another unless somebody says so
            self._known = (now, found)
        return self._known[1]

    def _claimed(self, row: Due) -> JobRecord | None:
        """Take a row that waits; what does not is looked after as the sweeper does."""
        self._end_hopeless()
        lease = leases.request_renewed_lease(secrets.token_hex(8), self._policy, now=self._clock.now())
        try:
            answer = self._store.claim(row.job_id, lease)
            if answer.done:
                return self._if_it_lasts(answer.record)
            self._rows.sweep_running(row, answer.record)
        except UnreadableRow as error:
            logger.error("%s; looked at again in an hour", error, extra={"job_id": row.job_id})
            self._rows.set_aside(row, error.due_at)
        return None

    def _if_it_lasts(self, claimed: JobRecord | None) -> JobRecord | None:
        """The job, unless its claim was answered so late that another may have it by now: then it is left alone."""
        if claimed is None or not self._is_hopeless(claimed.lease_until or 0):
            return claimed
        logger.warning("the claim was answered too late; its lease will run out", extra=log_fields(claimed))
        return None

    def _start(self, claimed: JobRecord) -> None:
        slot = next(slot for slot in self._slots.slots if slot.is_free)
        now = self._clock.now()
        until = claimed.lease_until or now
        # reckoned from when the lease was asked for: the answer may have come late
        held = _Held(claimed, until, until - self._policy.grace_ms - leases.RENEWED_MS + _BEAT_MS)
        self._held[claimed.id] = held
        slot.keep(_gone_by(held))
        slot.give(claimed)
        self._say(News("started", claimed))

    # --- hear ---

    def _hear(self, seconds: float) -> None:
        for _, job, said in self._slots.heard(seconds):
            held = self._held.pop(job.id)
            took = self._clock.now() - (held.job.started_at or 0)
            match said:
                case Report(ended):
                    self._count(ended.value, job, took)
                case Died(status):
                    logger.warning("the process of a job ended with status %d", status, extra=log_fields(job))
                    self._end_crashed(job, said, took)

    def _end_crashed(self, job: JobRecord, died: Died, took: int) -> None:
        """Nobody works on it any more: no need to wait until its lease runs out."""
        self._end_hopeless()
        try:
            error = JobCrashed(job.attempt, f"the runner of attempt {job.attempt} {died.how}")
            self._rows.end_crashed(job, error)
        except StoreError:
            logger.exception("the job could not be released; its lease will run out", extra=log_fields(job))
        self._count("crashed", job, took)

    def _count(self, what: str, job: JobRecord, took: int) -> None:
        self.counts[what] += 1
        self._say(News(what, job, took))

    def _say(self, news: News) -> None:
        """Tell it; where nobody listens, as behind a pipe that was closed, finish what is in hand and leave."""
        try:
            self._tell(news)
        except Exception as error:
            if not self._unheard:
                logger.warning(
                    "nobody hears what happens here (%s); leaving after the job in hand", summarize_error(error)
                )
            self._unheard = 1

    # --- beat ---

    def _until_next_beat(self) -> float:
        """Seconds until a lease is to be renewed."""
        soonest = min((held.renew_at for held in self._held.values()), default=self._clock.now() + _BEAT_MS)
        return max(0.0, (soonest - self._clock.now()) / 1000)

    def _beat(self) -> None:
        """Renew each lease whose time has come; end a handler whose lease is lost."""
        for held in list(self._held.values()):
            self._end_hopeless()
            now = self._clock.now()
            if now < held.renew_at or held.job.id not in self._held:
                continue
            until = leases.extend_lease(self._policy, now=now)
            try:
                kept = self._store.renew_lease(held.job, until)
            except StoreError as error:
                logger.warning("a lease was not renewed (%s)", error, extra=log_fields(held.job))
                held.renew_at = self._clock.now() + _BEAT_AGAIN_MS
            else:
                held.until, held.renew_at = until, now + _BEAT_MS
                if kept:
                    self._keep(held)
                else:
                    self._lose(held)

    def _keep(self, held: _Held) -> None:
        for slot in self._slots.slots:
            if slot.job is not None and slot.job.id == held.job.id:
                slot.keep(_gone_by(held))

    def _end_hopeless(self) -> None:
        """Before each call of the store, which may take long: end what could outlive its lease meanwhile."""
        for held in list(self._held.values()):
            if self._is_hopeless(held.until):
                self._lose(held)

    def _is_hopeless(self, until: int) -> bool:
        """A lease with this end could be over before another call of the store has been answered."""
        return self._clock.now() + _LONGEST_CALL_MS + leases.SKEW_MS > until

    def _lose(self, held: _Held) -> None:
        self._end(held.job)
        del self._held[held.job.id]
        self._count(RunOutcome.LEASE_LOST.value, held.job, self._clock.now() - (held.job.started_at or 0))

    def _end(self, job: JobRecord) -> None:
        """End the process that works on a job, whatever it does."""
        for slot in self._slots.slots:
            if slot.job is not None and slot.job.id == job.id:
                slot.job = None
                slot.kill()

    # --- give back ---

    def _give_all_back(self) -> None:
        """End every handler first; then its job is free again, and the attempt is not counted."""
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


def _gone_by(held: _Held) -> int:
    """No handler of this lease may run on after that."""
    return held.until - leases.SKEW_MS
