"""What a call, a job type or the settings may say about a job, and how they are put together."""

import inspect
import math
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import relayq_core
from relayq_core import Fixed, InvalidOption, InvalidPayload, RelayQError
from relayq_core.model.options import (
    JOB_OPTIONS,
    NO_OPTIONS,
    OPTIONS,
    DispatchOptions,
    Options,
    validate_attempts,
    validate_job_id,
    validate_name,
    validate_queue,
)

PARIS = timezone(timedelta(hours=1))


def test_durations_may_be_seconds_or_timedelta() -> None:
    """Both are common in Python; inside there are only seconds."""
    as_numbers = Options.validate(delay=90, timeout=1.5, unique="k", unique_for=60)
    as_deltas = Options.validate(
        delay=timedelta(minutes=1, seconds=30),
        timeout=timedelta(milliseconds=1500),
        unique="k",
        unique_for=timedelta(minutes=1),
    )
    assert as_numbers == as_deltas
    assert as_numbers.delay == 90.0


def test_a_time_is_kept_in_epoch_milliseconds() -> None:
    """Two spellings of one moment are one moment."""
    moment = datetime(2026, 1, 1, 1, 0, 0, 500_000, tzinfo=PARIS)
    assert Options.validate(at=moment).at == 1_767_225_600_500
    assert Options.validate(at=moment.astimezone(UTC)).at == 1_767_225_600_500


@pytest.mark.parametrize("at", [datetime.max.replace(tzinfo=PARIS), datetime.min.replace(tzinfo=PARIS)])
def test_the_ends_of_the_calendar_are_moments_too(at: datetime) -> None:
    """No datetime with a time zone may end in an error of arithmetic."""
    assert Options.validate(at=at).at == pytest.approx(at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("delay", -1, "delay: expected 0 to 315360000 seconds (ten years), got -1"),
        ("delay", math.nan, "got nan"),
        ("delay", math.inf, "got inf"),
        ("delay", "5", "expected a number of seconds, got str"),
        ("delay", True, "expected a number of seconds, got bool"),
        ("delay", timedelta(days=-1), "got -86400.0"),
        ("delay", timedelta(days=4000), "ten years"),
        ("timeout", 0, "timeout: expected more than 0 seconds, got 0"),
        ("timeout", 0.0001, "expected more than 0 seconds"),
        ("unique_for", 0, "unique_for: expected more than 0 seconds, got 0"),
        ("at", datetime(2026, 1, 1), "at: expected a datetime with a time zone"),  # noqa: DTZ001
        ("at", "2026-01-01T00:00:00Z", "at: expected a datetime, got str"),
        ("max_attempts", 0, "max_attempts: expected a whole number of attempts from 1 to 1000, got 0"),
        ("max_attempts", 1001, "got 1001"),
        ("max_attempts", 3.0, "got 3.0"),
        ("max_attempts", True, "got True"),
        ("queue", "", "queue: expected 1 to 64 letters"),
        ("queue", "e mails", "got 'e mails'"),
        ("queue", "emails#1", "got 'emails#1'"),
        ("queue", "-emails", "beginning with a letter or digit"),
        ("queue", "\N{LATIN SMALL LETTER E WITH ACUTE}mails", "expected 1 to 64 letters"),
        ("queue", "q" * 65, "expected 1 to 64 letters"),
        ("queue", "emails\n", "expected 1 to 64 letters"),
        ("queue", 5, "got 5"),
        ("unique", "", "unique: expected a key that is not empty"),
        ("unique", 7, "got int"),
        ("unique", "\ud800", "not valid Unicode"),
        *(("unique", f"k{char}", "found a control character") for char in "\x00\x07\x0d\x1b\x7f\x9b"),
        ("unique", "k" * 16_385, "expected a key of at most 16,384 bytes, got 16,385"),
        ("job_id", "", "job_id: expected 1 to 64 letters, digits, '_', '-', '.' or ':', not beginning with '.'"),
        ("job_id", "a/b", "got 'a/b'"),
        ("job_id", "x" * 65, "expected 1 to 64"),
        ("backoff", "10", "backoff: expected seconds, a list of seconds"),
        ("backoff", {10: 20}, "got dict"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_words(option: str, value: Any, says: str) -> None:
    """Where it is given, with what was expected and what was found; nothing has been written yet."""
    with pytest.raises(InvalidOption) as raised:
        Options.validate(**{option: value})
    assert raised.value.option == option
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("delay", 0),
        ("delay", 315_360_000),
        ("timeout", 0.001),
        ("max_attempts", 1),
        ("max_attempts", 1000),
        ("queue", "q" * 64),
        ("queue", "0.A-b_c"),
        ("unique", "k" * 16_384),
        ("unique", "user:7 \N{SNOWMAN} #/\n"),
        ("job_id", "a-B_9"),
    ],
)
def test_the_bounds_themselves_are_allowed(option: str, value: Any) -> None:
    """What the sentence of a refusal calls right must be right."""
    assert getattr(Options.validate(**{option: value}), option) == value


def test_what_was_said_wins_over_what_lies_below_it() -> None:
    """The order of the promise: the call, then the job type, then the settings."""
    call = Options.validate(queue="vip", max_attempts=1)
    job_type = Options.validate(queue="emails", timeout=60, backoff=5)
    assert call.complete_from(job_type) == Options(queue="vip", max_attempts=1, timeout=60.0, backoff=Fixed(5))


def test_a_delay_overrides_a_time_and_the_other_way_round() -> None:
    """with_options(at=...).with_options(delay=...) means the later of the two words."""
    at = Options.validate(at=datetime(2026, 1, 1, tzinfo=UTC))
    delay = Options.validate(delay=5)
    assert delay.complete_from(at) == delay
    assert at.complete_from(delay) == at


def test_a_delay_of_zero_is_something_said() -> None:
    """0 is a value, not the absence of one."""
    assert Options.validate(delay=0).complete_from(Options.validate(delay=60)).delay == 0


def test_delay_and_time_at_once_are_refused() -> None:
    """It is unclear which of them counts."""
    both = Options.validate(delay=5, at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidOption, match="at: give either delay or at, not both"):
        Options.resolve(both, NO_OPTIONS, NO_OPTIONS)


def test_a_window_without_a_key_is_refused() -> None:
    """It would silently protect nothing."""
    with pytest.raises(InvalidOption, match="unique_for: it needs unique"):
        Options.resolve(Options.validate(unique_for=60), NO_OPTIONS, NO_OPTIONS)
    window, key = Options.validate(unique_for=60), Options.validate(unique="k")
    assert Options.resolve(window, key, NO_OPTIONS).unique_for == 60


def test_the_call_wins_over_the_request_and_that_over_the_job_type() -> None:
    """The order of precedence that the documentation promises; what none of them sets is left to the settings."""
    call, request = Options.validate(queue="vip"), Options.validate(queue="emails", timeout=5)
    job_type = Options.validate(queue="default", timeout=60, max_attempts=7)
    assert Options.resolve(call, request, job_type) == Options(queue="vip", timeout=5.0, max_attempts=7)


def test_every_option_is_known_wherever_options_are_written_down() -> None:
    """The signature of dispatch(), its TypedDict, the validated options and the table have the same names."""
    signature = inspect.signature(relayq_core.dispatch).parameters
    keywords = {name for name, parameter in signature.items() if parameter.kind is parameter.KEYWORD_ONLY}
    assert keywords == set(OPTIONS) == set(DispatchOptions.__annotations__) == {field.name for field in fields(Options)}
    assert set(JOB_OPTIONS) < set(OPTIONS)


def test_an_option_that_there_is_not_is_refused() -> None:
    """Type checkers see it; without one it is an error at run time."""
    with pytest.raises(TypeError, match="there is no option urgency"):
        Options.validate(urgency=1)  # type: ignore[call-arg]


def test_a_list_of_waits_longer_than_the_retries_is_warned_of() -> None:
    """The user believes in waits that never come; but it is no error, as max_attempts may come from elsewhere."""
    with pytest.warns(UserWarning, match="backoff lists 3 waits, but max_attempts=3 means at most 2 retries"):
        Options.validate(backoff=[1, 2, 3], max_attempts=3).warn_of_unused_backoff()


@pytest.mark.parametrize(
    "fitting",
    [
        Options.validate(backoff=[1, 2], max_attempts=3),
        Options.validate(backoff=[1, 2, 3]),
        Options.validate(backoff=5, max_attempts=1),
        Options.validate(backoff=[5], max_attempts=1),
        Options.validate(max_attempts=3),
    ],
)
def test_waits_that_can_be_used_are_not_warned_of(fitting: Options) -> None:
    """A warning about nothing teaches people to ignore warnings."""
    fitting.warn_of_unused_backoff()


def test_the_checks_answer_with_what_they_were_given() -> None:
    """So that they can stand where the value is used."""
    assert (
        validate_queue("q"),
        validate_job_id("i"),
        validate_name("a.b-c_1"),
        validate_attempts("max_attempts", 5),
    ) == (
        "q",
        "i",
        "a.b-c_1",
        5,
    )


@pytest.mark.parametrize("name", ["", "1job", "a b", "a#b", "x" * 129, None, "caf\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_job_name_that_cannot_be_one_is_refused(name: Any) -> None:
    """Names stand in keys and on command lines."""
    with pytest.raises(InvalidOption, match="name: expected 1 to 128 letters"):
        validate_name(name)


def test_a_refused_option_is_a_relayq_error_and_a_value_error() -> None:
    """Both kinds of caller can catch it: those who know RelayQ and those who don't."""
    assert issubclass(InvalidOption, RelayQError)
    assert issubclass(InvalidOption, ValueError)
    assert not issubclass(InvalidOption, InvalidPayload)
