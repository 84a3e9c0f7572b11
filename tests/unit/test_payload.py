"""The payload: what comes back from JSON equals what was given, or is refused; the runner is more lenient."""

import datetime as dt
import enum
import json
import math
import types
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator

from relayq_core import InvalidPayload, Job, JobContext, JobRequest, job
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request

CONTEXT = JobContext(
    job_id="job-1",
    name="send",
    queue="emails",
    attempt=1,
    max_attempts=3,
    deadline_ms=0,
    _now=lambda: 0,
    _report=lambda _: True,
)
CHANGED = "it does not come back from JSON as it was"
UNWRITABLE = "it cannot be written as JSON"


class Base(BaseModel):
    """A model that others derive from."""

    n: int = 1


class Derived(Base):
    """Has a field of its own, which a field typed Base does not show."""

    password: str = "hunter2"


class Colour(enum.Enum):
    """Not JSON by itself, but pydantic knows how."""

    RED = "red"


class Uncomparable:
    """Raises when compared, as arrays do."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("hunter2")

    __hash__ = None  # type: ignore[assignment]


def class_job(kind: Any) -> Callable[[Any], JobRequest]:
    """Makes the request of a class job whose one odd field is of this type."""
    body = {
        "__module__": __name__,
        "__annotations__": {"fine": int, "odd": kind},
        "fine": 1,
        "model_config": ConfigDict(arbitrary_types_allowed=True),
        "handle": lambda self: self.odd,
    }
    made: Any = types.new_class("Odd", (Job,), {}, lambda into: into.update(body))
    return lambda value: resolve_request(made(odd=value), None, registry)


def function_job(kind: Any) -> Callable[[Any], JobRequest]:
    """The same as a function."""

    def odd_(odd: Any, fine: int = 1) -> Any:
        return odd

    odd_.__annotations__["odd"] = kind
    made: Callable[[Any], JobRequest] = job(name="Odd")(odd_).job
    return made


BOTH = pytest.mark.parametrize("form", [class_job, function_job])
Form = Callable[[Any], Callable[[Any], JobRequest]]


def run(made: JobRequest) -> Any:
    """What the handler returns on the runner."""
    built, _ = registry[made.name].build(made.payload_json)
    return built.handle(lambda: CONTEXT)


# --- what survives ---


@BOTH
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (tuple[int, int], (1, 2)),
        (set[int], {1, 2}),
        (dict[int, str], {1: "x"}),
        (dt.datetime, dt.datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)),
        (dt.timedelta, dt.timedelta(seconds=1.5)),
        (Decimal, Decimal("1.10")),
        (uuid.UUID, uuid.UUID(int=7)),
        (bytes, b"plain"),
        (Colour, Colour.RED),
        (Base, Base(n=5)),
        (list[Base | None], [Base(), None]),
        (Any, {"list": [1, 2.5, True, None, "\N{SNOWMAN}"], "map": {}}),
        (int, 10**400),
        (float, 0.1 + 0.2),
    ],
    ids=repr,
)
def test_what_pydantic_can_restore_arrives_as_it_was(form: Form, kind: Any, value: Any) -> None:
    """A handler works with dates and models, not with their texts."""
    given = run(form(kind)(value))
    assert given == value
    assert type(given) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_any_json_value_survives_as_any(value: Any) -> None:
    """Nothing that JSON can hold may be refused."""
    assert run(class_job(Any)(value)) == value


# --- what does not ---


@BOTH
@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (SecretStr, "hunter2", CHANGED),
        (Base, Derived(), CHANGED),
        (list[Base], [Derived()], CHANGED),
        (dict[str, Base], {"x": Derived()}, CHANGED),
        (Any, ("hunter2",), CHANGED),
        (Any, {"deep": [("hunter2",)]}, CHANGED),
        (Any, {"hunter2"}, CHANGED),
        (Any, {1: "hunter2"}, CHANGED),
        (Any, b"hunter2", CHANGED),
        (Any, dt.date(2026, 1, 1), CHANGED),
        (Any, Decimal(1), CHANGED),
        (Any, Derived(), CHANGED),
        (Any, Colour.RED, CHANGED),
        (Any, math.nan, CHANGED),
        (Any, [math.inf], CHANGED),
        (float, math.nan, CHANGED),
        (float, math.inf, CHANGED),
        (dict[str, float], {"x": -math.inf}, CHANGED),
        (Any, object(), UNWRITABLE),
        (Any, "\ud800", UNWRITABLE),
        (bytes, b"\xff", UNWRITABLE),
        (Any, Uncomparable(), UNWRITABLE),
        (Uncomparable, Uncomparable(), UNWRITABLE),
    ],
    ids=repr,
)
def test_what_would_change_is_refused_naming_the_field_and_not_the_value(
    form: Form, kind: Any, value: Any, says: str
) -> None:
    """The handler would work with something else than was given; and errors are logged, payloads are not."""
    with pytest.raises(InvalidPayload) as raised:
        form(kind)(value)
    assert (raised.value.field or "").partition(".")[0] == "odd"
    assert str(raised.value).startswith("payload of job 'Odd', field 'odd")
    assert says in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_value_without_equality_is_refused() -> None:
    """It cannot be known whether it came back as it was."""

    class Blob:
        """Equal to nothing but itself."""

    class Odd(Job):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        odd: Blob

        @field_serializer("odd")
        def write(self, odd: Blob) -> str:
            return "x"

        @field_validator("odd", mode="before")
        @classmethod
        def read(cls, value: Any) -> Blob:
            return Blob()

        def handle(self) -> None: ...

    with pytest.raises(InvalidPayload, match=f"field 'odd': {CHANGED}"):
        resolve_request(Odd(odd=Blob()), None, registry)


def test_a_field_that_is_kept_out_of_json_is_refused_unless_it_is_its_default() -> None:
    """exclude=True would lose it."""

    class Odd(Job):
        odd: int = Field(default=1, exclude=True)

        def handle(self) -> None: ...

    assert resolve_request(Odd(), None, registry).payload == {}
    with pytest.raises(InvalidPayload, match=f"field 'odd': {CHANGED}"):
        resolve_request(Odd(odd=2), None, registry)


def test_a_validator_that_changes_its_own_answer_is_refused() -> None:
    """It runs once more on the runner: a price would be reduced twice."""

    class Odd(Job):
        odd: int

        @field_validator("odd")
        @classmethod
        def reduced(cls, value: int) -> int:
            return value - 1

        def handle(self) -> None: ...

    with pytest.raises(InvalidPayload, match=f"field 'odd': {CHANGED}"):
        resolve_request(Odd(odd=5), None, registry)


def test_an_object_that_was_changed_into_nonsense_is_refused() -> None:
    """Assignments are not validated unless one asks pydantic for it."""

    class Odd(Job):
        odd: int

        def handle(self) -> None: ...

    changed = Odd(odd=1)
    changed.odd = "hunter2"  # type: ignore[assignment]
    with pytest.raises(InvalidPayload, match="field 'odd'") as raised:
        resolve_request(changed, None, registry)
    assert "hunter2" not in str(raised.value)


@BOTH
@pytest.mark.parametrize(
    ("args", "field", "says"),
    [
        ({}, "odd", "it is missing"),
        ({"odd": 1, "more": 2}, "more", "the job has no such field"),
        ({"ood": 1}, "ood", "the job has no such field (and field 'odd' is missing). Did you mean \"odd\"?"),
        ({"odd": "hunter2"}, "odd", "Input should be a valid integer"),
        ({"odd": "hunter2", "more": 2, "fine": "x"}, "more", ", and 1 more)"),
        ({"odd": {"n": "hunter2"}}, "odd", "Input should be a valid integer"),
    ],
)
def test_data_that_does_not_fit_is_refused_naming_the_field(
    form: Form, args: Any, field: str | None, says: str
) -> None:
    """By type and data, and by name where the name is registered: the same check, the same words."""
    form(int)
    with pytest.raises(InvalidPayload) as by_name:
        resolve_request("Odd", args, registry)
    with pytest.raises(InvalidPayload) as by_type:
        registry["Odd"].encode(args)
    for raised in (by_name, by_type):
        assert field is None or raised.value.field == field
        assert says in str(raised.value)
        assert "hunter2" not in str(raised.value)


@BOTH
def test_data_by_name_is_coerced_as_data_by_type_is(form: Form) -> None:
    """What is stored is what the handler will see."""
    form(int)
    assert resolve_request("Odd", {"odd": "5"}, registry).payload["odd"] == 5


# --- extra fields ---


def test_a_job_may_allow_extra_fields() -> None:
    """They are checked like the others."""

    class Odd(Job, extra="allow"):
        def handle(self) -> Any:
            return self.model_extra

    assert run(resolve_request(Odd, {"more": {"x": 1}}, registry)) == {"more": {"x": 1}}
    with pytest.raises(InvalidPayload, match=f"field 'more': {CHANGED}"):
        resolve_request(Odd, {"more": (1,)}, registry)
    with pytest.raises(InvalidPayload, match=f"field 'more': {CHANGED}"):
        resolve_request(Odd, {"more": math.nan}, registry)


def test_a_job_may_ignore_extra_fields() -> None:
    """Then they are dropped before they are stored."""

    class Odd(Job, extra="ignore"):
        def handle(self) -> None: ...

    assert resolve_request(Odd, {"more": 1}, registry).payload == {}


# --- custom payloads ---


class Row:
    """Something that is looked up in a database."""

    def __init__(self, key: int) -> None:
        self.key = key


def test_a_custom_payload_is_written_and_read_by_the_job() -> None:
    """For what pydantic cannot restore; reading happens on the runner alone."""
    read: list[Any] = []

    class Odd(Job):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        row: Row

        def to_payload(self) -> dict[str, Any]:
            return {"key": self.row.key}

        @classmethod
        def from_payload(cls, data: dict[str, Any]) -> "Odd":
            read.append(data)
            return cls(row=Row(data["key"]))

        def handle(self) -> int:
            return self.row.key

    made = resolve_request(Odd(row=Row(7)), None, registry)
    assert made.payload == {"key": 7}
    assert resolve_request("Odd", {"key": 7}, registry) == made
    assert resolve_request(Odd, {"key": 7}, registry) == made
    assert read == []
    assert run(made) == 7


@pytest.mark.parametrize("payload", [{"key": (1,)}, {"key": {1}}, {1: 2}, [1], "text", None], ids=repr)
def test_a_custom_payload_must_be_json(payload: Any) -> None:
    """It is stored as such."""

    class Odd(Job):
        def to_payload(self) -> Any:
            return payload

        @classmethod
        def from_payload(cls, data: Any) -> "Odd":
            return cls()

        def handle(self) -> None: ...

    with pytest.raises(InvalidPayload):
        resolve_request(Odd(), None, registry)


# --- the runner ---


class Closed(BaseModel):
    """Allows no field that it does not know."""

    model_config = ConfigDict(extra="forbid")
    n: int


class Other(BaseModel):
    """The same, of another shape."""

    model_config = ConfigDict(extra="forbid")
    m: int


class Cat(BaseModel):
    """A member of a union that is distinguished by its kind."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat"]


class Dog(BaseModel):
    """The other."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]


class Open(BaseModel):
    """Takes whatever comes."""

    model_config = ConfigDict(extra="allow")


@BOTH
@pytest.mark.parametrize(
    ("kind", "given", "understood", "ignored"),
    [
        (int, {"odd": 1}, 1, []),
        (int, {"odd": 1, "more": {"x": [1]}, "most": 2}, 1, ["more", "most"]),
        (Closed, {"odd": {"n": 1, "more": 2}}, Closed(n=1), ["odd.more"]),
        (list[Closed], {"odd": [{"n": 1}, {"n": 2, "more": 3}]}, [Closed(n=1), Closed(n=2)], ["odd.1.more"]),
        (dict[str, Closed], {"odd": {"x": {"n": 1, "y": 2}}, "z": 0}, {"x": Closed(n=1)}, ["odd.x.y", "z"]),
        (int | Closed, {"odd": {"n": 1, "more": 2}}, Closed(n=1), ["odd.more"]),
        (Other | Closed, {"odd": {"n": 1, "more": 2}}, Closed(n=1), ["odd.more"]),
        (Closed | None, {"odd": {"n": 1, "more": 2}}, Closed(n=1), ["odd.more"]),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            {"odd": {"kind": "dog", "more": 2}},
            Dog(kind="dog"),
            ["odd.more"],
        ),
        (Open, {"odd": {"mine": 1}, "more": 2}, Open(mine=1), ["more"]),
    ],
    ids=repr,
)
def test_the_runner_ignores_fields_it_does_not_know_and_names_them(
    form: Form, kind: Any, given: Any, understood: Any, ignored: list[str]
) -> None:
    """A caller that was deployed first is no error; but the log should say so."""
    form(kind)
    built, names = registry["Odd"].build(json.dumps(given))
    assert built.handle(lambda: CONTEXT) == understood
    assert sorted(names) == sorted(ignored)


@BOTH
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "field 'odd': it is missing"),
        ({"more": 1}, "it is missing"),
        ({"odd": "hunter2"}, "field 'odd': Input should be a valid integer"),
        ([], "Input should be"),
        ("hunter2", "Input should be"),
        (None, "Input should be"),
    ],
)
def test_the_runner_refuses_what_does_not_fit(form: Form, given: Any, says: str) -> None:
    """It is buried at once: another try would not fit better."""
    form(int)
    with pytest.raises(InvalidPayload) as raised:
        registry["Odd"].build(json.dumps(given))
    assert says in str(raised.value)
    assert "hunter2" not in str(raised.value)


@BOTH
@pytest.mark.parametrize("text", ["", "{", "hunter2", '{"odd": NaN}', "[" * 100_000])
def test_the_runner_refuses_what_is_no_json(form: Form, text: str) -> None:
    """The row was edited by hand."""
    form(int)
    with pytest.raises(InvalidPayload) as raised:
        registry["Odd"].build(text)
    assert "hunter2" not in str(raised.value)
