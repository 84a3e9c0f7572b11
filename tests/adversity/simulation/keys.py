"""The judge of unique keys: who has one, since when, and until when."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from relayq_core.model.record import JobRecord
from relayq_core.testing import MemoryStore
from tests.adversity.simulation.book import Book


@dataclass
class _Hold:
    """One job's hold of a key, true time; `until` None: it is held still."""

    job_id: str
    since: int
    until: int | None


class Keys:
    """Judges who is let in under a key."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._hold = book.hold
        self._holds: defaultdict[str, list[_Hold]] = defaultdict(list)

    def taken(self, record: JobRecord) -> None:
        """A job was let in under its key, by a dispatch or a redrive."""
        if record.unique_pk is None:
            return
        now = self._book.world.now
        for held in self._holds[record.unique_pk]:
            over = held.until is not None and held.until <= now + self._book.most_skew
            self._hold(7, over or held.job_id == record.id, record.id, f"{held.job_id} has the key still")
        until = None if record.unique_for_ms is None else now + record.unique_for_ms
        self._holds[record.unique_pk].append(_Hold(record.id, now, until))

    def needs_none(self, record: JobRecord) -> None:
        """A job is written together with others: that takes no keys."""
        self._hold(7, record.unique_pk is None, record.id, "written without its key")

    def released(self, memory: MemoryStore, record: JobRecord) -> None:
        """A job has ended: a key without a window is free from now on."""
        if not record.holds_key or record.unique_pk is None:
            return
        for held in self._holds[record.unique_pk]:
            if held.job_id == record.id and held.until is None:
                held.until = self._book.world.now
        self._hold(
            9, memory.find_holder(record.unique_pk) != record.id, record.id, "it has ended, and has its key still"
        )

    def had(self, pk: str | None, job_id: str, since: int) -> bool:
        """Whether the job had the key at some moment since then; a window ends in whole seconds, rounded up."""
        play = 1_000 + 2 * self._book.most_skew
        return pk is not None and any(
            held.job_id == job_id and (held.until is None or held.until + play >= since) for held in self._holds[pk]
        )
