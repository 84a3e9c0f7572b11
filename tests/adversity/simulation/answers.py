"""The judge of answers: does what a caller, an observer or a listener hears agree with what is written?"""

from __future__ import annotations

from dataclasses import dataclass

from relayq_core.events.listeners import JobEvent
from relayq_core.model.record import JobRecord, Status
from tests.adversity.simulation.book import Book
from tests.adversity.simulation.keys import Keys


@dataclass(frozen=True)
class Question:
    """What was known of a job when a caller began to ask for it."""

    job_id: str
    was_accepted: bool
    moves: int


class Answers:
    """Judges what is said to the outside."""

    def __init__(self, book: Book, keys: Keys) -> None:
        self._book = book
        self._hold = book.hold
        self._keys = keys

    def dispatched(self, job_id: str, answer_id: str, *, duplicate: bool, pk: str | None, since: int) -> None:
        """What a dispatch that began then answered its caller."""
        self._book.accepted.add(answer_id)
        if not duplicate:
            self._hold(8, answer_id == job_id, job_id, f"accepted as {answer_id}")
            self._hold(1, job_id in self._book.written, job_id, "accepted, and not written")
            return
        self._hold(8, job_id not in self._book.written, job_id, "its own write was taken for a duplicate")
        self._hold(8, self._keys.had(pk, answer_id, since), job_id, f"{answer_id} did not have its key")

    def asks(self, job_id: str) -> Question:
        """A caller begins to ask for a job."""
        return Question(job_id, job_id in self._book.accepted, self._book.moves[job_id])

    def found(self, question: Question, record: JobRecord | None, *, expired: bool) -> None:
        """What get() answered; `expired`: the time of the job's row is up."""
        job_id = question.job_id
        if record is not None:
            self._hold(15, record.id == job_id, job_id, f"get() answered with {record.id}")
            return
        gone = job_id in self._book.forgotten or job_id in self._book.deleted or expired
        # it looks at most once past a move between the tables
        moved = self._book.moves[job_id] - question.moves > 1
        self._hold(15, gone or moved or not question.was_accepted, job_id, "get() did not find it")

    def heard(self, event: JobEvent) -> None:
        """A listener heard of a job."""
        job = event.job
        how = self._book.settled.get(job.settled_by or "", "")
        match event.kind:
            case "dispatched":
                self._hold(23, job.id in self._book.written, job.id, "said to be dispatched, and not written")
            case "processed":
                self._hold(23, job.status is Status.COMPLETED, job.id, f"said to be completed as {job.status}")
                deleted = job.id in self._book.deleted or self._book.moves[job.id] > 0  # PENDING: retention of 0
                done = "complete" in how or deleted
                self._hold(23, done, job.id, "said to be completed, and it was not")
            case "failed" if event.will_retry is False:
                buried = "bury" in how or (job.settled_by or "").startswith("sweep-")
                self._hold(23, buried, job.id, "said to have failed for good, and it has not")
            case "failed":
                again = "retry" in how or (job.settled_by or "").startswith("sweep-")
                self._hold(23, again, job.id, "said to be tried again, and it is not")
            case "snoozed":
                self._hold(23, "snooze" in how, job.id, "said to snooze, and it does not")
