"""Habits of other systems: what whoever comes from Celery and its like writes, and how RelayQ says it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from relayq_core.errors import suggest

P = ParamSpec("P")
R = TypeVar("R")

#: A method of a task elsewhere -> what to write here; `{0}` is the job.
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
#: An option elsewhere -> the one here.
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
    """' Write dispatch(...).' for a method that tasks have elsewhere, else ''. `job` is how a request is made of this
    job, `call` how it is run."""
    meant = _METHODS.get(name)
    return "" if meant is None else f" In RelayQ write {meant.format(job, call)}."


def suggest_option(name: str, known: Iterable[str]) -> str:
    """What is meant by an option that there is not, as far as it can be guessed, and the options that there are."""
    names = list(known)
    meant = _OPTIONS.get(name)
    guess = f" In RelayQ it is {meant}." if meant else suggest(name, names)
    return f"{guess} Known: {', '.join(names)}"


def add_hints(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that takes options say which one is meant by a keyword that it has not. It stays a TypeError."""
    code = function.__code__
    options = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

    @functools.wraps(function)
    def checked(*args: P.args, **named: P.kwargs) -> R:
        if not named.keys() <= known:
            wrong = next(name for name in named if name not in known)
            raise TypeError(
                f"{function.__name__}() has no option {wrong!r}.{suggest_option(wrong, options)}. "
                "The job's own arguments go into the job: its fields, .job(...), or a mapping beside its name"
            )
        return function(*args, **named)

    return checked
