"""Hints: a fast look at who has a unique key, and 30 seconds' rest for a hint that failed. They never fail anybody."""

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

#: How long a hint that failed is left alone.
REST_MS = 30_000
#: How long the holder of a key without a window is remembered; nobody knows how long it will hold.
UNTIL_DONE_MS = 3_600_000

T = TypeVar("T")


def rests(failed_at: int | None, now: int) -> bool:
    """Whether a hint that last failed then is to be left alone now; a clock that was set back ends the rest."""
    return failed_at is not None and 0 <= now - failed_at < REST_MS


def lifetime(record: JobRecord, now: int) -> int:
    """For how many milliseconds to remember who has this job's unique key; none, if that is not positive."""
    if record.unique_for_ms is None:
        return UNTIL_DONE_MS
    return record.created_at + record.unique_for_ms - now


class Hints:
    """What the dispatcher asks of a hint. Without one it knows nothing, and forgets everything."""

    def __init__(self, hint: UniqueHint | None, events: Events, clock: Clock) -> None:
        self._hint = hint
        self._events = events
        self._clock = clock
        self._failed_at: int | None = None

    def holder(self, record: JobRecord) -> str | None:
        """Which job is said to have the record's unique key, if anything is said. Raises SettingsError."""
        key = record.unique_pk
        # a mistake in the environment is told here, where nothing is written yet
        return None if key is None else self._ask(record, lambda hint: hint.holder(key), (JobTimeout, SettingsError))

    def remember(self, record: JobRecord, holder: str) -> None:
        """Say that the job `holder` has the record's unique key."""
        key = record.unique_pk
        if key is not None and (ttl_ms := lifetime(record, self._clock.now())) > 0:
            self._ask(record, lambda hint: hint.remember(key, holder, ttl_ms))

    def _ask(
        self,
        record: JobRecord,
        question: Callable[[UniqueHint], T],
        # a handler that dispatches has come to the end of its time: that is not the hint's failure
        raised: tuple[type[Exception], ...] = (JobTimeout,),
    ) -> T | None:
        if self._hint is None or rests(self._failed_at, self._clock.now()):
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
