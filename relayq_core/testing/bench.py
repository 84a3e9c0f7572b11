"""Run RelayQ on fakes, with access to every part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from relayq_core import api
from relayq_core.client import RelayQ
from relayq_core.engine.results import RunResult
from relayq_core.engine.sweeper import Scope, SweepResult
from relayq_core.ports import EventBus, JobStore, UniqueHint
from relayq_core.settings import Settings
from relayq_core.testing.clock import ManualClock
from relayq_core.testing.handoff import RecordingHandoff
from relayq_core.testing.memory import MemoryStore


class Bench:
    """RelayQ on fakes, with its parts: `relayq`, `store`, `handoff`, `clock`.

    Keyword arguments are those of Settings: `Bench(max_attempts=1)`. `through` takes the store and returns what RelayQ
    uses in its place. `hint` knows the holders of unique keys, and `event_bus` receives the events.
    """

    def __init__(
        self,
        *,
        clock: ManualClock | None = None,
        through: Callable[[MemoryStore], JobStore] = lambda store: store,
        hint: UniqueHint | None = None,
        event_bus: EventBus | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or ManualClock()
        self.store = MemoryStore(self.clock)
        self.handoff = RecordingHandoff()
        values = {"jobs_table": "jobs", "failed_table": "failed", "runner_function": "runner", **settings}
        self.relayq = RelayQ(
            Settings(**values),
            store=through(self.store),
            handoff=self.handoff,
            hint=hint,
            event_bus=event_bus,
            clock=self.clock,
        )

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While the block runs, make `dispatch()`, `get()` and `cancel()` those of this bench."""
        former = api.use(self.relayq)
        try:
            yield
        finally:
            api.use(former)

    def run(
        self, job_id: str, run_at: int | None = None, *, seconds: float = 900, name: str | None = None
    ) -> RunResult:
        """Run a job as the runner function does, in an invocation of `seconds`; `name` is the handoff's hint."""
        with self.installed():
            return self.relayq.runner.run(job_id, run_at, self.clock.countdown(seconds=seconds), name)

    def sweep(self, scope: Scope | None = None, *, seconds: float = 150) -> SweepResult:
        """Sweep once, in an invocation of `seconds`; without a scope, as the schedule does."""
        ahead = Scope(lookahead_ms=self.relayq.settings.lookahead_seconds * 1000)
        return self.relayq.sweeper.sweep(self.clock.countdown(seconds=seconds), scope or ahead)
