"""Publish to other systems what happens to jobs. It never fails a job, and no job waits for it."""

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

#: kind of event -> its published name. The other kinds are about RelayQ itself: metrics count them.
TITLES = {
    "dispatched": "Job Dispatched",
    "started": "Job Started",
    "processed": "Job Processed",
    "failed": "Job Failed",
    "snoozed": "Job Snoozed",
    "cancelled": "Job Cancelled",
    "lease_lost": "Job Lease Lost",
}
#: Publishing these at once would delay the job; they go out with the next publish().
_DEFERRED = frozenset({"dispatched", "started"})
#: EventBridge takes at most this many in one call.
_BATCH = 10
#: How many are kept for one publication; more would not fit into its time.
_MAX_KEPT = 1000
#: A publication begins no call after this time, and none with less than that time left of the invocation.
_PUBLISH_MS = 2_000
_LAST_MS = 3_000
#: How long nothing is published after the bus failed.
_PAUSE_MS = 30_000
_ERROR_BYTES = 300


def build_detail(event: JobEvent, at: int, table: str) -> dict[str, Any]:
    """Return what is published of an event, without unknown values. It never has the payload or the result."""
    job = event.job
    waits = event.kind in {"dispatched", "snoozed"} or event.will_retry is True
    detail = {
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
    return {name: value for name, value in detail.items() if value is not None}


class Publisher:
    """Keeps what happened, and publishes it as soon as no job would have to wait for that.

    Inside a handler and within `hold` it only keeps events. Elsewhere it publishes at once, except a dispatch and a
    start: those wait for `publish`, for the next event, or until they fill a call.
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
        #: in a child of a fork: the job whose handler forked; its end, and the publishing then, are the parent's
        self._forked_job: JobRecord | None = None
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Forget what is kept, in the child of a fork: the parent publishes it."""
        self._kept, self._lost, self._held = deque(), Counter(), False
        self._forked_job = current_job.get()

    def keep(self, event: JobEvent) -> None:
        """Keep an event, if its kind is published. Raises nothing but JobTimeout."""
        if event.kind not in TITLES:
            return
        try:
            now = self._clock.now()
            if len(self._kept) >= _MAX_KEPT:
                self._lose([event], f"more than {_MAX_KEPT} at once")
                return
            detail = json.dumps(build_detail(event, now, self._table), separators=(",", ":"))
            self._kept.append((Announcement(TITLES[event.kind], now, detail), event))
        except JobTimeout:
            raise
        except Exception as error:
            self._lose([event], summarize_error(error))
        if event.kind not in _DEFERRED or len(self._kept) >= _BATCH:
            self.publish()

    def publish(self) -> None:
        """Publish what is kept, unless a handler is running or events are held."""
        if not self._held and current_job.get() in (None, self._forked_job):
            self._publish_kept(_PUBLISH_MS)

    @contextmanager
    def hold(self, remaining: Callable[[], int] | None) -> Iterator[None]:
        """Keep all events until the end of this invocation, then publish them in the milliseconds that remain."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._publish_kept(_PUBLISH_MS if remaining is None else min(_PUBLISH_MS, remaining() - _LAST_MS))

    def _publish_kept(self, within_ms: int) -> None:
        until = self._clock.now() + within_ms
        while batch := self._take_batch():
            now = self._clock.now()
            if self._is_paused(now):
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
            answered = list(zip(batch, answers, strict=True))
        except Exception as error:
            self._failed_at = self._clock.now()
            reason = f"{summarize_error(error)}; nothing is published for {_PAUSE_MS // 1000} s"
            self._lose([event for _, event in batch], reason)
            return
        for (_, event), refusal in answered:
            if refusal is not None:
                self._lose([event], refusal)

    def _take_batch(self) -> list[tuple[Announcement, JobEvent]]:
        """Remove and return the oldest kept events, at most _BATCH; another thread may be taking some too."""
        batch: list[tuple[Announcement, JobEvent]] = []
        while self._kept and len(batch) < _BATCH:
            try:
                batch.append(self._kept.popleft())
            except IndexError:
                break
        return batch

    def _is_paused(self, now: int) -> bool:
        """Whether the bus failed a moment ago. A clock that is set back ends the pause."""
        return self._failed_at is not None and 0 <= now - self._failed_at < _PAUSE_MS

    def _lose(self, lost: list[JobEvent], reason: str) -> None:
        self._lost[reason] += len(lost)
        for event in lost:
            self._listeners.emit(JobEvent(kind="publish_failed", job=event.job))


class PublishedEvents(Events):
    """The listeners of this process, followed by the bus."""

    def __init__(self, listeners: Events, publisher: Publisher) -> None:
        super().__init__()
        self._all = listeners
        self._publisher = publisher

    def is_heard(self, kind: str) -> bool:
        """Whether there is a listener for this kind: always, because the bus takes every event."""
        return True

    def emit(self, event: JobEvent) -> None:
        """Call all listeners, then keep the event for the bus. Raises nothing but the handler's own deadline."""
        self._all.emit(event)
        self._publisher.keep(event)
