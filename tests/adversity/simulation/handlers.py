"""The judge of handlers: may this one start now, may it run for this time, and is failed() called when it should be?"""

from __future__ import annotations

from relayq_core.model import leases
from relayq_core.model.record import JobRecord
from tests.adversity.simulation.book import Book, Start
from tests.adversity.simulation.world import Actor


class Handlers:
    """Judges what runs of a job's own code."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._hold = book.hold

    def starts(self, actor: Actor, job_id: str, attempt: int, record: JobRecord) -> None:
        """A handler begins."""
        story, now = self._book.stories[job_id], self._book.world.now
        lease = record.lease_id or ""
        self._hold(3, not record.exhausted, job_id, "started though its attempts are used up")
        most = self._book.promised(record).max_attempts
        self._hold(3, attempt == record.attempt and 1 <= attempt <= most, job_id, f"attempt {attempt} of {most}")
        self._hold(6, story.completed_at is None, job_id, "started after its success was written")
        self._hold(11, not story.cancel_acknowledged, job_id, "started after its cancel was acknowledged")
        is_time = now + actor.skew + self._book.play >= record.available_at or record.available_at == record.created_at
        self._hold(13, is_time, job_id, "started early")
        self._hold(4, all(start.lease != lease for start in story.starts), job_id, "two starts under one lease")
        self._hold(4, self._book.is_holder(actor, lease), job_id, "started without holding the lease")
        for other in story.running.values():
            # one that was frozen from outside may outlive its lease; then the fence alone protects the job
            self._hold(4, other.dead or other.frozen, job_id, f"two handlers at once (the other in {other.name})")
        story.starts.append(Start(attempt, lease, now))
        story.running[lease] = actor

    def allowed(self, actor: Actor, record: JobRecord, ends: int) -> None:
        """A handler, or failed(), may run until then by its own clock, however stubborn it is."""
        if not actor.renews and not actor.frozen:
            last = (record.lease_until or 0) + self._book.play
            self._hold(4, ends <= last, record.id, f"it may run {ends - last} ms beyond its lease")

    def returned(self, job_id: str, lease: str, result_json: str | None) -> None:
        """A handler returned this."""
        self._book.stories[job_id].returned[lease] = result_json

    def raised(self, job_id: str, lease: str, error: BaseException) -> None:
        """A handler raised this."""
        self._book.stories[job_id].raised[lease] = error

    def ends(self, job_id: str, lease: str) -> None:
        """A handler returned or raised."""
        self._book.stories[job_id].running.pop(lease, None)

    def failed_starts(self, actor: Actor, record: JobRecord, error: BaseException) -> None:
        """failed() begins."""
        story, lease = self._book.stories[record.id], record.lease_id or ""
        self._hold(17, lease not in story.returned, record.id, "failed() was called after a success")
        self._hold(17, lease not in story.failed_by, record.id, "failed() was called twice in one attempt")
        most = self._book.promised(record).max_attempts
        raised = story.raised.get(lease)
        last = record.exhausted or record.attempt >= most or type(raised).__name__ == "Bury"
        self._hold(17, last, record.id, f"failed() was called after attempt {record.attempt} of {most}")
        crashed = type(error).__name__ == "JobCrashed"
        self._hold(
            17,
            crashed or error is raised or raised is None,
            record.id,
            "failed() was given another error than was raised",
        )
        for other in story.failed_by.values():
            # it, or this one, may have been held up past its lease
            gone = other.dead or other.frozen or other.met_a_fault or actor.frozen
            # by a clock that is further ahead than is allowed for, the sweeper thought its lease was over
            misjudged = 2 * self._book.most_skew > leases.SKEW_MS
            self._hold(17, gone or misjudged, record.id, f"failed() was called again, and {other.name} was well")
        story.failed_by[lease] = actor
