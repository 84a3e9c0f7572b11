"""Every exception of RelayQ. Each composes its own message: what was expected, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Self, TypeAlias, TypeVar


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' for the known word nearest to a misspelt one, or '' if none is near."""
    import difflib  # noqa: PLC0415 - needed only where something is wrong

    near = difflib.get_close_matches(word, list(known), n=1)
    return f' Did you mean "{near[0]}"?' if near else ""


def quote(value: object) -> str:
    """Return a value as an error shows it: short text and numbers, but only the type of anything else.

    Anything else may hold a payload, and may be nested to any depth.
    """
    if isinstance(value, str):
        return repr(value[:80])
    if value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= _BITS_SHOWN):
        return repr(value)
    return type(value).__name__


#: Python itself refuses to write numbers of many digits.
_BITS_SHOWN = 256


def is_a(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Return whether an exception, which may be a user's, is of this kind. Only its type is looked at.

    `isinstance` also reads its `__class__`, an attribute like any other: it may lie, raise, or exit.
    """
    return issubclass(type(error), kind)


class Portable(BaseException):
    """An exception that survives pickle and copy: its text, its attributes, its notes, what caused it.

    Python rebuilds an exception from its class and its text, which fails where __init__ takes anything else: a pool of
    processes that cannot read what a worker raised then waits for it forever. Here no __init__ is called.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: portable for name, value in vars(self).items() if (portable := _make_portable(value)) is value}
        chain = (
            _make_cause_portable(self.__cause__),
            _make_cause_portable(self.__context__),
            self.__suppress_context__,
        )
        return _rebuild, (type(self), self.args), (state, chain)

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state[0])
        self.__cause__, self.__context__, self.__suppress_context__ = state[1]

    def __copy__(self) -> Self:
        copy = _rebuild(type(self), self.args)
        copy.__setstate__((vars(self), (self.__cause__, self.__context__, self.__suppress_context__)))
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy all but what caused it: that holds its traceback, and everything that the frames hold."""
        from copy import deepcopy  # noqa: PLC0415 - exceptions are seldom copied

        copy = memo[id(self)] = _rebuild(type(self), deepcopy(self.args, memo))
        state = deepcopy(vars(self), memo)
        copy.__setstate__((state, (self.__cause__, self.__context__, self.__suppress_context__)))
        return copy


_E = TypeVar("_E", bound=BaseException)


def _rebuild(kind: type[_E], args: tuple[Any, ...]) -> _E:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _make_portable(value: Any) -> Any:
    """Return the value, or None if it cannot be pickled."""
    if value is None or isinstance(value, str | int | float | Portable):
        return value
    import pickle  # noqa: PLC0415 - loaded by then: only pickling leads here

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - what was written a moment ago
    except Exception:
        return None
    return value


def _make_cause_portable(error: BaseException | None) -> BaseException | None:
    """Return the cause or, if that cannot be pickled, an error with its class: its text may hold data."""
    cause: BaseException | None = _make_portable(error)
    return cause if cause is error or error is None else RelayQError(f"caused by {type(error).__qualname__}")


class RelayQError(Portable, Exception):
    """The base class of every error that RelayQ raises."""


class InvalidJob(RelayQError, TypeError):
    """A job type is written in a way that cannot work. Raised where it is defined."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


class InvalidPayload(RelayQError, ValueError):
    """The payload does not fit the job, or changes on its way through JSON. The message never shows a value."""

    def __init__(self, name: str, problem: str, *, field: str | None = None) -> None:
        self.name = name
        self.field = field
        at = f", field {field!r}" if field else ""
        super().__init__(f"payload of job {name!r}{at}: {problem}")


class PayloadTooLarge(RelayQError, ValueError):
    """The payload, as JSON, is larger than `limit` bytes."""

    def __init__(self, name: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"payload of job {name!r} is {size:,} bytes of JSON, the limit is {limit:,}; "
            "store the data elsewhere (S3, a table) and dispatch its key"
        )


class InvalidOption(RelayQError, ValueError):
    """An option of a job, a dispatch or an operation has a value that cannot be used."""

    def __init__(self, option: str, problem: str, *, where: str = "") -> None:
        self.option = option
        self.problem = problem
        super().__init__(f"{where}, {option}: {problem}" if where else f"{option}: {problem}")


class UnknownJob(RelayQError, LookupError):
    """No job type is registered under this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        names = sorted(known)
        listed = ", ".join(names) if names else "none; is its module named in RELAYQ_JOB_MODULES?"
        super().__init__(f"no job named {name!r}.{suggest(name, names)} Registered: {listed}")


class DuplicateJobName(RelayQError, ValueError):
    """Two job types have the same name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name = name
        super().__init__(
            f"two jobs are named {name!r}: {first} and {second}; give one of them another name with name=..."
        )


class SettingsError(RelayQError, ValueError):
    """An environment variable is missing, unknown or malformed."""

    def __init__(self, variable: str, problem: str) -> None:
        self.variable = variable
        self.problem = problem
        super().__init__(f"{variable}: {problem}")


class StoreError(RelayQError):
    """The tables cannot be used: one is missing, access is denied, or DynamoDB refuses the request."""

    def __init__(self, what: str, fix: str, *, code: str | None = None) -> None:
        self.code = code
        super().__init__(f"{what}; {fix}")


class HandoffDenied(RelayQError):
    """The caller may not invoke the runner. The job is safe: the sweeper starts it, if the sweeper may."""

    def __init__(self, function: str, *, of_its_own: bool) -> None:
        fix = (
            "name its ARN, with the alias if there is one, in RunnerFunctionArns of the RelayQ stack, and deploy that"
            if of_its_own
            else "attach DispatchPolicyArn or RunnerPolicyArn of the RelayQ stack's outputs"
        )
        super().__init__(f"the caller's role lacks lambda:InvokeFunction on {function}: {fix}")


class StoreUnavailable(StoreError):
    """DynamoDB did not answer, or throttled, at every try: a write may or may not have happened."""

    def __init__(
        self, operation: str, cause: str, fix: str = "check the network, the credentials' region and throttling"
    ) -> None:
        unknown = "" if operation in _READS else "whether it took effect is unknown; "
        super().__init__(
            f"{operation} was not answered: {cause}",
            f"{unknown}{fix}",
            code="Unavailable",
        )


_READS = frozenset({"GetItem", "BatchGetItem", "Query"})


class UnreadableRow(StoreError):
    """A row of the tables cannot be read: RelayQ did not write it, or it was edited by hand."""

    def __init__(self, job_id: str, problem: str, *, due_at: int | None = None) -> None:
        self.job_id = job_id
        #: where the index has the row now, if it is there
        self.due_at = due_at
        super().__init__(
            f"the row of job {job_id[:80]!r} cannot be read: {problem}",
            "it is left as it is; repair or delete it by hand",
            code="UnreadableRow",
        )


class DispatchUnknown(RelayQError):
    """It is unknown whether the job was written: no try was answered, nor the read after them."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"it is unknown whether job {job_id!r} was accepted: no try was answered. "
            f"Dispatching it again with job_id={job_id!r} is safe"
        )


class DispatchIncomplete(RelayQError):
    """Some jobs of a dispatch_many() were not accepted. `outcomes`: a Dispatched or an error for each, in order."""

    def __init__(self, outcomes: Sequence[object]) -> None:
        self.outcomes = list(outcomes)
        errors = [outcome for outcome in outcomes if isinstance(outcome, RelayQError)]
        super().__init__(
            f"{len(errors)} of {len(outcomes)} jobs may not have been accepted, the others were; the first error: "
            f"{errors[0]}. `outcomes` holds a result for each; dispatch again those that hold an error"
        )


class HistoryUnknown(RelayQError):
    """CloudWatch returned only part of the data: what is missing is unknown, and not zero."""

    def __init__(self, metric: str, status: str) -> None:
        super().__init__(
            f"CloudWatch returned incomplete data for {metric} ({status}); try again, or check the permission "
            "cloudwatch:GetMetricData"
        )


class HandoffRefused(RelayQError):
    """The HTTP endpoint did not answer 202. The job is safe: the sweeper starts it."""

    def __init__(self, status: int) -> None:
        self.status = status
        advice = {401: "; is RELAYQ_HTTP_TOKEN one of the API function's?", 404: "; is RELAYQ_HTTP_ENDPOINT right?"}
        super().__init__(f"the HTTP endpoint answered {status}, expected 202{advice.get(status, '')}")


class ChainTooDeep(RelayQError):
    """A chain of jobs that dispatch jobs is longer than RELAYQ_MAX_DEPTH allows."""

    def __init__(self, depth: int, limit: int, root_id: str) -> None:
        super().__init__(
            f"this dispatch would be number {depth} in a chain of jobs that began with {root_id!r}; "
            f"the limit is {limit} (RELAYQ_MAX_DEPTH). Is a job dispatching itself without end?"
        )


class JobTimeout(RelayQError):
    """Raised inside a handler when its time is up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the handler was stopped after {seconds:g} s, the time it had")


class JobCrashed(RelayQError):
    """A runner ended without settling the job: the error that `failed()` is passed and the table keeps.

    `sentence` says how it ended, if that is known.
    """

    def __init__(self, attempt: int, sentence: str | None = None) -> None:
        self.attempt = attempt
        super().__init__(
            sentence
            or f"the runner of attempt {attempt} ended without settling "
            "(it overran its time, was killed, or ran out of memory)"
        )


class LeaseLost(RelayQError):
    """Another runner holds this job now, or it has ended: this runner can no longer write to it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the lease of job {job_id!r} is no longer this runner's; its outcome is discarded")


class KeyTaken(RelayQError):
    """A job cannot be redriven, because another job holds its unique key."""

    def __init__(self, job_id: str, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"job {job_id!r} cannot be redriven: its unique key is held by job {holder!r}; "
            "wait until that one has ended, or cancel it"
        )


class RetryAfter(Portable, Exception):
    """Raise it in a handler to fail this attempt, and to retry in `seconds` instead of after the backoff.

    It uses up an attempt; after the last one the job fails. `seconds` is a number >= 0, or a timedelta.
    """

    def __init__(self, seconds: Seconds, reason: str = "") -> None:
        self.seconds = validate_wait("RetryAfter", seconds)
        self.reason = reason
        super().__init__(reason or f"retry in {self.seconds:g} s")


class Snooze(Portable, Exception):
    """Raise it in a handler to run the job again in `seconds`, a number or a timedelta. It uses up no attempt."""

    def __init__(self, seconds: Seconds, reason: str = "") -> None:
        self.seconds = validate_wait("Snooze", seconds)
        self.reason = reason
        super().__init__(reason or f"snoozed for {self.seconds:g} s")


class Bury(Portable, Exception):
    """Raise it in a handler to fail the job now, without another attempt. `reason` is kept as its error."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


#: The longest delay, 10 years, in seconds: times then always fit DynamoDB's numbers and a datetime.
LONGEST_DELAY = 10 * 365 * 86_400.0


#: A duration, wherever one is given.
Seconds: TypeAlias = float | timedelta


def convert_to_seconds(duration: Any) -> Any:
    """Return a timedelta's seconds, and anything else unchanged, to be validated."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def validate_wait(option: str, duration: Seconds) -> float:
    """Return a duration in seconds, from 0 to LONGEST_DELAY. Raises InvalidOption."""
    seconds = convert_to_seconds(duration)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidOption(option, f"expected a number of seconds, got {type(seconds).__name__}")
    if not 0 <= seconds <= LONGEST_DELAY:
        raise InvalidOption(option, f"expected 0 to {LONGEST_DELAY:.0f} seconds (ten years), got {quote(seconds)}")
    return float(seconds)


def refuse_queue(queue: str, most: int) -> InvalidOption:
    """Return the error for one queue more than the sweeper can query."""
    return InvalidOption(
        "queue",
        f"{queue!r} would be queue number {most + 1}; the limit is {most}. `relayq queues forget NAME` takes back one "
        "that is no longer used",
    )
