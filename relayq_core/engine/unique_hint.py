"""Unique hints: ask a cache which job holds a unique key. A failing hint never fails a dispatch; it rests for 30 s."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from relayq_core.errors import JobTimeout, SettingsError
from relayq_core.events.listeners import Events, JobEvent
from relayq_core.jobs.context import log_fields
from relayq_core.model.record import JobRecord
from relayq_core.ports import Clock, UniqueHint
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error

#: A hint that failed is not asked for this long.
REST_MS = 30_000
#: How long the holder of a key without a window is remembered: it holds the key until it ends, whenever that is.
UNTIL_DONE_MS = 3_600_000

T = TypeVar("T")


def is_resting(failed_at: int | None, now: int) -> bool:
    """Whether a hint that last failed at that time is not asked now; a clock that was set back ends the rest."""
    return failed_at is not None and 0 <= now - failed_at < REST_MS


def compute_lifetime(record: JobRecord, now: int) -> int:
    """Return for how many milliseconds to remember who holds this job's unique key; 0 or less: not at all."""
    if record.unique_for_ms is None:
        return UNTIL_DONE_MS
    return record.created_at + record.unique_for_ms - now


class UniqueHints:
    """Asks a hint for the dispatcher. Without a hint it finds no holder and remembers none."""

    def __init__(self, hint: UniqueHint | None, events: Events, clock: Clock) -> None:
        self._hint = hint
        self._events = events
        self._clock = clock
        self._failed_at: int | None = None

    def find_holder(self, record: JobRecord) -> str | None:
        """Return the job that holds the record's unique key, if the hint names one. Raises SettingsError."""
        key = record.unique_pk
        # a mistake in the environment is raised here, before anything is written
        return None if key is None else self._ask(record, lambda hint: hint.holder(key), (JobTimeout, SettingsError))

    def remember(self, record: JobRecord, holder: str) -> None:
        """Remember that the job `holder` holds the record's unique key."""
        key = record.unique_pk
        if key is not None and (ttl_ms := compute_lifetime(record, self._clock.now())) > 0:
            self._ask(record, lambda hint: hint.remember(key, holder, ttl_ms))

    def _ask(
        self,
        record: JobRecord,
        question: Callable[[UniqueHint], T],
        # the time of the handler that dispatches is over: that is not the hint's failure
        raised: tuple[type[Exception], ...] = (JobTimeout,),
    ) -> T | None:
        if self._hint is None or is_resting(self._failed_at, self._clock.now()):
            return None
        try:
            return question(self._hint)
        except raised:
            raise
        except Exception as error:
            self._failed_at = self._clock.now()
            logger.warning(
                "the unique hint failed (%s); for %d s DynamoDB is asked alone",
                summarize_error(error),
                REST_MS // 1000,
                extra=log_fields(record),
            )
            self._events.emit(JobEvent(kind="hint_failed", job=record, error=error))
            return None
