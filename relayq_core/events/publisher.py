"""Publishing: other systems are told what happens to jobs. It never fails a job, and no job waits for it."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from relayq_core.errors import JobTimeout
from relayq_core.events.listeners import Events, JobEvent
from relayq_core.jobs.lineage import current_job
from relayq_core.model.record import JobRecord
from relayq_core.ports import Announcement, Clock, EventBus
from relayq_core.process.forks import reset_in_children
from relayq_core.process.loggers import logger
from relayq_core.text import format_iso, summarize_error

#: kind of event -> what it is called outside. The others are about RelayQ itself: metrics tell of them.
TITLES = {
    "dispatched": "Job Dispatched",
    "started": "Job Started",
    "processed": "Job Processed",
    "failed": "Job Failed",
    "snoozed": "Job Snoozed",
    "cancelled": "Job Cancelled",
    "lease_lost": "Job Lease Lost",
}
#: Between these and what they tell of, the job would have to wait.
_TOO_SOON = frozenset({"dispatched", "started"})
#: EventBridge takes so many in one call.
_BATCH = 10
#: More than these are not kept for one publication; they would not fit into its time.
_MOST_KEPT = 1000
#: A publication begins no call after this, and none with less than that left of the invocation.
_PATIENCE_MS = 2_000
_LAST_MS = 3_000
#: How long a bus that failed is left alone.
_REST_MS = 30_000
_ERROR_BYTES = 300


def build_detail(event: JobEvent, at: int, table: str) -> dict[str, Any]:
    """What is published of an event; what is not known is left out. Never the payload, never the result."""
    job = event.job
    waits = event.kind in {"dispatched", "snoozed"} or event.will_retry is True
    found = {
        "event": event.kind,
        "table": table,
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "status": job.status.value,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "at": format_iso(at),
        "created_at": format_iso(job.created_at),
        "available_at": format_iso(job.available_at) if waits else None,
        "wait_ms": event.wait_ms,
        "duration_ms": None if event.duration_ms is None else round(event.duration_ms),
        "will_retry": event.will_retry,
        "error": None if event.error is None else summarize_error(event.error, _ERROR_BYTES),
        "parent_id": job.parent_id,
        "root_id": job.root_id,
        "trace_id": job.trace_id,
    }
    return {name: value for name, value in found.items() if value is not None}


class Publisher:
    """Keeps what happened, and tells the bus of it when nothing waits for that any more.

    Inside a handler and within `held` it only keeps. Elsewhere the bus is told at once, but of a dispatch and of a
    start: those wait for `publish`, for what comes next, or until they fill a call.
    """

    def __init__(self, bus: EventBus, listeners: Events, clock: Clock, table: str) -> None:
        self._bus = bus
        self._listeners = listeners
        self._clock = clock
        self._table = table
        self._kept: deque[tuple[Announcement, JobEvent]] = deque()
        self._held = False
        self._failed_at: int | None = None
        self._lost: Counter[str] = Counter()
        #: in a child of a fork: the job whose handler forked, and which publishes nothing here at its end
        self._left: JobRecord | None = None
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """In a child of a fork: what is kept is the parent's to publish, and at whose end it would is not here."""
        self._kept, self._lost, self._held = deque(), Counter(), False
        self._left = current_job.get()

    def keep(self, event: JobEvent) -> None:
        """Take note of an event, if it is one that is published. Raises nothing but JobTimeout."""
        if event.kind not in TITLES:
            return
        try:
            now = self._clock.now()
            if len(self._kept) >= _MOST_KEPT:
                self._lose([event], f"more than {_MOST_KEPT} at once")
                return
            told = json.dumps(build_detail(event, now, self._table), separators=(",", ":"))
            self._kept.append((Announcement(TITLES[event.kind], now, told), event))
        except JobTimeout:
            raise
        except Exception as error:
            self._lose([event], summarize_error(error))
        if event.kind not in _TOO_SOON or len(self._kept) >= _BATCH:
            self.publish()

    def publish(self) -> None:
        """Tell the bus what is kept, unless something waits here."""
        if not self._held and current_job.get() in (None, self._left):
            self._tell(_PATIENCE_MS)

    @contextmanager
    def hold(self, remaining: Callable[[], int] | None) -> Iterator[None]:
        """Keep all until the end of this invocation, and then tell the bus, in the milliseconds that are left."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._tell(_PATIENCE_MS if remaining is None else min(_PATIENCE_MS, remaining() - _LAST_MS))

    def _tell(self, patience: int) -> None:
        until = self._clock.now() + patience
        while batch := self._taken():
            now = self._clock.now()
            if self._rests(now):
                self._lose([event for _, event in batch], "the bus failed a moment ago")
            elif now >= until:
                self._lose([event for _, event in batch], "there was no time left")
            else:
                self._put(batch)
        lost, self._lost = self._lost, Counter()  # another thread may be losing more
        for reason, count in list(lost.items()):
            logger.warning("%d events were not published: %s", count, reason)

    def _put(self, batch: list[tuple[Announcement, JobEvent]]) -> None:
        try:
            answers = self._bus.put([announcement for announcement, _ in batch])
            judged = list(zip(batch, answers, strict=True))
        except Exception as error:
            self._failed_at = self._clock.now()
            reason = f"{summarize_error(error)}; the bus is left alone for {_REST_MS // 1000} s"
            self._lose([event for _, event in batch], reason)
            return
        for (_, event), refused in judged:
            if refused is not None:
                self._lose([event], refused)

    def _taken(self) -> list[tuple[Announcement, JobEvent]]:
        """The oldest that are kept; another thread may be taking too."""
        batch: list[tuple[Announcement, JobEvent]] = []
        while self._kept and len(batch) < _BATCH:
            try:
                batch.append(self._kept.popleft())
            except IndexError:
                break
        return batch

    def _rests(self, now: int) -> bool:
        """A clock that was set back ends the rest."""
        return self._failed_at is not None and 0 <= now - self._failed_at < _REST_MS

    def _lose(self, lost: list[JobEvent], reason: str) -> None:
        self._lost[reason] += len(lost)
        for event in lost:
            self._listeners.emit(JobEvent(kind="publish_failed", job=event.job))


class PublishedEvents(Events):
    """The listeners of this process, and after them the bus."""

    def __init__(self, listeners: Events, publisher: Publisher) -> None:
        super().__init__()
        self._all = listeners
        self._publisher = publisher

    def is_heard(self, kind: str) -> bool:
        """The bus always listens."""
        return True

    def emit(self, event: JobEvent) -> None:
        """Tell all listeners, then keep it for the bus. Never raises but for the handler's own deadline."""
        self._all.emit(event)
        self._publisher.keep(event)
