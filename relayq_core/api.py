"""dispatch, get and cancel as plain functions, on one RelayQ made from the environment at first use."""

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
_made: RelayQ | None = None


def relayq() -> RelayQ:
    """The RelayQ that these functions use. Raises SettingsError where the environment is not right."""
    global _made  # noqa: PLW0603 - one client for the process, so that its connections are used again
    if _made is None:
        with _lock:
            _made = _made or RelayQ()
    return _made


def use(instance: RelayQ | None) -> RelayQ | None:
    """Let these functions use another RelayQ (None: a new one from the environment); answers with the former."""
    global _made
    former, _made = _made, instance
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
    """Write a job down, tell a runner, and return: the job happens a moment later, in the runner Lambda.

    `job` is a Job object, a JobRequest, a job type with `args` as its data, or a job's name with `args` as JSON.
    Durations are seconds or timedelta; `at` is an aware datetime. `unique` is a key: while an earlier job holds
    it (for `unique_for`, else until that job has ended) the answer is that job's id, with `duplicate` true.

    Once this returns the job is never lost. Raises InvalidPayload, PayloadTooLarge, InvalidOption, ChainTooDeep,
    SettingsError, StoreError, or DispatchUnknown when nobody can say whether it was written.
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
    """The job as it now is, from whichever table holds it; None if it is unknown or no longer kept."""
    return relayq().get(job_id)


def cancel(job_id: str) -> JobRecord | None:
    """Cancel a waiting job; mark a running one, whose success then still counts. The job as it then is, or None."""
    return relayq().cancel(job_id)
