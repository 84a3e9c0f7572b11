"""Many RelayQs on two tables, and gates at which they wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from relayq_core.client import RelayQ
from relayq_core.ports import JobStore
from relayq_core.testing import ManualClock, RecordingHandoff
from tests.support import dynamo

T = TypeVar("T")


#: As many as ever race each other.
MOST = 64


@dataclass
class Track:
    """Two tables, and a RelayQ for each thread."""

    clients: Sequence[Any]
    pool: ThreadPoolExecutor
    tables: dynamo.Tables
    clock: ManualClock = field(default_factory=ManualClock)
    handoff: RecordingHandoff = field(default_factory=RecordingHandoff)

    def relayq(
        self,
        number: int = 0,
        *,
        clock: ManualClock | None = None,
        gate: tuple[Any, ...] = (),
        **settings: Any,
    ) -> RelayQ:
        """The RelayQ of one thread; `gate` is where its store is held up, and at what: see Gate."""
        made = self.tables.relayq(
            self.clients[number], settings=settings, handoff=self.handoff, clock=clock or self.clock
        )
        if gate[1:]:
            made.store = Gate(made.store, *gate)
        return made

    def relayqs(self, count: int, *verbs: str) -> list[RelayQ]:
        """One for each of `count` threads; their first writes of these kinds are made at once."""
        line = threading.Barrier(count)
        return [self.relayq(number, gate=(line, *verbs)) for number in range(count)]

    def at_once(self, *asks: Callable[[], T]) -> list[T]:
        """What each was answered, all having asked at the same moment. Raises what any of them raised."""
        start = threading.Barrier(len(asks))

        def go(ask: Callable[[], T]) -> T:
            start.wait(60)
            return ask()

        return [future.result(60) for future in [self.pool.submit(go, ask) for ask in asks]]

    def job_rows(self) -> set[str]:
        """The ids of all jobs in the jobs table."""
        pages = self.clients[0].get_paginator("scan").paginate(TableName=self.tables.jobs, ConsistentRead=True)
        keys = [item["pk"]["S"] for page in pages for item in page["Items"]]
        return {key.removeprefix("job#") for key in keys if key.startswith("job#")}


class Gate:
    """A store whose first write of one of these kinds waits until all who race it stand at the gate too."""

    def __init__(self, store: JobStore, line: threading.Barrier, *verbs: str) -> None:
        self._store = store
        self._line = line
        self._verbs = verbs

    def __getattr__(self, verb: str) -> Any:
        if verb in self._verbs:
            self._verbs = ()
            self._line.wait(60)
        return getattr(self._store, verb)
