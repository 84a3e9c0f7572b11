"""Bounds: how often a job is tried, how long it waits and may run, by its row, its type and the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from relayq_core.model.backoff import Backoff
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord

#: Kept free at the end of an invocation, for a handler that stops late and for the settle's retries.
SETTLE_BUDGET_MS = 10_000

#: A runner that waited longer than this before a job that now lacks time hands it on; a fresh start takes as long.
WORTH_A_START_MS = 1_000


def convert_timeout(options: Options) -> int | None:
    """Return the timeout that the options name, in milliseconds, or None."""
    return None if options.timeout is None else max(1, round(options.timeout * 1000))


def find_timeout(options: Options, policy: Policy) -> int | None:
    """Return the timeout of a type with these options, in milliseconds; None if it may run as long as its runner."""
    own = convert_timeout(options)
    return policy.timeout_ms if own is None else own


class LongestTimeout(NamedTuple):
    """The longest timeout of some job types, milliseconds."""

    #: None if one of them may run as long as its runner
    of_all: int | None
    #: among those that have a timeout; None if none has one
    of_bounded: int | None


def find_longest_timeout(types: Iterable[Options], policy: Policy) -> LongestTimeout:
    """Return the longest timeout of job types with these options."""
    timeouts = [find_timeout(options, policy) for options in types]
    longest = max((timeout for timeout in timeouts if timeout is not None), default=None)
    return LongestTimeout(of_all=None if None in timeouts else longest, of_bounded=longest)


class Bounds(NamedTuple):
    """A job's options, completed: each is the row's, else its type's, else the settings'."""

    max_attempts: int
    backoff: Backoff
    timeout_ms: int | None
    #: the timeout is the row's or the type's, not only the settings' default
    timeout_is_own: bool


def resolve_bounds(record: JobRecord, of_type: Options | None, policy: Policy) -> Bounds:
    """Return what holds for this job. `of_type` is None in the sweeper function, which has no job's code."""
    known = of_type or Options()
    own = convert_timeout(known) if record.timeout_ms is None else record.timeout_ms
    return Bounds(
        max_attempts=record.max_attempts or known.max_attempts or policy.max_attempts,
        backoff=record.backoff or known.backoff or policy.backoff,
        timeout_ms=policy.timeout_ms if own is None else own,
        timeout_is_own=own is not None,
    )


def cap_attempts(record: JobRecord, bounds: Bounds) -> JobRecord:
    """Cap a claimed job at its max_attempts; mark it exhausted if the claim exceeded them.

    The sweeper may have released it by the settings' max_attempts, because the row does not have the type's.
    """
    if record.attempt <= bounds.max_attempts:
        return record
    return record.evolve(attempt=bounds.max_attempts, exhausted=True)


def would_fit_fresh(timeout_ms: int | None, *, waited_ms: int, remaining_ms: int) -> bool:
    """Whether a fresh invocation would give a handler with this timeout more time than this one, which has waited.

    One that has not waited runs the job with what is left, however little that is: another would have no more. So a
    job is handed on once for each wait, and not back and forth.
    """
    return waited_ms > WORTH_A_START_MS and timeout_ms is not None and timeout_ms > remaining_ms - SETTLE_BUDGET_MS


def explain_misfit(bounds: Bounds, runner_ms: int | None) -> str | None:
    """Return why the job's own timeout fits no invocation of a runner that lives `runner_ms`, or None if it fits.

    What one invocation has left does not count: a slow start would bury a job that fits the next one.
    """
    if runner_ms is None or not bounds.timeout_is_own or bounds.timeout_ms is None:
        return None
    if bounds.timeout_ms <= runner_ms - SETTLE_BUDGET_MS:
        return None
    return (
        f"its timeout of {bounds.timeout_ms / 1000:g} s can never fit: this runner lives {runner_ms / 1000:g} s and "
        f"needs {SETTLE_BUDGET_MS // 1000} s of it to settle; raise the runner's timeout (900 s at most), give the "
        "queue a runner of its own, or lower the job's timeout"
    )
