"""Registration: the sweeper must know a queue before a job depends on it."""

from __future__ import annotations

from relayq_core.model.queues import REGISTERED_MS
from relayq_core.ports import Clock, QueueStore


class Registrations:
    """The queues that this process has registered, and when.

    Each is registered again after some minutes: the list may have been overwritten or restored, or the name taken back.
    """

    def __init__(self, store: QueueStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._at: dict[str, int] = {}

    def register(self, queue: str) -> None:
        """Make the queue known, unless this process did so within 5 minutes. Raises InvalidOption, StoreError."""
        now = self._clock.now()
        last = self._at.get(queue)
        if last is None or not 0 <= now - last < REGISTERED_MS:
            self._store.register_queue(queue)
            self._at[queue] = now

    def drop(self, queue: str) -> None:
        """Forget that this process has registered the queue."""
        self._at.pop(queue, None)
