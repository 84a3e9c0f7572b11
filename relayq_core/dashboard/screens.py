"""What each screen shows, read by key and by index: how much is read never depends on how much waits."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from relayq_core.client import RelayQ
from relayq_core.dashboard.history import Window
from relayq_core.dashboard.masking import masked_text
from relayq_core.engine.paging import FOREVER
from relayq_core.errors import InvalidOption
from relayq_core.model.options import validate_queue
from relayq_core.model.record import JobRecord, shards_of
from relayq_core.operations.health import QueueView
from relayq_core.ports import Bin, Due, History
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error

#: Live jobs are counted up to this, then it says `1,000+`.
COUNTED = 1000
#: Keys read from each of the eight shards for one page of a queue: 56 jobs on a page.
_PER_SHARD = 7
_CURSOR_BYTES = 8192
#: Of a time in milliseconds, far beyond any that is kept.
_MOMENT_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Past:
    """What the history says of a window; `problem` says why it says nothing."""

    bins: tuple[Bin, ...] = ()
    problem: str = ""

    @property
    def completed(self) -> int:
        """Runs that succeeded."""
        return sum(found.completed for found in self.bins)

    @property
    def retried(self) -> int:
        """Attempts that failed and are followed by another."""
        return sum(found.retried for found in self.bins)

    @property
    def failed(self) -> int:
        """Jobs that failed for good."""
        return sum(found.failed for found in self.bins)

    @property
    def p50_ms(self) -> float | None:
        """The newest that is known."""
        return next((found.p50_ms for found in reversed(self.bins) if found.p50_ms is not None), None)

    @property
    def p95_ms(self) -> float | None:
        """The newest that is known."""
        return next((found.p95_ms for found in reversed(self.bins) if found.p95_ms is not None), None)


def past(history: History | None, window: Window, now: int) -> Past:
    """The history of a window. Never raises: a page without its chart is better than none."""
    if history is None:
        return Past(problem="No history is at hand here")
    try:
        count = window.length_ms // window.step_ms
        return Past(tuple(history.bins(window.begins(now), window.step_ms, count)))
    except Exception as error:
        logger.warning("the history cannot be read: %s", summarize_error(error))
        return Past(problem="The history cannot be read right now")


@dataclass(frozen=True, slots=True)
class Overview:
    """Every queue, and what the sweeper last did."""

    queues: tuple[QueueView, ...]
    swept_at: int | None
    swept: tuple[tuple[str, int], ...]

    @property
    def live(self) -> int:
        """Jobs that wait or run, as far as they were counted."""
        return sum(view.live for view in self.queues)

    @property
    def overdue(self) -> int:
        """Those that somebody should have looked at."""
        return sum(view.overdue for view in self.queues)

    @property
    def is_capped(self) -> bool:
        """There are more than were counted."""
        return any(view.capped for view in self.queues)

    @property
    def oldest_due_age_ms(self) -> int:
        """How long the oldest overdue job has been due."""
        return max((view.oldest_due_age_ms for view in self.queues), default=0)


def overview(relayq: RelayQ) -> Overview:
    """The whole at a glance, from the index alone. Raises StoreError."""
    tick = relayq.store.read_last_tick()
    return Overview(
        queues=tuple(relayq.queues(limit=COUNTED)),
        swept_at=None if tick is None else tick[0],
        swept=() if tick is None else tuple(sorted(tick[1].items())),
    )


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Some live jobs of a queue, by when the sweeper looks at them; `cursor` leads to more."""

    jobs: tuple[JobRecord, ...]
    cursor: str | None


def queue_page(relayq: RelayQ, queue: str, cursor: str | None) -> QueuePage:
    """The next few of each shard: eight queries and one batch of reads, whatever waits. InvalidOption, StoreError."""
    shards = shards_of(validate_queue(queue))
    # None: that shard has been read to its end
    places: dict[str, Any] = _decoded(cursor) if cursor else dict.fromkeys(shards, "")
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
    return QueuePage(tuple(jobs), _encoded(further) if further else None)


def _encoded(places: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(places, separators=(",", ":")).encode()).decode()


def _decoded(cursor: str) -> dict[str, Any]:
    """Where each shard goes on. Raises InvalidOption for what was not made here."""
    try:
        if len(cursor) > _CURSOR_BYTES:
            raise ValueError
        found = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if not isinstance(found, dict) or not all(_is_place(place, shard) for shard, place in found.items()):
            raise ValueError
    except (ValueError, RecursionError):
        raise InvalidOption("cursor", "it leads nowhere; begin at the first page again") from None
    return {shard: tuple(place) if isinstance(place, list) else place for shard, place in found.items()}


def _is_place(place: Any, shard: str) -> bool:
    """Whether this is where a page of the shard may have ended: the index's key in DynamoDB, or a moment and an id."""
    match place:
        case {"due_shard": {"S": str() as of}, "due_at": {"N": str() as at}, "pk": {"S": str()}}:
            is_key = len(place) == 3 and all(len(part) == 1 for part in place.values())
            return is_key and of == shard and at.isascii() and at.isdecimal() and len(at) <= _MOMENT_DIGITS
        case [int() as at, str()]:
            return not isinstance(at, bool)
    return False


@dataclass(frozen=True, slots=True)
class Step:
    """One moment in the life of a job."""

    at: int
    what: str
    kind: str
    text: str = ""


#: Fields of a job that have their place on its page; any other that is set stands among the facts by its name.
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


def timeline(job: JobRecord) -> list[Step]:
    """What is known of a job's life, in the order it happened; of several starts the row keeps the last."""
    steps = [Step(job.created_at, "dispatched", "begin")]
    if job.available_at > job.created_at and not job.attempt:
        steps.append(Step(job.available_at, "may start", "wait"))
    if job.started_at is not None:
        steps.append(Step(job.started_at, f"attempt {job.attempt} started", "started"))
    steps += [
        Step(error["at"], f"attempt {error.get('attempt')} failed", "failed", masked_text(str(error.get("error", ""))))
        for error in job.errors
        if isinstance(error.get("at"), int)
    ]
    if job.cancel_requested_at is not None:
        steps.append(Step(job.cancel_requested_at, "cancel asked for", "cancelled"))
    if job.attempt and job.status.is_waiting:
        steps.append(Step(job.available_at, "next attempt", "wait"))
    if job.finished_at is not None:
        steps.append(Step(job.finished_at, job.status.value, job.status.value))
    return sorted(steps, key=lambda step: step.at)
