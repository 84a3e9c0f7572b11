"""JobContext: what a handler knows of the job it runs; and which job's handler is running here."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from relayq_core.errors import InvalidOption, quote
from relayq_core.jobs.lineage import current_job, follow_threads, get_job_of_thread
from relayq_core.model.value import Value, field
from relayq_core.process.loggers import job_logger
from relayq_core.text import cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relayq_core.model.record import JobRecord

#: A handler may report progress at any rate; it is written at most once in this time.
_PROGRESS_EVERY_MS = 2_000
_NOTE_BYTES = 200

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def enter_job(record: JobRecord) -> Iterator[None]:
    """Return a context in which dispatches are children of this job, in threads and pools that are used there, too."""
    follow_threads()
    token = current_job.set(record)
    try:
        yield
    finally:
        current_job.reset(token)


def find_parent_job() -> JobRecord | None:
    """Return the job whose handler runs here, or has started this thread, or None."""
    job = current_job.get()
    return get_job_of_thread() if job is None else job


#: What logging's own methods take beside the message; `extra` is added below.
_LOG_KEYWORDS = frozenset({"exc_info", "stack_info", "stacklevel"})
#: The names that logging refuses in `extra`: a log record has them already.
_RECORD_NAMES = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})


def isolate(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a copy of this context: the variables that it sets, and decimal's precision, end with it."""

    def call() -> T:
        decimal: Any = sys.modules.get("decimal")
        if decimal is not None:  # a copied context holds the same decimal context, which is changed in place
            decimal.setcontext(decimal.getcontext().copy())
        return action(*args, **kwargs)

    return copy_context().run(call)


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the job's fields to the caller's `extra`. A log line never fails its attempt.

    `extra` may be None. Keywords that logging does not know become fields, as in Powertools and structlog; a field
    with the name of a log record's own attribute gets an underscore in front.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = kwargs.pop("extra", None)
        keywords = {name: kwargs.pop(name) for name in _LOG_KEYWORDS & kwargs.keys()}
        if not isinstance(keywords.get("stacklevel", 1), int):
            del keywords["stacklevel"]
        more = extra if isinstance(extra, Mapping) else {} if extra is None else {"extra": extra}
        fields = {escape_field_name(name): value for name, value in {**more, **kwargs}.items()}
        return msg, {**keywords, "extra": {**(self.extra or {}), **fields}}


def escape_field_name(name: Any) -> str:
    return f"_{name}" if name in _RECORD_NAMES else str(name)


class JobContext(Value, kw_only=True):
    """What a handler that asks for it is passed: the job, its attempt and its time. `remaining()` is in seconds."""

    job_id: str
    name: str
    queue: str
    #: 1 for the first attempt
    attempt: int
    max_attempts: int
    #: the X-Ray trace in which the job, or the first of its chain, was dispatched; None outside Lambda
    trace_id: str | None = None
    #: when the handler is stopped with JobTimeout, epoch milliseconds
    deadline_ms: int
    _now: Callable[[], int] = field(shown=False)
    _report: Callable[[str], bool] = field(shown=False)
    _reported_at: int | None = field(default=None, shown=False)

    @property
    def is_last_attempt(self) -> bool:
        """Whether no attempt is left after this one."""
        return self.attempt >= self.max_attempts

    @property
    def deadline(self) -> datetime:
        """When the handler is stopped with JobTimeout, as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.deadline_ms / 1000, UTC)

    def remaining(self) -> float:
        """Return the seconds left until the deadline, never below 0."""
        return max(0.0, (self.deadline_ms - self._now()) / 1000)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this job: pass it to a service that must not do the same thing twice."""
        return self.job_id

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A standard logger whose lines carry the job's id, name, queue and attempt."""
        return _JobLogger(job_logger, log_fields(self))

    def progress(self, fraction: float, note: str = "") -> bool:
        """Report how far the job is: `fraction` from 0 to 1, and a short note, cut at 200 bytes.

        It is written at most once in two seconds; the first report and the last, 1.0, always are. Return whether it
        was: False if it was skipped, or if another runner holds the job now. Raises InvalidOption.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise InvalidOption("progress", f"expected a fraction from 0 to 1, got {quote(fraction)}")
        now = self._now()
        recently = self._reported_at is not None and now - self._reported_at < _PROGRESS_EVERY_MS
        if recently and not math.isclose(fraction, 1.0):
            return False
        object.__setattr__(self, "_reported_at", now)  # to a handler the context is read-only
        return self._report(json.dumps({"fraction": round(float(fraction), 4), "note": cut(note, _NOTE_BYTES)}))


def log_fields(job: JobContext | JobRecord) -> dict[str, Any]:
    """Return the fields that every log line about a job has."""
    fields = {
        "job_id": job.job_id if isinstance(job, JobContext) else job.id,
        "job_name": job.name,
        "queue": job.queue,
        "attempt": job.attempt,
    }
    return fields if job.trace_id is None else {**fields, "dispatch_trace_id": job.trace_id}
