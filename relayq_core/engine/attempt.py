"""Attempt: turn whatever a handler returned or raised into an outcome. The job's own code ends here."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from relayq_core.errors import RetryAfter, Snooze, is_a, validate_wait
from relayq_core.jobs.context import log_fields
from relayq_core.model import budgets
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import AttemptOutcome, Failed, Snoozed, Succeeded
from relayq_core.process.loggers import logger
from relayq_core.text import describe_error, summarize_error


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt went: its outcome, the exception behind it, and how long the handler ran, in milliseconds."""

    outcome: AttemptOutcome
    error: BaseException | None = None
    duration_ms: float = 0.0


def classify_error(
    raised: BaseException, final: tuple[type[BaseException], ...]
) -> tuple[AttemptOutcome, BaseException | None]:
    """Return the outcome of what a handler raised, and the error behind it; a snooze has none.

    An exception group has the outcome of its members. One that is final ends the job; otherwise one that failed makes
    it a failure, with the longest wait of any RetryAfter; only if all members are a Snooze is the job snoozed, for the
    longest of them. `final` are the types that end the job.
    """
    members = [member for member in _flatten(raised) if not _is_cancellation(member)] or [raised]
    error = members[0] if len(members) == 1 else raised
    try:
        if any(any(is_a(member, kind) for kind in final) for member in members):
            return build_failure(error, final=True), error
        snoozes = _collect_waits("Snooze", Snooze, members)
        if len(snoozes) == len(members):
            return Snoozed(max(snoozes)), None
        return build_failure(error, wait=max(_collect_waits("RetryAfter", RetryAfter, members), default=None)), error
    except BaseException as odd:  # a number of seconds that is not one
        return build_failure(odd), odd


def _flatten(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group and of the groups in it."""
    group: Any = BaseExceptionGroup.exceptions
    waiting = [error]  # a list instead of recursion: groups may be nested deeper than Python recurses
    while waiting:
        one = waiting.pop()
        if is_a(one, BaseExceptionGroup):
            waiting.extend(reversed(group.__get__(one)))
        else:
            yield one


def _is_cancellation(error: BaseException) -> bool:
    """Whether a task was only cancelled because another one failed."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and type(error) is asyncio.CancelledError


def _collect_waits(option: str, kind: type[BaseException], members: Iterable[BaseException]) -> list[float]:
    matching: list[Any] = [member for member in members if is_a(member, kind)]
    return [validate_wait(option, getattr(member, "seconds", None)) for member in matching]  # type: ignore[arg-type]


def build_failure(error: BaseException, *, wait: float | None = None, final: bool = False) -> Failed:
    """Return the outcome of an attempt that failed with this error; `wait` in seconds."""
    return Failed(describe_error(error, budgets.ERROR_BYTES), summarize_error(error), wait, final)


def run_to_completion(action: Callable[[], Any]) -> Any:
    """Return what a handler returned; an async one runs to its end in the event loop that this process keeps."""
    # loops is not imported before asyncio is: that takes long in a start, and only async handlers need it
    if "asyncio" in sys.modules:
        from relayq_core.process import loops  # noqa: PLC0415

        with loops.use_loop():
            value = action()
    else:
        value = action()
    if not inspect.isawaitable(value):
        return value

    from relayq_core.process import loops  # noqa: PLC0415

    return loops.run(value)


def build_success(value: Any, record: JobRecord) -> Succeeded:
    """Return a success with the handler's return value as JSON or, if it cannot be kept, the reason, also logged."""
    if value is None:
        return Succeeded()
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except BaseException as error:  # whatever the value's own methods do, the handler has returned and the job is done
        problem = summarize_error(error, 200)
    else:
        if len(text) <= budgets.RESULT_BYTES:
            return Succeeded(text)
        problem = f"{len(text)} bytes, the limit is {budgets.RESULT_BYTES}"
    logger.warning("the result is not kept: %s", problem, extra=log_fields(record))
    return Succeeded(problem=problem)
