"""The invariants, checked after every write and at the end. A job's whole story is judged, not only its last state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from relayq_core import lifecycle
from relayq_core.ports import Added
from relayq_core.record import JobRecord, Status
from relayq_core.testing import MemoryStore
from tests.simulation.world import Violation, World

#: Two clocks of the simulation differ by at most twice an actor's skew.
_CANARY = "canary-b7f3"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a job is: its row in either table."""

    job: JobRecord | None
    failed: JobRecord | None


@dataclass
class Story:
    """What happened to one job since it was dispatched, or redriven."""

    #: handler starts, one entry each: (attempt, lease, true time)
    starts: list[tuple[int, str, int]] = field(default_factory=list)
    #: the runners whose handlers are running, by lease
    running: dict[str, Any] = field(default_factory=dict)
    completed_at: int | None = None
    cancel_told: bool = False
    failed_told: int = 0


class Checker:
    """Looks at every change, and keeps what is needed to judge it."""

    def __init__(self, world: World, *, most_skew: int) -> None:
        self._world = world
        self.most_skew = most_skew
        self.stories: dict[str, Story] = defaultdict(Story)
        self.accepted: set[str] = set()
        self.written: set[str] = set()
        self.forgotten: set[str] = set()
        self.deleted: set[str] = set()
        #: lease -> the runner whose claim took it
        self.holders: dict[str, str] = {}
        #: unique key -> (from, until or None, job)
        self.windows: dict[str, list[tuple[int, int | None, str]]] = defaultdict(list)

    # --- what the store reports ---

    def snapshot(self, memory: MemoryStore, job_id: str) -> Snapshot:
        """Both rows as they are, expired or not."""
        return Snapshot(memory.jobs.get(job_id), memory.failures.get(job_id))

    def was_removed(self, memory: MemoryStore, job_id: str) -> bool:
        """The job has been in the jobs table, and is not any more."""
        return job_id in self.written and job_id not in memory.jobs

    def added(self, record: JobRecord, answer: Added) -> None:
        """A dispatch reached the table."""
        if answer.holder is None and answer.found is None:
            self.written.add(record.id)
            if record.unique_pk is not None:
                self._take(record)

    def changed(self, actor: Any, verb: str, job_id: str, before: Snapshot, after: Snapshot) -> None:
        """A write took effect: is it one that may?"""
        old, new = before.job, after.job
        if new is not None:
            self._shape(new)
        if after.failed is not None and before.failed is None:
            self._failure(after.failed)
        if old is None and new is None:
            if verb == "forget":
                self.forgotten.add(job_id)
            return
        if old is None:
            assert new is not None
            self._appeared(verb, new, before)
        elif new is None:
            self._vanished(actor, verb, old, after)
        else:
            self._moved(actor, verb, old, new)
        self._one_row(job_id, after)

    # --- judging one change ---

    def _shape(self, row: JobRecord) -> None:
        live = not row.status.is_ended
        self._hold(live == (row.due_at is not None), row.id, "I12: live rows are in the index, ended rows are not")
        self._hold(live == (row.expires_at is None), row.id, "I12: only ended rows expire")
        self._hold((row.status is Status.PROCESSING) == (row.lease_id is not None), row.id, "I4: a lease means running")
        self._hold(row.attempt >= 0, row.id, "I3: attempts are not negative")
        if row.max_attempts is not None:
            self._hold(row.attempt <= row.max_attempts, row.id, "I3: attempts never exceed max_attempts")
        self._hold(_CANARY not in f"{row.error}{row.errors_json}", row.id, "I16: no secret in an error")

    def _failure(self, row: JobRecord) -> None:
        self._hold(row.status is Status.FAILED and bool(row.error), row.id, "I10: a failed job bears its error")
        self._hold(len((row.error or "").encode()) <= lifecycle.ERROR_BYTES, row.id, "I10: errors are bounded")
        self._hold(_CANARY not in (row.error or ""), row.id, "I16: no secret in an error")

    def _appeared(self, verb: str, new: JobRecord, before: Snapshot) -> None:
        self._hold(verb in {"add", "add_many", "redrive"}, new.id, f"I2: a row appeared by {verb}")
        if verb == "redrive":
            self._hold(before.failed is not None, new.id, "I2: only a failed job is redriven")
            self.stories[new.id] = Story()
            self._retake(new)

    def _vanished(self, actor: Any, verb: str, old: JobRecord, after: Snapshot) -> None:
        if verb == "bury":
            self._hold(after.failed is not None, old.id, "I10: buried in one step, or not at all")
            self._hold(old.cancel_requested_at is None, old.id, "I11: buried though it was to be cancelled")
        else:
            self._hold(verb == "complete_and_delete", old.id, f"I1: the row vanished by {verb}")
            self.deleted.add(old.id)
            self.stories[old.id].completed_at = self._world.now
        self._ended(old)
        if actor.kind == "runner":
            mine = self.holders.get(old.lease_id or "") == actor.name
            self._hold(mine, old.id, "I5: a settle by someone who did not hold the lease")

    def _moved(self, actor: Any, verb: str, old: JobRecord, new: JobRecord) -> None:
        if old.status != new.status:
            allowed = any(key[0] == old.status and to == new.status for key, to in lifecycle.TRANSITIONS.items())
            self._hold(allowed, new.id, f"I2: {old.status} became {new.status} by {verb}")
        if old.cancel_requested_at is not None:
            self._hold(new.status is not Status.RETRYING, new.id, "I11: tried again though it was to be cancelled")
        if old.status.is_ended:
            self._hold(old == new, new.id, f"I2: {verb} changed a job that had ended")
        self._counted(verb, old, new)
        self._leased(actor, verb, old, new)
        if new.status is Status.COMPLETED:
            self.stories[new.id].completed_at = self._world.now
        if new.status.is_ended and not old.status.is_ended:
            self._ended(old)

    def _counted(self, verb: str, old: JobRecord, new: JobRecord) -> None:
        step = new.attempt - old.attempt
        if verb == "claim":
            self._hold(step == (0 if old.exhausted else 1), new.id, f"I3: a claim counted {step}")
        elif "snooze" in verb or "give back" in verb:
            self._hold(step in {0, -1}, new.id, f"I3: {verb} counted {step}")
        else:
            self._hold(step == 0 or new.status is Status.PENDING, new.id, f"I3: {verb} counted {step}")

    def _leased(self, actor: Any, verb: str, old: JobRecord, new: JobRecord) -> None:
        if old.lease_id == new.lease_id:
            return
        if old.lease_id is None:
            self._hold(verb == "claim", new.id, f"I4: a lease was taken by {verb}")
            self.holders[new.lease_id or ""] = actor.name
            return
        self._hold(new.lease_id is None, new.id, "I4: a lease was taken from under its holder")
        if actor.kind == "sweeper":
            ended = (old.lease_until or 0) <= self._world.now + self.most_skew
            self._hold(ended, new.id, "I4: the sweeper ended a lease that was alive")
        else:
            mine = self.holders.get(old.lease_id) == actor.name
            self._hold(mine, new.id, "I5: a settle by someone who did not hold the lease")

    def _one_row(self, job_id: str, after: Snapshot) -> None:
        both = after.job is not None and after.failed is not None
        self._hold(not both, job_id, "I2: the job is in both tables")

    # --- unique keys ---

    def _take(self, record: JobRecord) -> None:
        assert record.unique_pk is not None
        now = self._world.now
        for _, until, job_id in self.windows[record.unique_pk]:
            over = until is not None and until <= now + self.most_skew
            self._hold(over, record.id, f"I7: {job_id} has the key still")
        until = None if record.unique_for_ms is None else now + record.unique_for_ms
        self.windows[record.unique_pk] = [(now, until, record.id)]

    def _ended(self, record: JobRecord) -> None:
        """A key without a window is free once its job has ended."""
        if record.holds_key and record.unique_pk is not None:
            left = [window for window in self.windows[record.unique_pk] if window[2] != record.id]
            self.windows[record.unique_pk] = left

    def _retake(self, record: JobRecord) -> None:
        """A redrive took the key again."""
        if record.unique_pk is not None:
            own = [window for window in self.windows[record.unique_pk] if window[2] != record.id]
            self.windows[record.unique_pk] = own
            self._take(record)

    def answered(self, record_id: str, answer_id: str, *, duplicate: bool) -> None:
        """What a dispatch told its caller."""
        self.accepted.add(answer_id)
        if duplicate:
            self._hold(record_id not in self.written, record_id, "I8: its own write was reported as a duplicate")

    # --- handlers ---

    def handler_starts(self, actor: Any, job_id: str, attempt: int, record: JobRecord) -> None:
        """A handler begins."""
        story, now = self.stories[job_id], self._world.now
        self._hold(not record.exhausted, job_id, "I3: started though its attempts are used up")
        self._hold(story.completed_at is None, job_id, "I6: started after its success was written")
        self._hold(not story.cancel_told, job_id, "I11: started after its cancel was acknowledged")
        self._hold(now + actor.skew >= record.available_at, job_id, "I13: started early")
        same = [start for start in story.starts if start[1] == record.lease_id]
        self._hold(not same, job_id, "I4: two starts under one lease")
        for other in story.running.values():
            # one that was frozen from outside may outlive its lease; then the fence alone protects the job
            self._hold(other.dead or other.frozen, job_id, f"I4: two handlers at once (the other in {other.name})")
        story.starts.append((attempt, record.lease_id or "", now))
        story.running[record.lease_id or ""] = actor

    def handler_ends(self, job_id: str, lease_id: str) -> None:
        """A handler returned or raised."""
        self.stories[job_id].running.pop(lease_id, None)

    def ended_as(self, memory: MemoryStore, expected: dict[str, Status | None]) -> None:
        """Where no fault was, the story has only one end (None: the job is in neither table)."""
        for job_id, status in expected.items():
            row = memory.jobs.get(job_id) or memory.failures.get(job_id)
            found = None if row is None else row.status
            self._hold(found is status, job_id, f"the story ended as {found}, not as {status}")

    # --- the end ---

    def settled_down(self, memory: MemoryStore) -> None:
        """After calm: every job that was accepted has ended, and none is lost."""
        for job_id in sorted(self.accepted | self.written):
            row, failure = memory.jobs.get(job_id), memory.failures.get(job_id)
            gone = job_id in self.forgotten or job_id in self.deleted
            self._hold(row is not None or failure is not None or gone, job_id, "I1: the job is lost")
            if row is not None:
                self._hold(row.status.is_ended, job_id, f"I14: still {row.status} after calm")

    def _hold(self, condition: bool, job_id: str, law: str) -> None:
        if not condition:
            violation = Violation(f"{law} (job {job_id})")
            # a handler's exceptions are the runner's business: the world must hear of this one all the same
            self._world.broken = self._world.broken or violation
            raise violation
