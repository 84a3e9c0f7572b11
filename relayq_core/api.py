"""dispatch, get and cancel as plain functions, on one RelayQ that is built from the environment at first use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from relayq_core.client import RelayQ
from relayq_core.engine.dispatcher import Dispatched
from relayq_core.errors import Seconds
from relayq_core.jobs.habits import add_hints
from relayq_core.model.options import BackoffLike
from relayq_core.model.record import JobRecord
from relayq_core.process.forks import Lock

_lock = Lock()
_relayq: RelayQ | None = None


def relayq() -> RelayQ:
    """Return the RelayQ that these functions use. Raises SettingsError if the environment is not right."""
    global _relayq  # noqa: PLW0603 - one client for the process, so that its connections are used again
    if _relayq is None:
        with _lock:
            _relayq = _relayq or RelayQ()
    return _relayq


def use(instance: RelayQ | None) -> RelayQ | None:
    """Make these functions use another RelayQ (None: a new one from the environment), and return the former."""
    global _relayq
    former, _relayq = _relayq, instance
    return former


@add_hints
def dispatch(
    job: Any,
    args: Mapping[str, Any] | None = None,
    *,
    job_id: str | None = None,
    queue: str | None = None,
    delay: Seconds | None = None,
    at: datetime | None = None,
    max_attempts: int | None = None,
    backoff: BackoffLike | None = None,
    timeout: Seconds | None = None,
    unique: str | None = None,
    unique_for: Seconds | None = None,
) -> Dispatched:
    """Write a job down, hand it off to a runner, and return: the job runs a moment later, in the runner Lambda.

    `job` is a Job object, a JobRequest, a job type with `args` as its data, or a job's name with `args` as JSON.
    Durations are seconds or timedelta.

    - `job_id`: the job's id; dispatching the same job with the same id again does not run it twice.
    - `queue`: the queue, instead of the job type's own.
    - `delay` or `at`: start it that much later, or at that moment, an aware datetime.
    - `max_attempts`, `backoff`: how often it is attempted at most, and the wait before each retry.
    - `timeout`: how long its handler may take.
    - `unique`: a key. While an earlier job of the same name holds it, this returns that job's id, with `duplicate`
      true. It is held for `unique_for` or, without that, until the job has ended.

    Once this returns, the job is never lost. Raises InvalidPayload, PayloadTooLarge, InvalidOption, ChainTooDeep,
    SettingsError, StoreError, and DispatchUnknown if it is unknown whether the job was written.
    """
    return relayq().dispatch(
        job,
        args,
        job_id=job_id,
        queue=queue,
        delay=delay,
        at=at,
        max_attempts=max_attempts,
        backoff=backoff,
        timeout=timeout,
        unique=unique,
        unique_for=unique_for,
    )


def dispatch_many(jobs: Iterable[Any]) -> list[Dispatched]:
    """Write any number of jobs down, and hand the first hundred off; the sweeper starts the rest within a minute.

    Each of `jobs` is what `dispatch()` takes as its first argument, with its options in it
    (`Greet(name="Ada").with_options(delay=60)`), or a pair of a job's name or type and its arguments. Return a
    Dispatched for each, in the same order; a unique key is honoured as in `dispatch()`.

    All are checked before anything is written: InvalidPayload, PayloadTooLarge, InvalidOption and ChainTooDeep mean
    that no job was. Raises SettingsError, StoreError, and DispatchIncomplete where some were not accepted: its
    `outcomes` hold a Dispatched or an error for each.
    """
    return relayq().dispatch_many(jobs)


def get(job_id: str) -> JobRecord | None:
    """Return the job's current record, or None if it is unknown or no longer kept. Raises StoreError."""
    return relayq().get(job_id)


def cancel(job_id: str) -> JobRecord | None:
    """Cancel a waiting job, or mark a running one: unless it succeeds, it ends as cancelled.

    Return the record as it is afterwards, or None if the job is unknown or no longer kept. Raises StoreError.
    """
    return relayq().cancel(job_id)
