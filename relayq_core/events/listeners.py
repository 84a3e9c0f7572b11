"""Events: what happens to jobs, reported to listeners. A listener that raises is logged and changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from relayq_core.errors import InvalidOption, suggest
from relayq_core.jobs.context import isolate, log_fields
from relayq_core.model.record import JobRecord
from relayq_core.model.value import Value
from relayq_core.process.loggers import logger
from relayq_core.text import locate_error

#: dispatched: accepted and written. started: claimed, the handler is about to run. processed: the handler
#: returned and that is settled. failed: an attempt failed; `will_retry` says whether another follows.
#: snoozed, cancelled: settled so. lease_lost: an outcome was discarded, another runner holds the job.
#: handoff_failed: no runner could be notified, the sweeper will do it. hint_failed: Redis did not answer about a unique
#: key, only DynamoDB is asked for a while. publish_failed: an event of this job did not reach the event bus.
KINDS = (
    "dispatched",
    "started",
    "processed",
    "failed",
    "snoozed",
    "cancelled",
    "lease_lost",
    "handoff_failed",
    "hint_failed",
    "publish_failed",
)


class JobEvent(Value, kw_only=True):
    """One thing that happened to one job. Durations in milliseconds."""

    kind: str
    job: JobRecord
    #: how long the handler ran
    duration_ms: float | None = None
    #: how long the job waited beyond its time, in `started`
    wait_ms: int | None = None
    error: BaseException | None = None
    will_retry: bool | None = None


Listener: TypeAlias = Callable[[JobEvent], object]
L = TypeVar("L", bound=Listener)


class Events:
    """The listeners, by kind of event."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = defaultdict(list)

    def on(self, kind: str) -> Callable[[L], L]:
        """Decorate a function that takes a JobEvent: `@on("failed")`. Raises InvalidOption for an unknown kind."""
        if kind not in KINDS:
            raise InvalidOption("event", f"there is no {kind!r}.{suggest(kind, KINDS)} Known: {', '.join(KINDS)}")

        def listen(listener: L) -> L:
            self._listeners[kind].append(listener)
            return listener

        return listen

    def off(self, listener: Listener) -> None:
        """Remove a listener from every kind of event."""
        for listeners in self._listeners.values():
            if listener in listeners:
                listeners.remove(listener)

    def notify(
        self, kind: str, job: JobRecord, *, duration_ms: float | None = None, wait_ms: int | None = None
    ) -> None:
        """Emit an event that every job has: it is built only if there is a listener for it."""
        if self.is_heard(kind):
            self.emit(JobEvent(kind=kind, job=job, duration_ms=duration_ms, wait_ms=wait_ms))

    def is_heard(self, kind: str) -> bool:
        """Whether there is a listener for this kind."""
        return bool(self._listeners.get(kind))

    def emit(self, event: JobEvent) -> None:
        """Call all listeners of this kind. Never raises.

        Context variables that a listener sets are discarded, except those set at `started`: the handler sees them.
        """
        for listener in tuple(self._listeners.get(event.kind, ())):
            try:
                if event.kind == "started":
                    listener(event)
                else:
                    isolate(listener, event)
            except BaseException as error:
                # not its traceback: that has the texts of all its causes, which may quote the payload or be very long
                logger.error("a listener raised; the job goes on: %s", locate_error(error), extra=log_fields(event.job))


#: The events that `@on` listens to.
events = Events()
on = events.on
