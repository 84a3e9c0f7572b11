"""What is to be dispatched: a name, a payload that survives JSON, and options."""

import enum
import json
import math
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Fixed, InvalidOption, InvalidPayload, JobRequest
from relayq_core.jobs.registry import Registry
from relayq_core.jobs.request import encode_json, resolve_request
from relayq_core.model.options import Options

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Colour(enum.StrEnum):
    """Equal to its own text."""

    RED = "red"


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_whatever_json_can_hold_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    """By name, the caller's data and the handler's data are the same data."""
    assert json.loads(encode_json("send_email", payload)) == payload


def test_the_json_is_compact_and_keeps_unicode() -> None:
    """Each KB of a row is paid for three times."""
    assert encode_json("a", {"to": "\N{SNOWMAN}", "n": [1, 2]}) == '{"to":"\N{SNOWMAN}","n":[1,2]}'


def test_subclasses_that_are_equal_to_what_json_gives_back_will_do() -> None:
    """A StrEnum is its text, an OrderedDict is a dict: nothing is lost."""
    assert json.loads(encode_json("a", {"colour": Colour.RED, "map": OrderedDict(a=1)})) == {
        "colour": "red",
        "map": {"a": 1},
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((1, 2), "a tuple does not come back the same"),
        ({"deep": [{"er": (1,)}]}, "it changes on its way through JSON"),
        ({1: "int key"}, "it changes on its way through JSON"),
        ({None: 1, "null": 2}, "it changes on its way through JSON"),
        ({True: 1}, "it changes on its way through JSON"),
        (math.nan, "cannot be written as JSON"),
        (math.inf, "cannot be written as JSON"),
        ([-math.inf], "cannot be written as JSON"),
        ({1, 2}, "cannot be written as JSON"),
        (b"bytes", "cannot be written as JSON"),
        (Decimal(1), "cannot be written as JSON"),
        (object(), "cannot be written as JSON"),
        ("\ud800", "lone surrogate"),
        (["\udfff"], "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
    ],
    ids=repr,
)
def test_a_value_that_json_would_change_is_refused_naming_its_field(value: Any, says: str) -> None:
    """The handler would see something else than the caller gave, or nothing at all."""
    with pytest.raises(InvalidPayload) as raised:
        encode_json("send_email", {"fine": 1, "odd": value})
    assert raised.value.field == "odd"
    assert raised.value.name == "send_email"
    assert str(raised.value).startswith("payload of job 'send_email', field 'odd': ")
    assert says in str(raised.value)


def test_any_depth_is_either_written_or_refused() -> None:
    """Writing, reading and comparing run out of stack at different depths; none of the three may escape."""
    told = []
    for levels in range(1, 1200):
        try:
            told.append(encode_json("a", {"deep": nested(levels)}).count("["))
        except InvalidPayload as refused:
            assert str(refused) == "payload of job 'a', field 'deep': it is nested too deeply for JSON"  # noqa: PT017
    assert told == list(range(1, len(told) + 1))
    assert len(told) > 100


def test_a_payload_of_absurd_depth_is_refused() -> None:
    """A deep recursion would take the dispatching process with it."""
    with pytest.raises(InvalidPayload, match="field 'deep': it is nested too deeply for JSON"):
        encode_json("a", {"deep": nested(100_000)})


def test_a_value_that_holds_itself_is_refused() -> None:
    """It has no end as JSON."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidPayload, match="field 'loop': it cannot be written as JSON"):
        encode_json("a", {"loop": loop})


@pytest.mark.parametrize(
    "value", ["hunter2", ("hunter2",), {"hunter2"}, {"password": ("hunter2",)}, [object(), "hunter2"]]
)
def test_a_refusal_never_shows_the_value(value: Any) -> None:
    """Errors are logged; payloads are not."""
    with pytest.raises(InvalidPayload) as raised:
        encode_json("login", {"password": value, "z": {1}})
    assert "hunter2" not in str(raised.value)


def test_field_names_are_text_that_can_be_stored() -> None:
    """1 and "1" would become one, and a lone surrogate cannot be encoded at all."""
    with pytest.raises(InvalidPayload, match="expected field names that are strings, got int"):
        encode_json("a", {1: "x"})  # type: ignore[dict-item]
    with pytest.raises(InvalidPayload, match="lone surrogate"):
        encode_json("a", {"\ud800": "x"})


@pytest.mark.parametrize("args", [[1], "text", 5, {1, 2}])
def test_arguments_are_a_mapping(args: Any) -> None:
    """A list has no field names, so that its meaning would be lost after a deploy."""
    with pytest.raises(InvalidPayload, match="expected a mapping of field names to values, got"):
        encode_json("a", args)


def test_a_name_alone_is_a_job_without_arguments() -> None:
    """dispatch("nightly") needs no {}."""
    assert resolve_request("nightly", None, Registry()) == JobRequest("nightly", "{}")


def test_a_name_needs_none_of_the_jobs_code() -> None:
    """Then JSON is all that can be checked, and the runner checks the rest."""
    made = resolve_request("send_email", {"to": "a@b.c"}, Registry())
    assert (made.name, made.payload, made.job_type) == ("send_email", {"to": "a@b.c"}, None)


def test_a_name_that_cannot_be_one_is_refused() -> None:
    """No runner could ever know it."""
    with pytest.raises(InvalidOption, match="name: expected 1 to 128 letters"):
        resolve_request("send email", None, Registry())


def test_the_result_of_a_job_function_is_distinguished_from_its_name() -> None:
    """dispatch(greet(name="x")) has run the job here, and dispatches its result."""
    with pytest.raises(InvalidOption, match=r"got 'Hello, x!'. If a job function returned it: dispatch\(function.job"):
        resolve_request("Hello, x!", None, Registry())


def test_a_request_has_its_arguments_already() -> None:
    """Silently dropping one of the two would send the wrong mail."""
    with pytest.raises(InvalidPayload, match="the job has its arguments already; leave out the second argument"):
        resolve_request(JobRequest("a", "{}"), {"to": "a@b.c"}, Registry())


@pytest.mark.parametrize("job", [None, 5, print, {"name": "send_email"}, lambda: None], ids=repr)
def test_what_is_no_job_is_refused_with_what_would_be_one(job: Any) -> None:
    """The likeliest cause is a forgotten @job."""
    with pytest.raises(TypeError, match=r"dispatch\(\) takes a Job object.*Is the function decorated with @job\?"):
        resolve_request(job, None, Registry())


def test_options_chain_and_the_last_word_counts() -> None:
    """with_options() answers with a copy: the request itself may be used again."""
    first = JobRequest("a", "{}").with_options(queue="vip", delay=5)
    second = first.with_options(queue="slow", backoff=7)
    assert first.options == Options(queue="vip", delay=5.0)
    assert second.options == Options(queue="slow", delay=5.0, backoff=Fixed(7))


def test_options_of_a_request_are_checked_where_they_are_given() -> None:
    """The traceback should point at the line with the mistake."""
    with pytest.raises(InvalidOption, match="delay: expected 0 to"):
        JobRequest("a", "{}").with_options(delay=-1)
