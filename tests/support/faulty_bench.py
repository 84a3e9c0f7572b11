"""A store whose calls fail as a test scripts it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal, cast

from relayq_core.errors import StoreError, StoreUnavailable
from relayq_core.ports import JobStore
from relayq_core.testing import Bench, MemoryStore

#: `lost`: it was done, and the answer was lost. `unsent`: it was not done, with no answer. `denied`: refused for good.
#: `resent`: it was done, the answer was lost, and the SDK sent it again; this is the second try's answer.
Fault = Literal["lost", "unsent", "denied", "resent"]


class Faulty:
    """`faults["add"] = ["lost"]`: the next call of add is done and not answered, the one after it works.

    None stands for a call that works, before others that do not.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.faults: defaultdict[str, list[Fault | None]] = defaultdict(list)
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            fault = self.faults[name].pop(0) if self.faults[name] else None
            if fault == "denied":
                raise StoreError(f"{name} was denied", "grant it")
            answer = None if fault == "unsent" else method(*args, **kwargs)
            if fault == "resent":
                return method(*args, **kwargs)
            if fault is not None:
                raise StoreUnavailable(name, "no answer")
            return answer

        return call


class FaultyBench(Bench):
    """A bench whose store fails as a test scripts it."""

    def __init__(self, **settings: Any) -> None:
        made: list[Faulty] = []

        def through(store: MemoryStore) -> JobStore:
            made.append(Faulty(store))
            return cast("JobStore", made[0])

        super().__init__(through=through, **settings)
        self.faulty = made[0]
        self.faults = made[0].faults
