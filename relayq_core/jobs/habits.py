"""Habits of other systems: what people who know Celery and the like write, and what to write in RelayQ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from relayq_core.errors import suggest
from relayq_core.model.options import OPTIONS

P = ParamSpec("P")
R = TypeVar("R")

#: A method that tasks have in other systems -> what to write here; `{0}` is the job, `{1}` a call that runs it.
_METHODS = {
    "delay": "dispatch({0})",
    "apply_async": "dispatch({0}, delay=..., queue=...)",
    "apply": "{1}, which runs it here and now",
    "send": "dispatch({0})",
    "send_with_options": "dispatch({0}, delay=..., queue=...)",
    "message": "{0}",
    "enqueue": "dispatch({0})",
    "schedule": "dispatch({0}, delay=...)",
    "perform_async": "dispatch({0})",
    "perform_in": "dispatch({0}, delay=...)",
    "s": "{0}",
    "si": "{0}",
    "signature": "{0}",
    "subtask": "{0}",
    "retry": "raise RetryAfter(seconds) in the handler",
    "update_state": "context.progress(fraction, note) in the handler",
}
#: An option of other systems -> the one here.
_OPTIONS = {
    "countdown": "delay=seconds",
    "eta": "at=an aware datetime",
    "run_at": "at=an aware datetime",
    "schedule_for": "at=an aware datetime",
    "scheduled_at": "at=an aware datetime",
    "delay_seconds": "delay=seconds",
    "schedule_in": "delay=seconds",
    "retries": "max_attempts=, the first try counted",
    "max_retries": "max_attempts=, the first try counted",
    "attempts": "max_attempts=, the first try counted",
    "retry": "max_attempts= and backoff=",
    "retry_delay": "backoff=seconds",
    "default_retry_delay": "backoff=seconds",
    "retry_backoff": "backoff=seconds, a list, or Exponential(...)",
    "task_id": "job_id=",
    "id": "job_id=",
    "queue_name": "queue=",
    "time_limit": "timeout=seconds",
    "soft_time_limit": "timeout=seconds",
    "job_timeout": "timeout=seconds",
    "unique_key": "unique=a key",
    "dedup_key": "unique=a key",
    "bind": "a first parameter `context: JobContext`",
    "autoretry_for": "nothing: every exception is tried again, but for Bury",
    "ignore_result": "nothing: a handler that returns None keeps no result",
    "kwargs": "the job's arguments within it",
}


def suggest_method(name: str, job: str, call: str) -> str:
    """Return ' In RelayQ write dispatch(...).' for a method that tasks have in other systems, else ''.

    `job` is the expression that makes a request of this job, `call` the one that runs it here.
    """
    replacement = _METHODS.get(name)
    return "" if replacement is None else f" In RelayQ write {replacement.format(job, call)}."


def suggest_option(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an option that does not exist, if that can be guessed, and all known options."""
    names = list(known)
    replacement = _OPTIONS.get(name)
    guess = f" In RelayQ it is {replacement}." if replacement else suggest(name, names)
    return f"{guess} Known: {', '.join(names)}"


def add_hints(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that takes the options of a dispatch: its error for an unknown one suggests a known one."""
    known = {*function.__code__.co_varnames[: function.__code__.co_argcount], *OPTIONS}

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        if not named.keys() <= known:
            unknown = next(name for name in named if name not in known)
            raise TypeError(
                f"{function.__name__}() has no option {unknown!r}.{suggest_option(unknown, OPTIONS)}. "
                "The job's own arguments go into the job: its fields, .job(...), or a mapping beside its name"
            )
        return function(*args, **named)

    return call
