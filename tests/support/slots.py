"""Slots of a worker on fakes: each performs its job when the worker asks how it goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from relayq_core.engine.runner import Runner
from relayq_core.events.listeners import events
from relayq_core.jobs.registry import registry
from relayq_core.model.record import JobRecord
from relayq_core.testing import Bench
from relayq_core.worker.child import Report
from relayq_core.worker.pool import ProcessExit, Slot

HOUR = 3_600_000


@dataclass(eq=False)
class FakeSlot:
    """A process that performs its job when the worker asks how it goes: at once, or after a time; or dies."""

    slots: FakeSlots
    job: JobRecord | None = None
    kills: int = 0
    #: until when it may run
    kept_until: int = 0

    @property
    def is_free(self) -> bool:
        return self.job is None

    def assign(self, claimed: JobRecord) -> None:
        self.job = claimed

    def allow_until(self, until: int) -> None:
        self.kept_until = until

    def kill(self) -> None:
        self.kills += 1


@dataclass
class FakeSlots:
    """Slots on a bench. `lasts` is how long a handler takes by the name of its job; `dies`: names that crash."""

    bench: Bench
    count: int = 1
    lasts: dict[str, int] = field(default_factory=dict)
    dies: set[str] = field(default_factory=set)
    status: int = 137
    slots: list[FakeSlot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = [FakeSlot(self) for _ in range(self.count)]
        relayq = self.bench.relayq
        self._runner = Runner(
            relayq.store, relayq.handoff, relayq.clock, replace(relayq.policy, renews=True), registry, events
        )

    def collect(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | ProcessExit]]:
        clock = self.bench.clock
        clock.sleep(round(seconds * 1000))
        for slot in self.slots:
            claimed = slot.job
            if claimed is None or clock.now() < (claimed.started_at or 0) + self.lasts.get(claimed.name, 0):
                continue
            slot.job = None
            if claimed.name in self.dies:
                yield slot, claimed, ProcessExit(self.status)
            else:
                yield slot, claimed, Report(self._runner.run_claimed(claimed, lambda: 24 * HOUR).ended)
