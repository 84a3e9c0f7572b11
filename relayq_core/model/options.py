"""Options: what a call, a request and a job type set for one job, and which of them wins.

A new option goes into JobOptions or DispatchOptions, into Options, and into OPTIONS: HTTP and the dashboard read it
from there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypedDict, Unpack, cast

from relayq_core.errors import InvalidOption, Seconds, quote, validate_wait
from relayq_core.model.backoff import Backoff, build_backoff, parse
from relayq_core.model.value import Value

BackoffLike: TypeAlias = Backoff | Seconds | Sequence[Seconds]

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: After a prefix, or alone: every queue that begins with it.
_ANY = "*"
_QUEUES = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\*")
#: It cannot begin with a dot, since `..` in a URL leads elsewhere, nor hold a slash, which would end the id there.
_JOB_ID = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.:-]{0,63}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
#: Characters that a header may hold and JSON does not need; shorter tokens can be guessed.
_TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{16,256}")
#: More attempts than this are a loop, not a retry.
_MOST_ATTEMPTS = 1000
#: Control characters: terminals obey them, and no key needs them. A newline and a tab do no harm.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: A key is hashed above 1 KB before it is stored; this bounds what is hashed.
_LONGEST_KEY = 16_384


class JobOptions(TypedDict, total=False):
    """What a job type may set: the keywords of a Job class and of `@job`. Durations in seconds, or timedelta."""

    queue: str | None
    max_attempts: int | None
    backoff: BackoffLike | None
    timeout: Seconds | None


class DispatchOptions(JobOptions, total=False):
    """What one dispatch may set: the keywords of dispatch() and with_options(). None is the same as left out."""

    job_id: str | None
    delay: Seconds | None
    #: an aware datetime; not together with `delay`
    at: datetime | None
    unique: str | None
    unique_for: Seconds | None


class Options(Value, kw_only=True):
    """Validated options; None for each that was not set. Durations in seconds, `at` in epoch milliseconds."""

    queue: str | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    delay: float | None = None
    at: int | None = None
    unique: str | None = None
    unique_for: float | None = None
    job_id: str | None = None

    @classmethod
    def validate(cls, **options: Unpack[DispatchOptions]) -> Options:
        """Return the options that a user wrote, each validated. Raises InvalidOption, TypeError for an unknown one."""
        if not options.keys() <= OPTIONS.keys():
            raise TypeError(f"there is no option {', '.join(sorted(options.keys() - OPTIONS.keys()))}")
        return cls(**{name: OPTIONS[name].validate(value) for name, value in options.items() if value is not None})

    @classmethod
    def resolve(cls, call: Options, request: Options, job_type: Options) -> Options:
        """Return the options of one dispatch: the call's, else those of the request, else those of the job type.

        What none of them sets comes from the settings. Raises InvalidOption where two options contradict each other.
        """
        options = call.complete_from(request)
        if options.delay is not None and options.at is not None:
            raise InvalidOption("at", "give either delay or at, not both")
        if options.unique_for is not None and options.unique is None:
            raise InvalidOption("unique_for", "it needs unique=..., the key that is held for that long")
        return options.complete_from(job_type)

    def complete_from(self, base: Options) -> Options:
        """Return these options, with `base`'s where one is not set. A delay here also replaces an `at` there."""
        if base == NO_OPTIONS:
            return self
        if self == NO_OPTIONS:
            return base
        own = {name: value for name, value in vars(self).items() if value is not None}
        if self.delay is not None or self.at is not None:
            base = base.evolve(delay=None, at=None)
        return base.evolve(**own)

    def warn_of_unused_backoff(self) -> None:
        """Warn if a backoff list is longer than max_attempts can ever use."""
        if self.backoff is None or self.backoff.kind != "list" or self.max_attempts is None:
            return
        retries = self.max_attempts - 1
        if len(self.backoff.values) > max(retries, 1):
            warnings.warn(
                f"backoff lists {len(self.backoff.values)} waits, but max_attempts={self.max_attempts} "
                f"means at most {retries} {'retry' if retries == 1 else 'retries'}; the rest is never used",
                stacklevel=4,
            )


NO_OPTIONS = Options()


def is_queue(queue: str) -> bool:
    """Return whether it is a queue's name: 1 to 64 letters, digits, '_', '.' or '-', a letter or digit first."""
    return _QUEUE.fullmatch(queue) is not None


def validate_queue(queue: Any) -> str:
    """Return a queue's name. Raises InvalidOption."""
    if not isinstance(queue, str) or not is_queue(queue):
        raise InvalidOption(
            "queue",
            f"expected 1 to 64 letters, digits, '_', '.' or '-', beginning with a letter or digit, got {quote(queue)}",
        )
    return queue


def validate_queue_pattern(queue: str) -> None:
    """Raise InvalidOption unless it is a queue's name, the beginning of one and `*`, or `*` alone."""
    if not _QUEUES.fullmatch(queue):
        validate_queue(queue)


def find_function(queue: str, functions: Mapping[str, str]) -> str | None:
    """Return the function that `runner_functions` names for a queue: by its name, else by the longest prefix of it."""
    if not functions or queue in functions:
        return functions.get(queue)
    for length in range(len(queue), -1, -1):
        if (function := functions.get(queue[:length] + _ANY)) is not None:
            return function
    return None


def validate_job_id(job_id: Any) -> str:
    """Return a job id: 1 to 64 letters, digits, '_', '-', '.' or ':', no dot first. Raises InvalidOption."""
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        raise InvalidOption(
            "job_id",
            f"expected 1 to 64 letters, digits, '_', '-', '.' or ':', not beginning with '.', got {quote(job_id)}",
        )
    return job_id


def validate_name(name: Any) -> str:
    """Return a job name: 1 to 128 letters, digits, '_', '.' or '-', a letter or '_' first. Raises InvalidOption."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidOption(
            "name",
            f"expected 1 to 128 letters, digits, '_', '.' or '-', beginning with a letter or '_', got {quote(name)}",
        )
    return name


def validate_attempts(option: str, attempts: Any) -> int:
    """Return a number of attempts, from 1 to 1000. Raises InvalidOption."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= _MOST_ATTEMPTS:
        raise InvalidOption(
            option, f"expected a whole number of attempts from 1 to {_MOST_ATTEMPTS}, got {quote(attempts)}"
        )
    return attempts


def iterate_several(option: str, things: Any, what: str) -> Iterator[Any]:
    """Return an iterator over several things. Raises InvalidOption at once for a single one.

    A text, a mapping and a Job can be iterated over too, but yield their letters, keys and fields.
    """
    alone = isinstance(things, str | bytes | bytearray | Mapping) or hasattr(things, "__relayq_request__")
    if not alone:
        try:
            return iter(things)
        except TypeError:
            pass
    raise InvalidOption(option, f"expected {what}, in a list for example, got a single {type(things).__name__}")


def parse_tokens(text: str) -> tuple[str, ...]:
    """Return one or two tokens, separated by a comma. Raises InvalidOption, whose message never shows the text."""
    tokens = tuple(part.strip() for part in text.split(","))
    if len(tokens) > 2 or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise InvalidOption(
            "http_token",
            "expected one token, or two separated by a comma, each of 16 to 256 letters, digits or any of _.~+/=-; "
            "what was found is not shown. `openssl rand -hex 32` makes a good one",
        )
    return tokens


def validate_key(key: Any) -> str:
    """Return a unique key: text of at most 16,384 bytes, without control characters. Raises InvalidOption."""
    if not isinstance(key, str) or not key:
        raise InvalidOption("unique", f"expected a key that is not empty, got {type(key).__name__}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidOption("unique", "the key is not valid Unicode (it holds a lone surrogate)") from None
    if _CONTROL.search(key):
        raise InvalidOption("unique", "expected a key of text, found a control character in it")
    if size > _LONGEST_KEY:
        raise InvalidOption("unique", f"expected a key of at most {_LONGEST_KEY:,} bytes, got {size:,}")
    return key


def validate_duration(option: str, value: Seconds) -> float:
    """Return a duration in seconds, at least a millisecond. Raises InvalidOption."""
    seconds = validate_wait(option, value)
    if seconds < 0.001:
        raise InvalidOption(option, f"expected more than 0 seconds, got {seconds:g}")
    return seconds


def convert_to_epoch_ms(at: Any) -> int:
    """Return an aware datetime in epoch milliseconds. Raises InvalidOption."""
    if not isinstance(at, datetime):
        raise InvalidOption("at", f"expected a datetime, got {type(at).__name__}")
    if at.tzinfo is None or at.utcoffset() is None:
        raise InvalidOption("at", "expected a datetime with a time zone, e.g. datetime.now(timezone.utc)")
    return round(at.timestamp() * 1000)


def _parse_seconds(text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise InvalidOption("delay", "expected seconds") from None


def _parse_moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidOption("at", "expected a moment such as 2026-12-24T18:00:00+01:00") from None


def _parse_backoff(value: Any) -> Any:
    return parse(value) if isinstance(value, str) else value


def _keep(value: Any) -> Any:
    return value


class FormField(NamedTuple):
    """How the dashboard's form asks for an option: a text to be typed."""

    label: str
    unit: str = ""
    parse: Callable[[str], Any] = str


class Option(NamedTuple):
    """What is done with an option wherever it comes from."""

    #: return the value as Options keeps it. Raises InvalidOption
    validate: Callable[[Any], Any]
    #: return the value that JSON stands for, as a caller in Python would write it. Raises InvalidOption
    from_json: Callable[[Any], Any] = _keep
    #: None: the dashboard's form does not ask for it
    form: FormField | None = None


#: Every option of a dispatch, in the order in which errors list them.
OPTIONS: Mapping[str, Option] = {
    "job_id": Option(validate_job_id),
    "queue": Option(validate_queue, form=FormField("Queue")),
    "delay": Option(partial(validate_wait, "delay"), form=FormField("Delay", "seconds", _parse_seconds)),
    "at": Option(convert_to_epoch_ms, from_json=_parse_moment),
    "max_attempts": Option(partial(validate_attempts, "max_attempts")),
    "backoff": Option(build_backoff, from_json=_parse_backoff),
    "timeout": Option(partial(validate_duration, "timeout")),
    "unique": Option(validate_key, form=FormField("Unique key")),
    "unique_for": Option(partial(validate_duration, "unique_for")),
}
#: The options that a job type may set.
JOB_OPTIONS = tuple(JobOptions.__annotations__)
#: The options that the dashboard's form asks for.
FORM_FIELDS = {name: option.form for name, option in OPTIONS.items() if option.form is not None}


def read_json_options(values: Mapping[str, Any]) -> DispatchOptions:
    """Return the options among the members of a JSON object; null is the same as left out. Raises InvalidOption."""
    options = {
        name: OPTIONS[name].from_json(value) for name, value in values.items() if name in OPTIONS and value is not None
    }
    return cast("DispatchOptions", options)


def read_form_options(texts: Mapping[str, str]) -> DispatchOptions:
    """Return the options among the texts of a form; an empty text is the same as left out. Raises InvalidOption."""
    typed = {name: texts.get(name, "").strip() for name in FORM_FIELDS}
    return cast("DispatchOptions", {name: FORM_FIELDS[name].parse(text) for name, text in typed.items() if text})
