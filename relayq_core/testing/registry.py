"""A registry that forgets what a test defines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from relayq_core.events.listeners import events
from relayq_core.jobs.registry import registry


@contextmanager
def isolated_registry() -> Iterator[None]:
    """Inside there are no jobs and no listeners but those defined there; afterwards all is as it was."""
    types, listeners = registry.swap({}), events._listeners
    events._listeners = defaultdict(list)
    try:
        yield
    finally:
        registry.swap(types)
        events._listeners = listeners
