"""The data of each screen, read by key and by index: the amount read never depends on how many jobs wait."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from relayq_core.client import RelayQ
from relayq_core.dashboard.history import Window
from relayq_core.dashboard.masking import mask_text
from relayq_core.engine.paging import FOREVER
from relayq_core.errors import InvalidOption
from relayq_core.model.options import validate_queue
from relayq_core.model.record import JobRecord, list_shards
from relayq_core.operations.health import QueueView
from relayq_core.ports import Bin, Due, History
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error

#: Live jobs are counted up to this, then shown as `1,000+`.
COUNTED = 1000
#: Keys read from each of the eight shards for one page of a queue: 56 jobs on a page.
_PER_SHARD = 7
_CURSOR_BYTES = 8192
#: Digits of a time in milliseconds, far beyond any that is kept.
_MOMENT_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Activity:
    """Runs in a window of time; `problem` says why nothing is known."""

    bins: tuple[Bin, ...] = ()
    problem: str = ""

    @property
    def completed(self) -> int:
        """Runs that succeeded."""
        return sum(one.completed for one in self.bins)

    @property
    def retried(self) -> int:
        """Attempts that failed and are followed by another."""
        return sum(one.retried for one in self.bins)

    @property
    def failed(self) -> int:
        """Jobs that failed for good."""
        return sum(one.failed for one in self.bins)

    @property
    def p50_ms(self) -> float | None:
        """The latest known median duration, milliseconds."""
        return next((one.p50_ms for one in reversed(self.bins) if one.p50_ms is not None), None)

    @property
    def p95_ms(self) -> float | None:
        """The latest known 95th percentile of durations, milliseconds."""
        return next((one.p95_ms for one in reversed(self.bins) if one.p95_ms is not None), None)


def read_activity(history: History | None, window: Window, now: int) -> Activity:
    """Return the runs of a window. Never raises: a page without its chart is better than no page."""
    if history is None:
        return Activity(problem="There is no history here")
    try:
        count = window.length_ms // window.step_ms
        return Activity(tuple(history.bins(window.find_start(now), window.step_ms, count)))
    except Exception as error:
        logger.warning("the history cannot be read: %s", summarize_error(error))
        return Activity(problem="The history cannot be read right now")


@dataclass(frozen=True, slots=True)
class Overview:
    """Every queue, and the sweeper's last run: when, and its counts by action."""

    queues: tuple[QueueView, ...]
    swept_at: int | None
    swept: tuple[tuple[str, int], ...]

    @property
    def live(self) -> int:
        """Jobs that wait or run, counted up to COUNTED for each queue."""
        return sum(view.live for view in self.queues)

    @property
    def overdue(self) -> int:
        """Overdue jobs, counted up to COUNTED for each queue."""
        return sum(view.overdue for view in self.queues)

    @property
    def is_capped(self) -> bool:
        """Whether there are more jobs than were counted."""
        return any(view.capped for view in self.queues)

    @property
    def oldest_due_age_ms(self) -> int:
        """How long the oldest overdue job has been due, milliseconds."""
        return max((view.oldest_due_age_ms for view in self.queues), default=0)


def read_overview(relayq: RelayQ) -> Overview:
    """Read all queues from the index alone, and the last sweep. Raises StoreError."""
    tick = relayq.store.read_last_tick()
    return Overview(
        queues=tuple(relayq.queues(limit=COUNTED)),
        swept_at=None if tick is None else tick[0],
        swept=() if tick is None else tuple(sorted(tick[1].items())),
    )


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Some live jobs of a queue, ordered by when the sweeper checks them; `cursor` leads to more."""

    jobs: tuple[JobRecord, ...]
    cursor: str | None


def read_queue_page(relayq: RelayQ, queue: str, cursor: str | None) -> QueuePage:
    """Read the next few jobs of each shard: eight queries and a batch of reads. Raises InvalidOption, StoreError."""
    shards = list_shards(validate_queue(queue))
    # None: that shard has been read to its end
    places: dict[str, Any] = _decode_cursor(cursor) if cursor else dict.fromkeys(shards, "")
    rows: list[Due] = []
    further: dict[str, object] = {}
    for shard in shards:
        if shard not in places:
            continue
        page = relayq.store.list_due(shard, FOREVER, _PER_SHARD, places[shard] or None)
        rows += page.rows
        if page.cursor is not None:
            further[shard] = page.cursor
    records = relayq.store.get_many(row.job_id for row in rows)
    jobs = sorted((job for job in records if not job.status.is_ended), key=lambda job: (job.due_at or 0, job.id))
    return QueuePage(tuple(jobs), _encode_cursor(further) if further else None)


def _encode_cursor(places: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(places, separators=(",", ":")).encode()).decode()


def _decode_cursor(cursor: str) -> dict[str, Any]:
    """Return where each shard goes on. Raises InvalidOption for a cursor that was not made here."""
    try:
        if len(cursor) > _CURSOR_BYTES:
            raise ValueError
        places = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if not isinstance(places, dict) or not all(_is_place(place, shard) for shard, place in places.items()):
            raise ValueError
    except (ValueError, RecursionError):
        raise InvalidOption("cursor", "this is not a place in the queue; begin at the first page again") from None
    return {shard: tuple(place) if isinstance(place, list) else place for shard, place in places.items()}


def _is_place(place: Any, shard: str) -> bool:
    """Whether a page of the shard may have ended here: a key of the index in DynamoDB, or a moment and an id."""
    match place:
        case {"due_shard": {"S": str() as of}, "due_at": {"N": str() as at}, "pk": {"S": str()}}:
            is_key = len(place) == 3 and all(len(part) == 1 for part in place.values())
            return is_key and of == shard and at.isascii() and at.isdecimal() and len(at) <= _MOMENT_DIGITS
        case [int() as at, str()]:
            return not isinstance(at, bool)
    return False


@dataclass(frozen=True, slots=True)
class Step:
    """One moment in the life of a job, `at` in epoch milliseconds."""

    at: int
    what: str
    kind: str
    text: str = ""


#: Fields that a job's page shows in a place of their own; it lists any other that is set among the facts, by its name.
PLACED = frozenset(
    {
        "id",
        "name",
        "queue",
        "status",
        "attempt",
        "max_attempts",
        "backoff",
        "timeout_ms",
        "payload_json",
        "result_json",
        "result_problem",
        "progress_json",
        "error",
        "errors_json",
        "created_at",
        "updated_at",
        "available_at",
        "started_at",
        "finished_at",
        "parent_id",
        "root_id",
        "depth",
        "trace_id",
        "unique_pk",
        "cancel_requested_at",
    }
)


def build_timeline(job: JobRecord) -> list[Step]:
    """Return what the row says of a job's life, in order. It keeps only the last of several starts."""
    steps = [Step(job.created_at, "dispatched", "begin")]
    if job.available_at > job.created_at and not job.attempt:
        steps.append(Step(job.available_at, "may start", "wait"))
    if job.started_at is not None:
        steps.append(Step(job.started_at, f"attempt {job.attempt} started", "started"))
    steps += [
        Step(error["at"], f"attempt {error.get('attempt')} failed", "failed", mask_text(str(error.get("error", ""))))
        for error in job.errors
        if isinstance(error.get("at"), int)
    ]
    if job.cancel_requested_at is not None:
        steps.append(Step(job.cancel_requested_at, "cancel requested", "cancelled"))
    if job.attempt and job.status.is_waiting:
        steps.append(Step(job.available_at, "next attempt", "wait"))
    if job.finished_at is not None:
        steps.append(Step(job.finished_at, job.status.value, job.status.value))
    return sorted(steps, key=lambda step: step.at)
