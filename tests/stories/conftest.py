"""The core on fakes: a store in memory, a clock set by hand, a handoff that remembers. No AWS, no waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core.model.record import JobRecord
from relayq_core.testing import Bench
from tests.support.factories import a_lease
from tests.support.isolation import isolated

__all__ = ["isolated"]


@pytest.fixture
def bench() -> Bench:
    """RelayQ with the default settings."""
    return Bench()


@pytest.fixture
def crash(bench: Bench) -> Callable[[str], JobRecord]:
    """A runner claims the job, and is never heard of again."""

    def claim(job_id: str) -> JobRecord:
        answer = bench.store.claim(job_id, a_lease("crashed", now=bench.clock.now()))
        assert answer.done
        assert answer.record is not None
        return answer.record

    return claim


@pytest.fixture
def told(bench: Bench) -> list[str]:
    """Every event, in order, as `kind:job_id`."""
    from relayq_core.events.listeners import KINDS, events

    kinds: list[str] = []
    for kind in KINDS:
        events.on(kind)(lambda event: kinds.append(event.kind))
    return kinds
