"""RelayQ: what applications and operators do with jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from relayq_core.core import Core
from relayq_core.engine.dispatcher import Dispatched
from relayq_core.jobs.habits import add_hints
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request
from relayq_core.model.options import DispatchOptions, Options, iterate_several
from relayq_core.model.record import JobRecord, Status

if TYPE_CHECKING:
    from relayq_core.operations.bulk import Tally
    from relayq_core.operations.health import Health, QueueView
    from relayq_core.operations.jobs import Failures


class RelayQ(Core):
    """Everything you can do with jobs, for one pair of tables.

    `settings` are read from the environment by default. `store`, `handoff` and `clock` are by default DynamoDB, what
    RELAYQ_HANDOFF says, and the system's clock; `hint` is Redis if RELAYQ_REDIS_URL is set, `event_bus` EventBridge if
    RELAYQ_EVENT_BUS is. `spreading` says how work on many jobs is spread: by default over eight threads, or one job
    after another if you pass a `store`. `session` is a boto3 session. Clients are created when they are first needed.

    Raises SettingsError where a setting that is needed is missing or malformed.
    """

    # --- what applications do ---

    @add_hints
    def dispatch(
        self, job: Any, args: Mapping[str, Any] | None = None, **options: Unpack[DispatchOptions]
    ) -> Dispatched:
        """Accept a job and hand it off; arguments, result and errors are those of `relayq_core.dispatch`."""
        call = Options.validate(**options)
        try:
            return self._dispatcher.dispatch(resolve_request(job, args, registry), call)
        finally:  # after the handoff: a job does not wait for its events to be published
            self._publish()

    def dispatch_many(self, jobs: Iterable[Any]) -> list[Dispatched]:
        """Accept any number of jobs in one call; see `relayq_core.dispatch_many`."""
        from relayq_core.engine.dispatch_many import BulkDispatcher

        try:
            with self._spreading() as spread:
                return BulkDispatcher(self.store, self._dispatcher, registry, spread).dispatch(jobs)
        finally:
            self._publish()

    def get(self, job_id: str) -> JobRecord | None:
        """Return the job's current record, or None if it is unknown or no longer kept. Raises StoreError."""
        return self.operations.get(job_id)

    def cancel(self, job_id: str) -> JobRecord | None:
        """Cancel a waiting job, or mark a running one: unless it succeeds, it ends as cancelled.

        Return the record as it is afterwards, or None if the job is unknown or no longer kept. Raises StoreError.
        """
        return self.operations.cancel(job_id)

    # --- what operators do ---

    def redrive(self, job_id: str) -> JobRecord | None:
        """Bring a failed job back, with no attempt used. Return its record, or None if it has not failed.

        Raises KeyTaken if another job holds its unique key, StoreError.
        """
        return self.operations.redrive(job_id)

    def forget(self, job_id: str) -> bool:
        """Delete a failed job for good. Return whether there was one. Raises StoreError."""
        return self.operations.forget(job_id)

    def failed(self, queue: str | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Return up to `limit` failed jobs, of all queues or one, newest first. Raises InvalidOption, StoreError.

        Payloads are left out and errors cut to 200 bytes; `get()` returns both whole.
        """
        return self.operations.failed(queue, limit=limit)

    def live(self, queue: str | None = None, status: Status | None = None, *, limit: int = 100) -> list[JobRecord]:
        """Return up to `limit` jobs that wait or run, in the order in which the sweeper looks at them next.

        With a `status`, only the first 10,000 jobs are searched. Raises InvalidOption, StoreError.
        """
        return list(self.operations.find_live(queue, status, limit=limit).jobs)

    def queues(self, *, limit: int = 1000) -> list[QueueView]:
        """Return every queue with the number of its live and of its overdue jobs, each counted up to `limit`.

        Raises StoreError.
        """
        return self.operations.queues(limit=limit)

    def queues_forget(self, queue: str) -> bool:
        """Delete the name of a queue without jobs. Return whether there was one. Raises InvalidOption, StoreError."""
        return self.operations.forget_queue(queue)

    def health(self) -> Health:
        """Return whether the tables answer, the sweeper ticks and nothing is long overdue. Raises no StoreError."""
        return self.operations.health()

    # --- what operators do with many jobs; `bulk` does the same step by step ---

    def clear(self, queue: str, *, dry_run: bool = False) -> Tally:
        """Cancel the waiting jobs of a queue, and leave those that run. Return how many there were of each.

        `dry_run` counts only. Raises InvalidOption, StoreError.
        """
        from relayq_core.operations.bulk import Tally

        return Tally.of(self.bulk.clear(queue, dry_run=dry_run))

    def redrive_many(self, failures: Iterable[str | JobRecord] | Failures, *, rate: float | None = None) -> Tally:
        """Bring failed jobs back: those with these ids, or all that a `Failures` selects.

        `rate` is the most that are brought back in a second. Return how many were, and were not. Raises InvalidOption,
        StoreError.
        """
        from relayq_core.operations.bulk import Tally

        return Tally.of(self.bulk.redrive(self._list_ids(failures), rate=rate))

    def forget_many(self, failures: Iterable[str | JobRecord] | Failures, *, rate: float | None = None) -> Tally:
        """Delete failed jobs for good: those with these ids, or all that a `Failures` selects.

        `rate` is the most that are deleted in a second. Return how many were, and were not. Raises InvalidOption,
        StoreError.
        """
        from relayq_core.operations.bulk import Tally

        return Tally.of(self.bulk.forget(self._list_ids(failures), rate=rate))

    def _list_ids(self, failures: Iterable[str | JobRecord] | Failures) -> list[str]:
        """Return all ids before the first job is touched: one that fails again in between is not selected twice."""
        from relayq_core.operations.jobs import Failures

        if isinstance(failures, Failures):
            return [job.id for job in self.operations.failures(failures)]
        ids = iterate_several("failures", failures, "several ids (redrive() and forget() take one)")
        # failed() returns records, and those may be passed on as they are
        return [job.id if isinstance(job, JobRecord) else job for job in ids]
