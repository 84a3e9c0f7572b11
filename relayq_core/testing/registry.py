"""Isolate a test's job types and listeners."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from relayq_core.events.listeners import events
from relayq_core.jobs.registry import registry


@contextmanager
def isolated_registry() -> Iterator[None]:
    """While the block runs, have only the jobs and listeners that it defines; restore the others afterwards."""
    types, listeners = registry.swap({}), events._listeners
    events._listeners = defaultdict(list)
    try:
        yield
    finally:
        registry.swap(types)
        events._listeners = listeners
