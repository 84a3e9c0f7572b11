"""The ports with faults: every call of the store and every handoff may be lost, doubled, late, or its caller killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from relayq_core.errors import StoreError, StoreUnavailable, UnreadableRow
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, compute_shard, list_shards
from relayq_core.ports import Added, Answer, Due, Page, Settled
from relayq_core.testing import MemoryStore
from tests.adversity.simulation.checker import Checker
from tests.adversity.simulation.world import Actor, Faults, World

#: What can happen to a write. "lost": it took effect and its answer is lost. "resent": its answer was lost, and the SDK
#: sent it again (seen with no idempotency token left). "late": given up, and it takes effect afterwards. "denied":
#: refused for a reason that trying again does not mend.
WRITE_FAULTS = ("killed before", "killed after", "not sent", "lost", "resent", "late", "slow", "slow answer", "denied")
READ_FAULTS = ("killed before", "killed after", "not sent", "slow", "denied")
#: What can happen to a handoff. "refused" raises; the invocation may have been taken all the same.
HANDOFF_FAULTS = ("killed before", "killed after", "dropped", "refused", "refused but taken", "doubled", "late", "slow")
#: Those that lose a handoff, and nothing else.
LOST_HANDOFF = ("dropped", "refused")

_READS = frozenset(
    {"list_queues", "list_due", "get", "find_holder", "get_many", "get_failed", "list_failed", "read_last_tick"}
)
#: Of a batch some are written, and the caller hears which.
_BATCH_FAULTS = (*WRITE_FAULTS, "partial")


def faults_of(site: str) -> tuple[str, ...]:
    """What can happen at a call site, like `runner.claim`."""
    verb = site.partition(".")[2]
    if verb == "offer":
        return HANDOFF_FAULTS
    return READ_FAULTS if verb in _READS else _BATCH_FAULTS if verb == "add_many" else WRITE_FAULTS


def paired_faults_of(site: str) -> tuple[str, ...]:
    """Those of which every two are played: a refusal ends an actor as "not sent" does, and is played one by one."""
    return tuple(fault for fault in faults_of(site) if fault != "denied")


_SLOW = (500, 5_000, 40_000, 200_000)
_LATE = (100, 5_000, 45_000, 400_000)
_LAGS = (0, 0, 0, 100, 1_000, 5_000, 90_000)


def freeze(world: World) -> None:
    """Time passes for everybody else; inside a handler, that is time its deadline cannot see."""
    actor = world.actor
    actor.frozen = actor.frozen or actor.stopped_at is not None
    world.pause(world.random.choice(_SLOW))


class LaggingIndex:
    """The `due` index: eventually consistent, each row with a lag of its own, updates never out of order for long."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._seen: dict[str, tuple[int, tuple[str, int] | None]] = {}
        self._versions = 0

    def changed(self, job_id: str, record: JobRecord | None) -> None:
        """The row was written: the index will say so, some time."""
        self._versions += 1
        version = self._versions
        entry = None
        if record is not None and record.due_at is not None:
            entry = (compute_shard(record.queue, record.id), record.due_at)

        def apply() -> None:
            if self._seen.get(job_id, (0, None))[0] < version:
                self._seen[job_id] = (version, entry)

        lag = self._world.random.choice(_LAGS) if self._faults.on and self._faults.chance else 0
        if lag:
            self._world.at(lag, apply)
        else:
            apply()

    def page(self, shard: str, until: int, limit: int, cursor: object | None) -> Page:
        """Rows as the index shows them now."""
        rows = sorted(
            Due(entry[1], job_id, shard.rpartition("#")[0])
            for job_id, (_, entry) in self._seen.items()
            if entry is not None and entry[0] == shard and entry[1] <= until
        )
        if isinstance(cursor, Due):
            rows = [row for row in rows if row > cursor]
        more = len(rows) > limit
        return Page(tuple(rows[:limit]), rows[limit - 1] if more else None)


class FaultyStore:
    """A JobStore around the shared memory store, as one actor sees it."""

    def __init__(
        self, world: World, memory: MemoryStore, index: LaggingIndex, faults: Faults, checker: Checker
    ) -> None:
        self._world = world
        self._memory = memory
        self._index = index
        self._faults = faults
        self._checker = checker
        #: what the last call of its actor met
        self._met: str | None = None
        #: the shards that its actor has heard of
        self._listed: list[str] = []

    # --- the faults ---

    def _fault(self, verb: str) -> str | None:
        """What happens to a call before it is sent, all of it that needs no answer."""
        world = self._world
        site = f"{world.actor.kind}.{verb}"
        fault = self._faults.next(world, site, faults_of(site))
        self._met = fault
        if fault == "killed before":
            world.kill(world.actor)
        world.pause(self._latency())
        if fault == "slow":
            freeze(world)
        if fault == "not sent":
            raise StoreUnavailable(verb, "simulated")
        if fault == "denied":
            raise StoreError(f"{verb} was denied", "simulated", code="AccessDeniedException")
        return fault

    def _write(self, verb: str, job_id: str, send: Callable[[], Any]) -> Any:
        world = self._world
        fault = self._fault(verb)
        actor = world.actor
        if fault == "late":
            world.at(world.random.choice(_LATE), lambda: self._apply_late(actor, verb, job_id, send))
            raise StoreUnavailable(verb, "simulated")
        answer = self._apply(actor, verb, job_id, send)
        if fault == "killed after":
            world.kill(actor)
        if fault == "lost":
            raise StoreUnavailable(verb, "simulated")
        if fault == "resent":
            freeze(world)
            answer = self._apply(actor, verb, job_id, send)
        if fault == "slow answer":
            freeze(world)
        return answer

    def _apply(self, actor: Actor, verb: str, job_id: str, send: Callable[[], Any], *, when: str = "") -> Any:
        memory, checker = self._memory, self._checker
        before = checker.snapshot(memory, job_id)
        answer: Any = "unreadable"
        try:
            answer = send()
        finally:
            after = checker.snapshot(memory, job_id)
            self._world.note(f"{actor.name}{when} {verb} {job_id}: {_brief(answer)}")
            checker.pace.wrote(job_id, verb, before, after)
            if before != after:
                self._index.changed(job_id, after.job)
                checker.changed(memory, actor, verb, job_id, before, after)
        return answer

    def _apply_late(self, actor: Actor, verb: str, job_id: str, send: Callable[[], Any]) -> None:
        with suppress(UnreadableRow):
            self._apply(actor, verb, job_id, send, when=" (late)")

    def _read(self, verb: str, send: Callable[[], Any], job_id: str | None = None) -> Any:
        fault = self._fault(verb)
        if job_id is not None:
            self._checker.pace.read(self._world.actor, job_id)
        answer = send()
        if fault == "killed after":
            self._world.kill(self._world.actor)
        return answer

    def _latency(self) -> int:
        return self._world.random.choice((2, 5, 20, 80)) if self._faults.chance else 5

    # --- the port ---

    def register_queue(self, queue: str) -> None:
        self._write("register_queue", f"queue:{queue}", lambda: self._memory.register_queue(queue))

    def forget_queue(self, queue: str) -> bool:
        return self._write("forget_queue", f"queue:{queue}", lambda: self._memory.forget_queue(queue))  # type: ignore[no-any-return]

    def list_queues(self) -> list[str]:
        found: list[str] = self._read("list_queues", self._memory.list_queues)
        self._listed = [shard for queue in found for shard in list_shards(queue)]
        return found

    def add(self, record: JobRecord) -> Added:
        return self._write("add", record.id, lambda: self._added(record))  # type: ignore[no-any-return]

    def _added(self, record: JobRecord) -> Added:
        if self._checker.was_removed(self._memory, record.id):
            # the known limit: a put that arrives after another try of it was taken, and that job has run and
            # left the table, begins it again (docs/explanation/reliability.md); here its row counts as kept
            return Added(found=record)
        answer = self._memory.add(record)
        self._checker.added(record, answer)
        return answer

    def add_many(self, records: Sequence[JobRecord]) -> list[bool]:
        """Several rows at once; whatever happens to the call, the caller hears of what is certain, and of no error."""

        def put(record: JobRecord) -> bool:
            self._checker.keys.needs_none(record)
            return bool(self._apply(actor, "add_many", record.id, lambda: self._added(record)) == Added())

        def send() -> list[bool]:
            partial = self._met == "partial"
            return [not (partial and self._world.random.random() < 0.5) and put(record) for record in records]

        actor = self._world.actor
        try:
            return self._write("add_many", "batch", send)  # type: ignore[no-any-return]
        except StoreError:
            return [False] * len(records)

    def claim(self, job_id: str, lease: Lease) -> Answer:
        return self._write("claim", job_id, lambda: self._memory.claim(job_id, lease))  # type: ignore[no-any-return]

    def renew_lease(self, before: JobRecord, lease_until: int) -> bool:
        return self._write("renew_lease", before.id, lambda: self._memory.renew_lease(before, lease_until))  # type: ignore[no-any-return]

    def settle(self, before: JobRecord, settlement: Settlement) -> Settled:
        verb = f"settle ({settlement.transition})" if settlement.keeps_row else "settle (delete)"
        return self._write(verb, before.id, lambda: self._memory.settle(before, settlement))  # type: ignore[no-any-return]

    def save_progress(self, before: JobRecord, progress_json: str) -> bool:
        return self._write("save_progress", before.id, lambda: self._memory.save_progress(before, progress_json))  # type: ignore[no-any-return]

    def list_due(self, shard: str, until: int, limit: int, cursor: object | None = None) -> Page:
        self._checker.pace.page(self._world.actor, shard, self._listed)
        return self._read("list_due", lambda: self._index.page(shard, until, limit, cursor))  # type: ignore[no-any-return]

    def nudge(self, row: Due, nudges: int, due_at: int) -> Answer:
        return self._write("nudge", row.job_id, lambda: self._memory.nudge(row, nudges, due_at))  # type: ignore[no-any-return]

    def postpone(self, row: Due, due_at: int) -> bool:
        return self._write("postpone", row.job_id, lambda: self._memory.postpone(row, due_at))  # type: ignore[no-any-return]

    def get(self, job_id: str) -> JobRecord | None:
        return self._read("get", lambda: self._memory.get(job_id), job_id)  # type: ignore[no-any-return]

    def find_holder(self, unique_pk: str) -> str | None:
        return self._read("find_holder", lambda: self._memory.find_holder(unique_pk))  # type: ignore[no-any-return]

    def get_many(self, job_ids: Iterable[str]) -> list[JobRecord]:
        wanted = list(job_ids)
        return self._read("get_many", lambda: self._memory.get_many(wanted))  # type: ignore[no-any-return]

    def get_failed(self, job_id: str) -> JobRecord | None:
        return self._read("get_failed", lambda: self._memory.get_failed(job_id))  # type: ignore[no-any-return]

    def list_failed(self, queue: str, limit: int, until: int | None = None) -> Iterator[JobRecord]:
        return self._read("list_failed", lambda: self._memory.list_failed(queue, limit, until))  # type: ignore[no-any-return]

    def cancel_waiting(self, before: JobRecord, settlement: Settlement) -> bool:
        return self._write(  # type: ignore[no-any-return]
            "cancel_waiting", before.id, lambda: self._memory.cancel_waiting(before, settlement)
        )

    def mark_cancelled(self, before: JobRecord, now: int) -> Answer:
        return self._write("mark_cancelled", before.id, lambda: self._memory.mark_cancelled(before, now))  # type: ignore[no-any-return]

    def redrive(self, failed: JobRecord, settlement: Settlement) -> Added | None:
        return self._write("redrive", failed.id, lambda: self._memory.redrive(failed, settlement))  # type: ignore[no-any-return]

    def forget(self, job_id: str) -> bool:
        return self._write("forget", job_id, lambda: self._memory.forget(job_id))  # type: ignore[no-any-return]

    def record_tick(self, at: int, counts: dict[str, int], by: str = "") -> None:
        self._write("record_tick", "tick", lambda: self._memory.record_tick(at, counts, by))

    def list_sweepers(self) -> tuple[str, ...]:
        return self._read("list_sweepers", self._memory.list_sweepers)  # type: ignore[no-any-return]

    def read_last_tick(self) -> tuple[int, dict[str, int]] | None:
        return self._read("read_last_tick", self._memory.read_last_tick)  # type: ignore[no-any-return]


class FaultyHandoff:
    """Handoffs on their way to runners; `deliver` starts one."""

    def __init__(self, world: World, faults: Faults, deliver: Callable[[str, int, int, str | None], None]) -> None:
        self._world = world
        self._faults = faults
        self._deliver = deliver

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        world = self._world
        site = f"{world.actor.kind}.offer"
        fault = self._faults.next(world, site, faults_of(site))
        if fault == "killed before":
            world.kill(world.actor)
        world.pause(5)
        if fault == "slow":
            freeze(self._world)
        for delay in self._delays(fault):
            self._deliver(job_id, run_at, delay, name)
        world.note(f"{world.actor.name} offers {job_id}")
        if fault == "killed after":
            world.kill(world.actor)
        if fault in {"refused", "refused but taken"}:
            raise TimeoutError("simulated")

    def _delays(self, fault: str | None) -> tuple[int, ...]:
        """When the runner is started: not at all, once, or twice."""
        match fault:
            case "dropped" | "refused":
                return ()
            case "doubled":
                return (10, self._world.random.choice((20, 5_000, 200_000)))
            case "late":
                return (self._world.random.choice((5_000, 45_000, 400_000)),)
            case _:
                return (10,)


def _brief(answer: Any) -> str:
    match answer:
        case Answer(done, record):
            return f"{'done' if done else 'refused'} {record.status if record else None}"
        case Added(holder, found):
            return f"held by {holder}" if holder else "there already" if found else "added"
        case Settled():
            return answer.value
        case _:
            return str(answer)[:60]
