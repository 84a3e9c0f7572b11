"""Options: what a call, a job type or the settings say about one job. Checked where they are given."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from relayq_core.errors import InvalidOption, Seconds, quote, validate_wait
from relayq_core.model.backoff import Backoff, backoff_of
from relayq_core.model.value import Value

BackoffLike: TypeAlias = Backoff | Seconds | Sequence[Seconds]

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: Behind the beginning of a name, or alone: every queue that begins so.
_ANY = "*"
_QUEUES = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\*")
#: No dot comes first: `..` in a URL leads elsewhere. No slash: in a URL it would end the id.
_JOB_ID = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.:-]{0,63}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
#: What fits a header and is no JSON; shorter ones can be guessed.
_TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{16,256}")
#: Of 100 random tokens of 16 hexadecimal digits one has fewer; of 32 digits none has.
_LEAST_VARIETY = 8
#: More attempts than this are a loop, not a retry.
_MOST_ATTEMPTS = 1000
#: Terminals obey them, and no key needs them; a newline and a tab do no harm.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: A key is hashed above 1 KB before it is stored; this bounds what is hashed.
_LONGEST_KEY = 16_384


class Options(Value, kw_only=True):
    """What was said, and None where nothing was. Durations in seconds; `at` in epoch milliseconds."""

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
    def given(
        cls,
        *,
        queue: str | None = None,
        max_attempts: int | None = None,
        backoff: BackoffLike | None = None,
        timeout: Seconds | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        unique_for: Seconds | None = None,
        job_id: str | None = None,
    ) -> Options:
        """The options as a user writes them, each checked. Raises InvalidOption."""
        return cls(
            queue=None if queue is None else validate_queue(queue),
            max_attempts=None if max_attempts is None else validate_attempts("max_attempts", max_attempts),
            backoff=None if backoff is None else backoff_of(backoff),
            timeout=None if timeout is None else validate_duration("timeout", timeout),
            delay=None if delay is None else validate_wait("delay", delay),
            at=None if at is None else convert_to_epoch_ms(at),
            unique=None if unique is None else validate_key(unique),
            unique_for=None if unique_for is None else validate_duration("unique_for", unique_for),
            job_id=None if job_id is None else validate_job_id(job_id),
        )

    def over(self, base: Options) -> Options:
        """These options, completed by `base` where they say nothing. A delay here overrides an `at` there."""
        if base == _NOTHING:
            return self
        if self == _NOTHING:
            return base
        said = {name: value for name, value in vars(self).items() if value is not None}
        if self.delay is not None or self.at is not None:
            base = base.evolve(delay=None, at=None)
        return base.evolve(**said)

    def checked(self) -> Options:
        """These options, if they agree with each other. Raises InvalidOption."""
        if self.delay is not None and self.at is not None:
            raise InvalidOption("at", "give either delay or at, not both")
        if self.unique_for is not None and self.unique is None:
            raise InvalidOption("unique_for", "it needs unique=..., the key that is held for so long")
        return self

    def warn_of_unused_backoff(self) -> None:
        """Say so when a backoff list is longer than max_attempts can ever use."""
        if self.backoff is None or self.backoff.kind != "list" or self.max_attempts is None:
            return
        retries = self.max_attempts - 1
        if len(self.backoff.values) > max(retries, 1):
            warnings.warn(
                f"backoff lists {len(self.backoff.values)} waits, but max_attempts={self.max_attempts} "
                f"means at most {retries} {'retry' if retries == 1 else 'retries'}; the rest is never used",
                stacklevel=4,
            )


_NOTHING = Options()


def is_queue(queue: str) -> bool:
    """It is 1 to 64 letters, digits, '_', '.' or '-', a letter or digit first."""
    return _QUEUE.fullmatch(queue) is not None


def validate_queue(queue: Any) -> str:
    """The queue name, if it is one. Raises InvalidOption."""
    if not isinstance(queue, str) or not is_queue(queue):
        raise InvalidOption(
            "queue",
            f"expected 1 to 64 letters, digits, '_', '.' or '-', beginning with a letter or digit, got {quote(queue)}",
        )
    return queue


def validate_queue_pattern(queue: str) -> None:
    """Raise InvalidOption unless it is a queue's name, or the beginning of one and `*`, or `*` alone."""
    if not _QUEUES.fullmatch(queue):
        validate_queue(queue)


def find_function(queue: str, functions: Mapping[str, str]) -> str | None:
    """The function that `runner_functions` names for a queue: by its name, else by the longest beginning of it."""
    if not functions or queue in functions:
        return functions.get(queue)
    for length in range(len(queue), -1, -1):
        if (function := functions.get(queue[:length] + _ANY)) is not None:
            return function
    return None


def validate_job_id(job_id: Any) -> str:
    """The job id, if it is one: 1 to 64 letters, digits, '_', '-', '.' or ':', no dot first."""
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        raise InvalidOption(
            "job_id",
            f"expected 1 to 64 letters, digits, '_', '-', '.' or ':', not beginning with '.', got {quote(job_id)}",
        )
    return job_id


def validate_name(name: Any) -> str:
    """The job name, if it is one: 1 to 128 letters, digits, '_', '.' or '-', a letter or '_' first."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidOption(
            "name",
            f"expected 1 to 128 letters, digits, '_', '.' or '-', beginning with a letter or '_', got {quote(name)}",
        )
    return name


def validate_attempts(option: str, attempts: Any) -> int:
    """The number of attempts, if it is a whole number from 1 to 1000."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= _MOST_ATTEMPTS:
        raise InvalidOption(
            option, f"expected a whole number of attempts from 1 to {_MOST_ATTEMPTS}, got {quote(attempts)}"
        )
    return attempts


def iterate_several(option: str, given: Any, what: str) -> Iterator[Any]:
    """What was given, one after the other. Raises InvalidOption at once for one thing instead of several: a text, a
    mapping and a Job can be iterated over too, and yield their letters, keys and fields."""
    alone = isinstance(given, str | bytes | bytearray | Mapping) or hasattr(given, "__relayq_request__")
    if not alone:
        try:
            return iter(given)
        except TypeError:
            pass
    raise InvalidOption(option, f"expected {what}, in a list for example, got a single {type(given).__name__}")


def parse_tokens(text: str) -> tuple[str, ...]:
    """One or two tokens, separated by a comma. The sentence of the InvalidOption never shows what was found."""
    tokens = tuple(part.strip() for part in text.split(","))
    if len(tokens) > 2 or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise InvalidOption(
            "http_token",
            "expected one token, or two separated by a comma, each of 16 to 256 letters, digits or any of _.~+/=-; "
            "what was found is not shown. `openssl rand -hex 32` makes a good one",
        )
    if any(len(set(token)) < _LEAST_VARIETY for token in tokens):
        raise InvalidOption(
            "http_token",
            f"expected a token with at least {_LEAST_VARIETY} different characters, since others can be guessed; "
            "what was found is not shown. `openssl rand -hex 32` makes a good one",
        )
    return tokens


def validate_key(key: Any) -> str:
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
    seconds = validate_wait(option, value)
    if seconds < 0.001:
        raise InvalidOption(option, f"expected more than 0 seconds, got {seconds:g}")
    return seconds


def convert_to_epoch_ms(at: Any) -> int:
    if not isinstance(at, datetime):
        raise InvalidOption("at", f"expected a datetime, got {type(at).__name__}")
    if at.tzinfo is None or at.utcoffset() is None:
        raise InvalidOption("at", "expected a datetime with a time zone, e.g. datetime.now(timezone.utc)")
    return round(at.timestamp() * 1000)
