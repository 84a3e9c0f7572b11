"""The ports: what the core asks of the world. Adapters keep these promises; the contract tests hold them to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord

#: The namespace in CloudWatch under which RelayQ counts what happens, and from which it reads that back.
METRICS_NAMESPACE = "RelayQ"


class Added(NamedTuple):
    """The result of a dispatch: `holder` is the job that has the unique key, `found` the row that has the id."""

    holder: str | None = None
    found: JobRecord | None = None


class Answer(NamedTuple):
    """The result of a conditional write: done, with the row as it now is; or refused, with the row that refused it."""

    done: bool
    record: JobRecord | None = None


class Settled(Enum):
    """The result of a settle."""

    DONE = "done"
    #: the lease is no longer the writer's; nothing was changed
    LOST = "lost"
    #: a cancel was requested since the claim: write the job as cancelled instead
    CANCEL_REQUESTED = "cancel requested"


class Due(NamedTuple):
    """What the index shows of a row: a hint, never the truth."""

    due_at: int
    job_id: str
    queue: str


class Page(NamedTuple):
    """Some rows of the index, oldest first, and where the next page begins (None: there is none)."""

    rows: tuple[Due, ...]
    cursor: object | None = None


class QueueStore(Protocol):
    """The names of the queues."""

    def register_queue(self, queue: str) -> None:
        """Make a queue known to the sweeper; InvalidOption past 100 queues."""
        ...

    def forget_queue(self, queue: str) -> bool:
        """Make room for another queue; this one stays in `list_queues` for a day. False if it is not known."""
        ...

    def list_queues(self) -> list[str]:
        """Return the names of all queues, sorted, and of those that were forgotten within a day."""
        ...


class DispatchStore(Protocol):
    """New jobs and their unique keys."""

    def add(self, record: JobRecord) -> Added:
        """Write a new job, and take its unique key if it has one: both or neither."""
        ...

    def add_many(self, records: Sequence[JobRecord]) -> list[bool]:
        """Write new jobs that have no unique key, at most 25, in one call; for each, whether it is certainly written.

        Never overwrites a row. A job with False may be written or not, which `add` finds out. Raises nothing.
        """
        ...

    def find_holder(self, unique_pk: str) -> str | None:
        """Return the id of the job that has the unique key, read consistently.

        None if the key is free or its window is over.
        """
        ...


class ClaimStore(Protocol):
    """The lease of a job, from its claim on."""

    def claim(self, job_id: str, lease: Lease) -> Answer:
        """Take the lease if the job waits and is due. Done, too, if the job has this very lease already."""
        ...

    def renew_lease(self, before: JobRecord, lease_until: int) -> bool:
        """Move the end of a running job's lease; False if its lease is no longer `before.lease_id`."""
        ...

    def save_progress(self, before: JobRecord, progress_json: str) -> bool:
        """Write how far a running job is; False if its lease is no longer `before.lease_id`."""
        ...


class SettleStore(Protocol):
    """How a job leaves its state, other than by a claim."""

    def settle(self, before: JobRecord, settlement: Settlement) -> Settled:
        """Write how an attempt ended, if the job is still held under the lease `before.lease_id`.

        `Transition.BURY` moves the row to the failed table, and a settlement without `keeps_row` deletes it; any other
        is written to the row. A job that ends gives up its unique key in the same step.
        """
        ...

    def cancel_waiting(self, before: JobRecord, settlement: Settlement) -> bool:
        """Cancel a job that still waits as `before` did, and release its key; False if it does not."""
        ...

    def mark_cancelled(self, before: JobRecord, now: int) -> Answer:
        """Mark a job that still runs under `before.lease_id`: if its attempt fails, it ends as cancelled."""
        ...


class SweepStore(Protocol):
    """The index of live rows by `due_at`, and how a sweep moves them in it."""

    def list_due(self, shard: str, until: int, limit: int, cursor: object | None = None) -> Page:
        """Return rows of one shard with due_at <= until, oldest first."""
        ...

    def nudge(self, row: Due, nudges: int, due_at: int) -> Answer:
        """Move due_at of a waiting row that was nudged `nudges` times and whose due_at is still the one seen."""
        ...

    def postpone(self, row: Due, due_at: int) -> bool:
        """Move due_at of any row whose due_at is still the one seen; False if it is not."""
        ...


class TickStore(Protocol):
    """What the sweeper's last ticks did."""

    def record_tick(self, at: int, counts: dict[str, int], by: str = "") -> None:
        """Write when the sweeper last ran, and what it did. `by` names the runner that it hands off to."""
        ...

    def list_sweepers(self) -> tuple[str, ...]:
        """Return the names that the last two ticks had, each once: two mean that two stacks share the tables."""
        ...

    def read_last_tick(self) -> tuple[int, dict[str, int]] | None:
        """Return when the sweeper last ran (epoch milliseconds) and what it did; None if it never did."""
        ...


class ReadStore(Protocol):
    """Jobs as they stand."""

    def get(self, job_id: str) -> JobRecord | None:
        """Return the job from the jobs table, read consistently; None if there is none or it has expired."""
        ...

    def get_many(self, job_ids: Iterable[str]) -> list[JobRecord]:
        """Return the jobs of these ids that exist, in no order; rows that cannot be read are left out."""
        ...

    def get_failed(self, job_id: str) -> JobRecord | None:
        """Return the job from the failed table, read consistently; None if there is none or it has expired."""
        ...

    def list_failed(self, queue: str, limit: int, until: int | None = None) -> Iterator[JobRecord]:
        """Yield failed jobs of one queue, newest first, read `limit` at a time; unreadable rows are left out.

        `until`: only those that failed then or earlier, epoch milliseconds; what is newer is not read.
        """
        ...


class FailureStore(Protocol):
    """What an operator does with a failed job."""

    def redrive(self, failed: JobRecord, settlement: Settlement) -> Added | None:
        """Bring a failed job back and take its key again, in one step; None if it is not in the failed table."""
        ...

    def forget(self, job_id: str) -> bool:
        """Delete a failed job for good; False if there was none."""
        ...


class DispatcherStore(DispatchStore, QueueStore, ReadStore, Protocol):
    """What the dispatcher needs of the tables."""


class RunnerStore(ClaimStore, SettleStore, Protocol):
    """What a runner needs of the tables."""


class SweeperStore(SweepStore, TickStore, SettleStore, QueueStore, ReadStore, Protocol):
    """What the sweeper needs of the tables."""


class WorkerStore(ClaimStore, SettleStore, SweepStore, QueueStore, Protocol):
    """What a worker needs of the tables."""


class OperatorStore(SettleStore, SweepStore, TickStore, QueueStore, ReadStore, FailureStore, Protocol):
    """What an operator needs of the tables: everything but dispatches and claims."""


class JobStore(DispatcherStore, RunnerStore, SweeperStore, FailureStore, Protocol):
    """The two tables.

    Every method raises StoreError where they cannot be used, StoreUnavailable where it is not known whether a write
    took effect, and UnreadableRow where a row makes no sense.
    """


class Handoff(Protocol):
    """Asks a runner to run a job: a hint, never the truth."""

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Ask the queue's runner for a run of this job at `run_at`, epoch milliseconds (0: at once).

        `name` is the job's, where it is known: the runner then asks for the lease of that type. `here`: ask this very
        function, which runs the job already; so does a queue that is None. May raise anything: the job is safe all
        the same.
        """
        ...


class Bin(NamedTuple):
    """What happened in one step of time, which begins at `at`; how long runs took, None where there were none."""

    at: int
    completed: int = 0
    retried: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None


class History(Protocol):
    """Remembers how much happened, and how fast. Its method may raise anything: a page is shown without it."""

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """Return `count` steps of `step_ms` (whole minutes) from `since` on, oldest first; none is left out."""
        ...


class UniqueHint(Protocol):
    """Remembers who took a unique key: a hint, never the truth. Its methods may raise anything, and take 25 ms each."""

    def holder(self, unique_pk: str) -> str | None:
        """Return the id of the job that was remembered for the unique key; None if there is none."""
        ...

    def remember(self, unique_pk: str, job_id: str, ttl_ms: int) -> None:
        """Remember for `ttl_ms` milliseconds, more than 0, that this job has the unique key."""
        ...


class Announcement(NamedTuple):
    """What is published about one job: what happened, when (epoch milliseconds), and the rest as JSON."""

    title: str
    at: int
    detail_json: str


class EventBus(Protocol):
    """Publishes what happens to jobs. Nothing depends on it: what it does not accept is lost."""

    def put(self, announcements: Sequence[Announcement]) -> list[str | None]:
        """Publish at most 10; for each, why it was refused, or None. May raise anything, and takes 2 s at most."""
        ...


class Clock(Protocol):
    """The time, and waiting."""

    def now(self) -> int:
        """Return epoch milliseconds."""
        ...

    def sleep(self, ms: int) -> None:
        """Wait for `ms` milliseconds."""
        ...
