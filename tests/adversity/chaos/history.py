"""What happened in one run: what was asked and answered, what the handlers left, what the tables hold in the end."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from relayq_core import Dispatched, JobRecord
from tests.adversity.chaos.log import Line, Start, starts_of
from tests.adversity.chaos.nemesis import Act, Stop, was_stopped
from tests.adversity.chaos.plan import Order
from tests.adversity.chaos.wire import Fault

#: A process that goes on after a stop, with its claim made, says its first line within this (seconds).
_CLAIM_TO_START = 5.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds of the machine's monotonic clock, and epoch milliseconds."""

    mono: float
    wall: int

    @classmethod
    def now(cls) -> Moment:
        """Both clocks."""
        return cls(time.monotonic(), time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """One call of dispatch(), and what came back: an answer, DispatchUnknown, or another error."""

    order: Order
    began: Moment
    ended: Moment
    answer: Dispatched | None = None
    unknown_id: str | None = None
    error: str | None = None
    #: what became of its handoff on the caller's side
    handoff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAck:
    """One call of cancel(), and the job as it then was."""

    job_id: str
    ended: Moment
    record: JobRecord | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Both tables, as they are in the end."""

    jobs: Mapping[str, JobRecord]
    failed: Mapping[str, JobRecord]
    #: the items of unique keys: (job_id, expires_at)
    keys: Mapping[str, tuple[str, int | None]]
    #: rows that the index still nominates
    due: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything that the laws are judged by."""

    seed: int
    asked_jobs: int
    acks: list[Ack]
    cancels: list[CancelAck]
    lines: list[Line]
    stops: list[Stop]
    acts: list[Act]
    faults: list[Fault]
    tables: Tables
    #: the wire's own faults, of which there should be none
    defects: list[str] = field(default_factory=list)
    #: what the sweepers' logs say that they did, and in how many sweeps
    swept: Counter[str] = field(default_factory=Counter)
    sweeps: int = 0
    #: late settles that were refused, by the runners' logs
    leases_lost: int = 0
    #: what the runners logged as a defect of RelayQ itself
    complaints: list[str] = field(default_factory=list)
    began: Moment = Moment(0.0, 0)
    calm_from: float = 0.0
    ended: float = 0.0

    # --- who was accepted ---

    @cached_property
    def orders(self) -> dict[str, Order]:
        """What was dispatched, by the number in its payload."""
        return {ack.order.number: ack.order for ack in self.acks}

    @cached_property
    def accepted(self) -> dict[str, Order | None]:
        """Every job that counts as accepted, and what it was to be (None for a child).

        dispatch() returned its id; or raised DispatchUnknown, and a row is there; or a handler's dispatch() returned.
        """
        found: dict[str, Order | None] = {}
        for ack in self.acks:
            if ack.answer is not None and not ack.answer.duplicate:
                found[ack.answer.job_id] = ack.order
            if ack.unknown_id is not None and self.row(ack.unknown_id) is not None:
                found[ack.unknown_id] = ack.order
        for line in self.lines:
            if line.kind == "accepted":
                found.setdefault(line.child, None)
        return found

    @cached_property
    def first_asked(self) -> dict[str, Ack]:
        """The first call of dispatch() that may have written a job."""
        found: dict[str, Ack] = {}
        for ack in sorted(self.acks, key=lambda ack: ack.began.mono):
            job_id = ack.unknown_id or (ack.answer.job_id if ack.answer and not ack.answer.duplicate else None)
            if job_id is not None:
                found.setdefault(job_id, ack)
        return found

    # --- what the handlers did ---

    @cached_property
    def starts(self) -> dict[str, list[Start]]:
        """The starts of each job's handler, in their order."""
        found: dict[str, list[Start]] = defaultdict(list)
        for start in sorted(starts_of(self.lines), key=lambda start: start.first.mono):
            found[start.first.job].append(start)
        return dict(found)

    @cached_property
    def told_failed(self) -> dict[str, list[Line]]:
        """Calls of failed(), by the number in the payload."""
        found: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            if line.kind == "failed":
                found[line.number].append(line)
        return dict(found)

    def was_stopped(self, pid: int, since: float, until: float) -> bool:
        """The nemesis had stopped this process at some time between the two."""
        return was_stopped(self.stops, pid, since, until)

    def was_stopped_before(self, start: Start) -> bool:
        """Between its claim, at the earliest after what its process last said, and its first line."""
        return self.was_stopped(start.first.pid, self._claimed_after(start), start.first.mono)

    def was_stopped_within(self, start: Start) -> bool:
        """Between its claim and its last line."""
        return self.was_stopped(start.first.pid, self._claimed_after(start), start.last.mono)

    def _claimed_after(self, start: Start) -> float:
        before = (line.mono for line in self.lines if line.pid == start.first.pid and line.mono < start.first.mono)
        return max([start.first.mono - _CLAIM_TO_START, *before])

    def overlaps(self) -> Iterator[tuple[Start, Start]]:
        """Two starts of one job, the second of which began while the first was still heard of."""
        for starts in self.starts.values():
            for one, other in combinations(starts, 2):
                if one.last.mono >= other.first.mono:
                    yield one, other

    # --- how it ended ---

    def row(self, job_id: str) -> JobRecord | None:
        """The job, from whichever table has it."""
        return self.tables.jobs.get(job_id) or self.tables.failed.get(job_id)

    @cached_property
    def crashed(self) -> set[str]:
        """Jobs of which a sweeper had to end a lease."""
        rows = [*self.tables.jobs.values(), *self.tables.failed.values()]
        return {row.id for row in rows if "JobCrashed" in f"{row.errors_json}{row.error}"}

    # --- the story of one job ---

    def story(self, job_id: str) -> str:
        """All that is known of one job, in order of time, and how to run it all again."""
        told = sorted(self._told(job_id), key=lambda entry: entry[0])
        lines = [f"{mono - self.began.mono:9.3f}  {text}" for mono, text in told]
        rows = [f"in {name}: {table[job_id]!r}" for name, table in self._tables().items() if job_id in table]
        return "\n".join([f"job {job_id}", *lines, *(rows or ["in neither table"]), self.again])

    @property
    def again(self) -> str:
        """The command that dispatches the same jobs, and has the same in mind for them."""
        return f"run it again: make chaos JOBS={self.asked_jobs} SEED={self.seed}"

    def _tables(self) -> dict[str, Mapping[str, JobRecord]]:
        return {"jobs": self.tables.jobs, "failed": self.tables.failed}

    def _told(self, job_id: str) -> Iterator[tuple[float, str]]:
        order = self.accepted.get(job_id)
        number = order.number if order else None
        for ack in self.acks:
            mine = ack.answer is not None and ack.answer.job_id == job_id
            if mine or ack.unknown_id == job_id:
                yield ack.began.mono, f"dispatch {ack.order}"
                yield ack.ended.mono, f"dispatched: {ack.answer or ack.error} {ack.handoff}"
        for cancel in self.cancels:
            if cancel.job_id == job_id:
                yield cancel.ended.mono, f"cancel: {cancel.record.status if cancel.record else cancel.error}"
        pids: set[int] = set()
        for line in self.lines:
            if line.job == job_id or (number is not None and line.number == number) or line.child == job_id:
                pids.add(line.pid)
                rest = {"attempt": line.attempt, "how": line.how, "error": line.error, "nonce": line.nonce}
                yield line.mono, f"{line.kind} in {line.pid} {_said(rest)}"
        for act in self.acts:
            if act.job == job_id or act.pid in pids or not act.pid:
                yield act.mono, f"nemesis: {act.what} {act.pid or ''}"
        for fault in self.faults:
            if fault.call.job_id == job_id:
                yield fault.mono, f"wire: {fault.call.operation} {fault.name}"


def _said(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items() if value)
