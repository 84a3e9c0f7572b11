"""What callers give: any option, any key, any payload. It is refused in words, or it is kept just as it was given."""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relayq_core import Backoff, Exponential, Fixed, JobRequest, Linear, Settings, job
from relayq_core.adapters.dynamodb.items import encode_job, read_job
from relayq_core.errors import InvalidOption, InvalidPayload, PayloadTooLarge, RelayQError
from relayq_core.model.backoff import parse
from relayq_core.model.options import Options
from relayq_core.model.record import JobRecord, build_unique_pk
from relayq_core.testing import Bench, isolated_registry
from tests.support.factories import NOW
from tests.support.figures import tell

DELIVERED: list[Any] = []

#: For every option: of its type and of others, at its bounds and far beyond.
VALUES: list[Any] = [
    True, False, 0, 1, -1, 7, 1_000, 1_001, 10**5_000, -(10**5_000), 0.0, -0.0, 1e-320, 0.0004, 1e308,
    float("inf"), float("-inf"), float("nan"), 315_360_000, 315_360_001,
    "", "a", "x" * 64, "x" * 65, "x" * 16_384, "x" * 16_385, "ü" * 8_192, "\ud800", "a#b", "a b",
    " a", "a\n", "-", "__class__",
    "\u0661", "a\x00", "../a", "sha256:" + "0" * 64,
    b"a", bytearray(b"a"), [], [1], [1] * 50, [1] * 51, ["1"], [None], [float("nan")], [-1],
    [10**400], (1, 2), {1}, {"a": 1},
    object(), type, lambda: 1, Decimal("NaN"), Decimal(1), Fraction(1, 3), 1 + 2j,
    timedelta(), timedelta(seconds=-1), timedelta.max, timedelta.min, timedelta(microseconds=1),
    datetime.max, datetime.min,  # noqa: DTZ901
    datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    datetime(1969, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC),
    Fixed(1), Linear(0.1, cap=1), Exponential(315_360_000, jitter=1), Backoff("list", (0.1 + 0.2, 1e-9)),
]  # fmt: skip
OPTIONS = ("job_id", "queue", "delay", "at", "max_attempts", "backoff", "timeout", "unique", "unique_for")


@pytest.fixture(scope="module")
def tried() -> Iterator[Counter[str]]:
    """How many values were tried."""
    counts: Counter[str] = Counter()
    yield counts
    for what, count in counts.items():
        tell(f"odd values of {what}: {count:,}")


@pytest.fixture(autouse=True)
def _echo() -> Iterator[None]:
    """A job that takes anything."""
    DELIVERED.clear()
    with isolated_registry():

        @job
        def echo(value: Any) -> None:
            DELIVERED.append(value)

        yield


def _accepted(ask: Callable[[Bench], Any]) -> tuple[Bench, JobRecord] | None:
    """The job that a dispatch has made, if it was not refused in the words that dispatch() promises."""
    bench = Bench()
    try:
        job_id = ask(bench).job_id
    except (InvalidOption, InvalidPayload, PayloadTooLarge) as error:
        told = str(error)
        assert len(told) < 1_000
        told.encode()
        assert "\n" not in told
        return None
    return bench, bench.store.jobs[job_id]


def _is_kept(record: JobRecord) -> None:
    """What was accepted can be read from the table, or it would be lost."""
    back = read_job(encode_job(record))
    assert back.evolve(backoff=record.backoff) == record
    assert (back.backoff is None) == (record.backoff is None)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_kept_as_it_was_given_or_refused_in_words(option: str, tried: Counter[str]) -> None:
    """Never another exception, and never a job that cannot be read."""
    accepted = 0
    for value in VALUES:
        more = {"unique": "key"} if option == "unique_for" else {}
        made = _accepted(lambda bench, value=value, more=more: bench.relayq.dispatch("work", **{option: value, **more}))  # type: ignore[misc]
        if made is not None:
            accepted += 1
            _is_kept(made[1])
    assert 0 < accepted < len(VALUES)
    tried["options"] += len(VALUES)


@given(st.dictionaries(st.sampled_from(OPTIONS), st.sampled_from(range(len(VALUES))), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500, deadline=None)
def test_options_together_are_kept_or_refused(chosen: dict[str, int]) -> None:
    """A delay with a moment, a window without a key, and all the rest."""
    given = {option: VALUES[number] for option, number in chosen.items()}
    made = _accepted(lambda bench: bench.relayq.dispatch("work", **given))
    if made is not None:
        _is_kept(made[1])


@pytest.mark.parametrize("name", VALUES, ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "int")
def test_a_name_is_one_or_is_refused(name: Any) -> None:
    """By itself, and in a request that was made by hand."""
    for asked in (name, *([JobRequest(name, "{}")] if isinstance(name, str) else [])):
        try:
            made = _accepted(lambda bench, asked=asked: bench.relayq.dispatch(asked))  # type: ignore[misc]
        except TypeError:
            made = None  # it is no name, no job and no request
        if made is not None:
            _is_kept(made[1])


def test_a_default_queue_that_is_none_is_refused_at_dispatch() -> None:
    """Settings may be made by hand; a job in such a queue would never be swept."""
    bench = Bench(default_queue="no queue")
    with pytest.raises(InvalidOption, match="queue"):
        bench.relayq.dispatch("work")


# --- payloads ---------------------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(categories=None)), inner, max_size=4)
    ),
    max_leaves=12,
)
odd = st.one_of(
    plain,
    st.binary(max_size=5),
    st.tuples(plain),
    st.sets(st.integers(), max_size=2),
    st.decimals(),
    st.datetimes(),
    st.dictionaries(st.integers() | st.none() | st.booleans(), plain, max_size=2),
    st.just(object()),
    st.integers(500, 5_000).map(lambda depth: json.loads("[" * 300 + "]" * 300) if depth < 600 else _deep(depth)),
    st.integers(4_000, 5_000).map(lambda digits: 10**digits),
)  # fmt: skip


def _deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


@given(odd)
@example("\ud800")
@example({"\ud800": 1})
@example({"a": {1: 2}})
@example(2**64)
@example(-0.0)
@example(1e16)
@settings(suppress_health_check=list(HealthCheck), max_examples=500, deadline=None)
def test_a_payload_arrives_as_it_was_given_or_is_refused(value: Any) -> None:
    """For a job that takes anything: what it is called with is what was dispatched."""
    made = _accepted(lambda bench: bench.relayq.dispatch("echo", {"value": value}))
    if made is not None:
        bench, record = made
        _is_kept(record)
        DELIVERED.clear()
        assert bench.run(record.id).ended == "completed"
        assert _same(DELIVERED[0], value)


@given(st.dictionaries(st.text(st.characters(categories=None), max_size=5), plain, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_a_payload_for_a_job_whose_code_is_elsewhere_is_kept_or_refused(payload: dict[str, Any]) -> None:
    """The caller has none of its code: JSON is all that can be checked, and JSON it is."""
    made = _accepted(lambda bench: bench.relayq.dispatch("elsewhere", payload))
    if made is not None:
        _is_kept(made[1])
        assert _same(made[1].payload, payload)


@pytest.mark.parametrize("size", [299_900, 300_001, 50_000_000])
def test_a_payload_is_measured_in_bytes(size: int) -> None:
    """What is over the budget is refused with its size."""
    made = _accepted(lambda bench: bench.relayq.dispatch("elsewhere", {"text": "ü" * (size // 2)}))
    assert (made is not None) == (size < 300_000)


# --- unique keys ------------------------------------------------------------------------------------------------

names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")
keys = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet="#a:\u0301e\u00e9", min_size=1, max_size=6),
    st.integers(900, 2_100).map(lambda length: "k" * length),
    st.integers(0, 3).map(lambda n: "sha256:" + hashlib.sha256(("k" * (1_100 + n)).encode()).hexdigest()),
)  # fmt: skip


@given(names, keys, names, keys)
@example("a", "b#c", "a#b".replace("#", "_"), "c")
@example("a", "k" * 1_100, "a", "sha256:" + hashlib.sha256(("k" * 1_100).encode()).hexdigest())
@settings(max_examples=1_000)
def test_different_keys_never_share_an_item(name: str, key: str, other_name: str, other_key: str) -> None:
    """Keys of different jobs do not either, whatever separators stand in them."""
    one, other = build_unique_pk(name, key), build_unique_pk(other_name, other_key)
    assert (one == other) == ((name, key) == (other_name, other_key))
    assert len(one.encode()) <= 2_048


def test_no_name_can_be_made_of_another_name_and_a_key() -> None:
    """Job "a" with key "b#c" is not job "a#b" with key "c": there is no such job."""
    with pytest.raises(InvalidOption, match="name"):
        Bench().relayq.dispatch("a#b", unique="c")
    with pytest.raises(InvalidOption, match="name"):
        Bench().relayq.dispatch(JobRequest("a#b", "{}"), unique="c")


@pytest.mark.parametrize("text", ["é", "ǖ", "가", "Å", "ﬁ"])
def test_the_forms_of_a_letter_are_different_keys(text: str) -> None:
    """A key is its bytes: who wants NFC and NFD to be one normalises them."""
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    bench = Bench()
    answers = [bench.relayq.dispatch("work", unique=form) for form in forms]
    assert [answer.duplicate for answer in answers] == [False] * len(forms)
    assert all(bench.relayq.dispatch("work", unique=form).duplicate for form in forms)


@pytest.mark.parametrize("length", [1, 1_000, 1_024, 2_047, 2_048, 2_049, 16_384])
@pytest.mark.parametrize("letter", ["k", "ü"])
def test_a_key_of_any_length_is_a_key(letter: str, length: int) -> None:
    """DynamoDB takes 2,048 bytes; the one that is longer by a letter is another one all the same."""
    bench = Bench()
    key, longer = letter * (length // len(letter.encode())), letter * (length // len(letter.encode()) - 1) + "x"
    if not key:
        return
    assert not bench.relayq.dispatch("work", unique=key).duplicate
    assert not bench.relayq.dispatch("work", unique=longer).duplicate
    assert bench.relayq.dispatch("work", unique=key).duplicate


# --- backoff ----------------------------------------------------------------------------------------------------

seconds = st.floats(0, 315_360_000) | st.integers(0, 315_360_000)
backoffs = st.builds(
    Backoff,
    st.sampled_from(["fixed", "linear", "exponential"]),
    st.tuples(seconds),
    st.none() | seconds,
    st.floats(0, 1),
) | st.builds(
    Backoff,
    st.just("list"),
    st.lists(seconds, min_size=2, max_size=50).map(tuple),
    st.none() | seconds,
    st.floats(0, 1),
)


@given(backoffs, st.integers(1, 10**15), st.floats(0, 1, exclude_max=True))
@settings(max_examples=500)
def test_a_backoff_is_within_its_bounds_and_survives_the_table(backoff: Backoff, retry: int, draw: float) -> None:
    """However extreme: a number from 0 to its cap, and the same (to 15 digits) once read again."""
    most = 315_360_000 if backoff.cap is None else backoff.cap
    assert 0 <= backoff.delay(retry, draw) <= most
    back = parse(str(backoff))
    assert back.delay(retry, draw) == pytest.approx(backoff.delay(retry, draw), rel=1e-9, abs=1e-6)


@given(st.text(max_size=30) | st.from_regex(r"\A[a-z]{0,12}:?[0-9.,e+-]{0,20}(,(cap|jitter|x)=[0-9.e-]{0,8}){0,2}\Z"))
@settings(max_examples=1_000)
def test_a_backoff_in_words_is_read_or_refused(text: str) -> None:
    """RELAYQ_BACKOFF, and the attribute of a row."""
    try:
        backoff = parse(text)
    except InvalidOption:
        return
    assert str(parse(str(backoff))) == str(backoff)


# --- the environment --------------------------------------------------------------------------------------------

VARIABLES = sorted(f"RELAYQ_{name.upper()}" for name in Settings.__dataclass_fields__)
TEXTS = [
    "", " ", "0", "-1", "+1", "1", " 1", "1 ", "1.5", "1e9", "1e400", "0x10", "1_000", "9" * 5_000, "\u0661", "\uff11",
    "NaN", "inf",
    "none", "None", "lambda", "LAMBDA", "http", "true", "a", "a b", "a,b", ",", "a..b", "jobs.__class__", "os;exit",
    "../jobs", "\udce9",
    "\x00", "x" * 100_000, "{}", "[]", "null", '{"a":1}', '{"a":"b"}', '{"a b":"c"}', '{"a":"b","a":"c"}', '{"a":NaN}',
    "[" * 100_000, '{"a":' * 5_000, "exponential:10,cap=3600,jitter=0.1", "10,20,30", "list:1", "fixed:",
    "fixed:1,cap=",
]  # fmt: skip


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_is_read_or_refused_in_words(variable: str, tried: Counter[str]) -> None:
    """At the start, by its name; a value that is read can be used, and the rest of the environment is not shown."""
    secret = "canary-7f3a9c5e1b"
    for text in TEXTS:
        environ = {"AWS_SECRET_ACCESS_KEY": secret, "HOME": secret, variable: text}
        try:
            found = Settings.from_environ(environ)
        except RelayQError as error:
            told = str(error)
            assert told.startswith(f"{variable}: ")
            assert len(told) < 1_000
            assert secret not in told
        else:
            assert found.policy.max_attempts >= 1
            assert secret not in repr(found)
    tried["environment variables"] += len(TEXTS)


@given(st.text(st.characters(exclude_characters="=\x00", exclude_categories=["Cs"]), max_size=20))
def test_an_unknown_variable_is_named(name: str) -> None:
    """A setting that is misspelt would silently not hold."""
    if f"RELAYQ_{name}" in {*VARIABLES, "RELAYQ_ARCH"}:
        return
    with pytest.raises(RelayQError, match="there is no such setting"):
        Settings.from_environ({f"RELAYQ_{name}": "1"})


def test_options_of_a_call_and_a_type_go_together_in_every_pair() -> None:
    """What the call says holds; the rest is the type's."""
    ways: list[dict[str, Any]] = [{}, {"delay": 5.0}, {"at": NOW}, {"queue": "a"}, {"unique": "k"}, {"unique_for": 1.0}]
    for call, of_type in itertools.product(ways, repeat=2):
        made = Options(**call).complete_from(Options(**of_type))
        for option, value in call.items():
            assert getattr(made, option) == value
