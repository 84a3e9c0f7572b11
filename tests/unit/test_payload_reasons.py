"""A payload that does not survive JSON is refused with the reason of its own case, the place, and what to do."""

import dataclasses
import datetime as dt
import enum
import math
import re
import threading
import uuid
from collections.abc import Collection, Generator, Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    Secret,
    SecretStr,
    field_serializer,
    field_validator,
    model_serializer,
)

from relayq_core import InvalidPayload
from tests.support.forms import BOTH, Form, run


class Tagged(BaseModel):
    """Each object makes its own private values."""

    n: int = 1
    _id: uuid.UUID = PrivateAttr(default_factory=uuid.uuid4)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Noted(BaseModel):
    """Has a private value that a caller may have set."""

    n: int = 1
    _note: str = ""


def noted() -> Noted:
    """Return one whose private value is set."""
    made = Noted()
    made._note = "hunter2"
    return made


class Hashed(BaseModel):
    """Changes what it is given."""

    word: str

    @field_validator("word")
    @classmethod
    def longer(cls, value: str) -> str:
        return value + "!"


class Written(BaseModel):
    """Is written as something else."""

    n: int

    @model_serializer
    def write(self) -> dict[str, int]:
        return {"m": self.n}


class HalfWritten(BaseModel):
    """One field is."""

    n: int

    @field_serializer("n")
    def write(self, n: int) -> int:
        return n + 1


class Excluded(BaseModel):
    """One field is not written."""

    n: int = Field(default=0, exclude=True)


@dataclasses.dataclass
class Initialised:
    """Is made of more than it keeps."""

    n: int
    factor: dataclasses.InitVar[int]

    def __post_init__(self, factor: int) -> None:
        self.product = self.n * factor


@dataclasses.dataclass(eq=False)
class Plain:
    """Has no == of its own."""

    n: int


class Base(BaseModel):
    """A base."""

    n: int = 1


class Derived(Base):
    """Has more."""

    m: int = 2


class Made(BaseModel):
    """Is made in another way than of its fields."""

    n: int

    def __init__(self, user: Any) -> None:
        super().__init__(n=user["id"])


class Colour(enum.Enum):
    """A common one."""

    RED = "red"


class Corner(enum.Enum):
    """One of pairs."""

    LEFT = (0, 0)


class Constant(BaseModel):
    """Writes what is no JSON."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
    x: float


class Spelt(BaseModel):
    """Writes NaN as text."""

    model_config = ConfigDict(ser_json_inf_nan="strings")
    x: float


class Encoded(BaseModel):
    """Writes base64, and reads it as text."""

    model_config = ConfigDict(ser_json_bytes="base64")
    x: bytes


class Unequal(BaseModel):
    """Equals nothing."""

    n: int

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class Leaky(BaseModel):
    """Its serializer raises, and shows what it was given."""

    word: str

    @field_serializer("word")
    def write(self, word: str) -> str:
        raise ValueError(word)


NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)

REFUSED: dict[str, tuple[Any, Any, str, str]] = {
    "private": (Noted, noted(), "odd._note", "the private attribute '_note' of Noted is not part of JSON"),
    "private, deep": (list[Noted], [Noted(), noted()], "odd.1._note", "the private attribute '_note'"),
    "validator": (Hashed, Hashed(word="hunter2"), "odd.word", "a validator changes its own answer"),
    "annotated validator": (
        Annotated[str, AfterValidator(lambda text: text + "!")],
        "hunter2",
        "odd",
        "a validator changes its own answer",
    ),
    "model_serializer": (Written, Written(n=1), "odd.n", "what the serializer of Written writes is not read"),
    "field_serializer": (
        dict[str, HalfWritten],
        {"x": HalfWritten(n=1)},
        "odd.x.n",
        "what the serializer of the field",
    ),
    "exclude": (list[Excluded], [Excluded(n=1)], "odd.0.n", "the field 'n' says exclude"),
    "InitVar": (Initialised, Initialised(1, 2), "odd.factor", "the InitVar 'factor' of Initialised is not kept"),
    "pattern": (re.Pattern, re.compile("a", re.IGNORECASE), "odd", "the flags of a pattern are lost"),
    "pattern, untyped": (Any, re.compile("a"), "odd", "a Pattern comes back as text"),
    "iterable": (Iterable[int], [1, 2], "odd", "an iterator or generator is used up"),
    "generator": (Generator[int, None, None], (n for n in (1, 2)), "odd", "an iterator or generator is used up"),
    "sequence": (Sequence[int], (1, 2), "odd", "a tuple comes back as a list"),
    "collection": (Collection[int], (1, 2), "odd", "what is written cannot be read"),
    "tuple": (Any, {"x": [(1,)]}, "odd.x.0", "a tuple comes back as a list"),
    "set": (object, {1}, "odd", "a set comes back as a list"),
    "union with str": (
        str | dt.datetime,
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "odd",
        "a datetime comes back as text",
    ),
    "union with str, deep": (list[Colour | str], ["x", Colour.RED], "odd.1", "a Colour comes back as text"),
    "literal keys": (dict[Literal[1, 2], str], {1: "x"}, "odd", "the keys of a mapping are text in JSON"),
    "tuple keys": (dict[tuple[int, int], str], {(1, 2): "x"}, "odd", "the keys of a mapping are text in JSON"),
    "keys that cannot be written": (
        dict[frozenset[int], int],
        {frozenset({1}): 1},
        "odd",
        "(`frozenset` not valid as object key)",
    ),
    "untyped keys": (Any, {1: "x"}, "odd", "the keys of a mapping are text in JSON"),
    "enum of pairs": (list[Corner], [Corner.LEFT], "odd.0", "the value of an enum's member is a tuple"),
    "__init__": (Made, Made({"id": 1}), "", "Made.__init__() got an unexpected keyword argument 'n'"),
    "secret": (list[SecretStr], [SecretStr("hunter2")], "odd.0", "a secret is written as stars"),
    "secret of another type": (Secret[int], Secret(5), "odd", "a secret is written as stars"),
    "nan": (list[float], [1.0, math.nan], "odd.1", "NaN and infinity are no JSON"),
    "constant": (Constant, Constant(x=math.inf), "odd", "NaN and infinity are no JSON"),
    "subclass": (list[Base], [Base(), Derived()], "odd.1", "a Derived comes back as a Base: the subclass is lost"),
    "untyped model": (Any, Base(), "odd", "a Base comes back as a dict"),
    "untyped bytes": (Any, b"x", "odd", "a bytes comes back as text"),
    "untyped decimal": (dict[str, Any], {"x": Decimal(1)}, "odd.x", "a Decimal comes back as text"),
    "bytes": (Encoded, Encoded(x=b"hunter2"), "odd.x", "a bytes is not read as it is written"),
    "own ==": (Unequal, Unequal(n=1), "odd", "the == of Unequal says that it is another"),
    "serializer that raises": (Leaky, Leaky(word="hunter2"), "odd", "Error calling function `write`: ValueError)"),
    "serializer in an annotation": (
        Annotated[dt.date, PlainSerializer(lambda day: "hunter2")],
        dt.date(2026, 1, 1),
        "odd",
        "",
    ),
}


@BOTH
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_is_the_matter_and_where(form: Form, case: str) -> None:
    """In one sentence that holds a way out, and never the value."""
    kind, value, field, says = REFUSED[case]
    with pytest.raises(InvalidPayload) as raised:
        form(kind)((n for n in (1, 2)) if case == "generator" else value)
    assert (raised.value.field or "") == field
    assert says in str(raised.value)
    assert "to_payload" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


@BOTH
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Tagged, Tagged()),
        (list[Tagged], [Tagged(n=1), Tagged(n=2)]),
        (Noted, Noted()),
        (Plain, Plain(1)),
        (Spelt, Spelt(x=math.nan)),
        (Spelt, Spelt(x=math.inf)),
        (re.Pattern, re.compile("(?i)a")),
        (Sequence[int], [1, 2]),
        (list[int], (1, 2)),
        (dict[Colour, int], {Colour.RED: 1}),
    ],
    ids=repr,
)
def test_what_means_the_same_is_accepted(form: Form, kind: Any, value: Any) -> None:
    """Python's == may say otherwise: of a private lock each object has its own."""
    arrived = run(form(kind)(value))
    assert type(arrived) is (list if isinstance(value, tuple) else type(value))


@BOTH
def test_the_key_of_a_mapping_is_not_shown(form: Form) -> None:
    """It may be a person's address."""
    with pytest.raises(InvalidPayload) as raised:
        form(dict[str, Any])({"hunter2@example.com": (1,)})
    assert raised.value.field == "odd.…"
    assert "hunter2" not in str(raised.value)
