"""A worker of the simulation: the real Worker, and processes that are actors of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from relayq_core.engine.sweeper import Sweeper
from relayq_core.errors import StoreError
from relayq_core.model.record import JobRecord
from relayq_core.worker.child import Report
from relayq_core.worker.pool import ProcessExit, Slot
from relayq_core.worker.worker import Worker
from tests.adversity.simulation.world import Actor

if TYPE_CHECKING:
    from relayq_core.client import RelayQ
    from tests.adversity.simulation.cast import Stage

#: How long a job in a worker may run (a week).
_LONGEST_MS = 604_800_000
#: How often a worker looks whether a process has ended, milliseconds.
_LOOK_MS = 500


class SimSlot:
    """One process of a worker at a time."""

    def __init__(self, slots: SimSlots) -> None:
        self.job: JobRecord | None = None
        self.process: Actor | None = None
        #: what its process has said, and the worker has not read
        self.said: Report | ProcessExit | None = None
        self._slots = slots
        self._kept_until = 0

    @property
    def is_free(self) -> bool:
        return self.job is None

    def assign(self, claimed: JobRecord) -> None:
        self.job = claimed
        self.process = self._slots.start(self, claimed)

    def allow_until(self, until: int) -> None:
        """As relayq_core/worker/guard.py does: whatever holds the worker up, its process ends at that moment."""
        self._kept_until = until
        left = max(0, until - self._slots.now())
        self._slots.stage.world.at(left, lambda: self._end_if_kept_until(until))

    def _end_if_kept_until(self, until: int) -> None:
        process = self.process
        if self._kept_until == until and process is not None and not process.dead:
            self._slots.stage.world.kill(process)

    def kill(self) -> None:
        if self.process is not None and not self.process.dead:
            self._slots.stage.world.kill(self.process)
        self.process = self.said = None

    def hear(self) -> tuple[JobRecord, Report | ProcessExit] | None:
        """What became of its job, if anything did."""
        if self.process is not None and self.process.dead and self.said is None:
            self.said = ProcessExit(-9)
        job, said = self.job, self.said
        if job is None or said is None:
            return None
        self.job = self.process = self.said = None
        return job, said


class SimSlots:
    """All processes of one worker."""

    def __init__(self, stage: Stage, worker: Actor, count: int) -> None:
        self.stage = stage
        self._worker = worker
        self._all = [SimSlot(self) for _ in range(count)]

    @property
    def slots(self) -> Sequence[Slot]:
        return self._all

    def now(self) -> int:
        """The worker's time."""
        return self.stage.clock(self._worker).now()

    def start(self, slot: SimSlot, claimed: JobRecord) -> Actor:
        """Have a job performed, as relayq_core/worker/child.py does."""

        def body(actor: Actor) -> None:
            ran = self.stage.runner(actor).run_claimed(claimed, lambda: _LONGEST_MS)
            if slot.process is actor:
                slot.said = Report(ran.ended)

        process = self.stage.world.spawn("runner", body, skew=self._worker.skew)
        process.renews, process.works_for = True, self._worker
        self._worker.children.append(process)
        return process

    def collect(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | ProcessExit]]:
        if all(slot.said is None for slot in self._all):
            self.stage.world.pause(min(round(seconds * 1000), _LOOK_MS))
        for slot in self._all:
            if (said := slot.hear()) is not None:
                yield slot, *said


def work(stage: Stage, actor: Actor, *, slots: int, leaves_after: int, hurries_after: int) -> None:
    """Work until it is asked to leave, and asked again, milliseconds from now."""
    clock, store, handoff = stage.clock(actor), stage.store(), stage.handoff()
    events = stage.events(actor)
    began = stage.world.now
    parts = SimpleNamespace(
        store=store,
        handoff=handoff,
        clock=clock,
        policy=stage.policy,
        events=events,
        sweeper=Sweeper(store, handoff, clock, stage.policy, events, page=2),
    )

    def stopping() -> int:
        return sum(stage.world.now >= began + asked for asked in (leaves_after, hurries_after))

    with suppress(StoreError):  # refused for good: it leaves, when the jobs in hand have ended
        Worker(cast("RelayQ", parts), SimSlots(stage, actor, slots), stopping=stopping).work()
