"""The checker: hears of every write, start and answer of a schedule, and has the judges look at them.

Which law says what, and its number, is in laws.py. A job's whole story is judged, not only its last state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Added
from relayq_core.testing import MemoryStore
from tests.adversity.simulation.answers import Answers
from tests.adversity.simulation.book import Book, Promised, Snapshot
from tests.adversity.simulation.handlers import Handlers
from tests.adversity.simulation.keys import Keys
from tests.adversity.simulation.pace import Pace
from tests.adversity.simulation.rows import Rows

if TYPE_CHECKING:
    from tests.adversity.simulation.world import Actor, World


class Checker:
    """Looks at every change, and keeps what is needed to judge it."""

    def __init__(self, world: World, *, most_skew: int, promised: Callable[[JobRecord], Promised]) -> None:
        self.book = Book(world, most_skew=most_skew, promised=promised)
        self.rows = Rows(self.book)
        self.handlers = Handlers(self.book)
        self.keys = Keys(self.book)
        self.answers = Answers(self.book, self.keys)
        self.pace = Pace(self.book)
        self._hold = self.book.hold
        self._asked_delays: dict[str, int] = {}

    # --- what the store reports ---

    def snapshot(self, memory: MemoryStore, job_id: str) -> Snapshot:
        """Both rows as they are, expired or not."""
        return Snapshot(memory.jobs.get(job_id), memory.failures.get(job_id))

    def was_removed(self, memory: MemoryStore, job_id: str) -> bool:
        """The job has been in the jobs table, and is not any more."""
        return job_id in self.book.written and job_id not in memory.jobs

    def asks_for(self, job_id: str, delay: float | None) -> None:
        """A caller is about to dispatch a job that is to wait this many seconds."""
        self._asked_delays[job_id] = round((delay or 0) * 1000)

    def added(self, record: JobRecord, answer: Added) -> None:
        """A dispatch reached the table."""
        if answer.holder is None and answer.found is None:
            self.book.written.add(record.id)
            self.keys.taken(record)
            asked, waits = self._asked_delays.get(record.id, 0), record.available_at - record.created_at
            self._hold(21, waits == asked if asked else waits <= 0, record.id, f"it waits {waits} of {asked} ms")

    def changed(
        self, memory: MemoryStore, actor: Actor, verb: str, job_id: str, before: Snapshot, after: Snapshot
    ) -> None:
        """A write took effect."""
        self.rows.changed(actor, verb, job_id, before, after)
        self.pace.changed(verb, job_id, before, after)
        if verb == "redrive" and after.job is not None:
            self.keys.taken(after.job)
        old, new = before.job, after.job
        if old is not None and not old.status.is_ended and (new is None or new.status.is_ended):
            self.keys.released(memory, old)

    # --- the end ---

    def ended_as(self, memory: MemoryStore, expected: dict[str, Status | None]) -> None:
        """Where no fault was, the story has only one end (None: the job is in neither table)."""
        for job_id, status in expected.items():
            row = memory.jobs.get(job_id) or memory.failures.get(job_id)
            found = None if row is None else row.status
            self._hold(14, found is status, job_id, f"the story ended as {found}, not as {status}")

    def settled_down(self, memory: MemoryStore) -> None:
        """After calm: every job that was accepted has ended, and none is lost."""
        for job_id in sorted(self.book.accepted | self.book.written):
            row, failure = memory.jobs.get(job_id), memory.failures.get(job_id)
            gone = job_id in self.book.forgotten or job_id in self.book.deleted
            self._hold(1, row is not None or failure is not None or gone, job_id, "it is in neither table")
            if row is not None:
                self._hold(14, row.status.is_ended, job_id, f"still {row.status} after calm")
                if row.holds_key:
                    self.keys.released(memory, row)
