"""Types that Hypothesis builds, and values of them: what was dispatched arrives, or is refused with a known reason."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import json
import os
import random
import re
import typing
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from relayq_core import InvalidPayload, JobRequest
from relayq_core.jobs.meaning import is_same
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request
from relayq_core.testing import isolated_registry
from tests.support.figures import tell
from tests.support.forms import Form, class_job, function_job, run

_IN_CI = 500
#: How many types are tried: the same each time, or as many others as the environment asks for.
EXAMPLES = int(os.environ.get("RELAYQ_PROVE_TYPES", _IN_CI))

#: All that a type of these may be refused for: types that are alike in JSON, and what pydantic cannot write.
KNOWN = re.compile(
    r"comes back as (text|a \w+)|what is written cannot be read|the keys of a mapping are text"
    r"|Unable to serialize unknown|not valid as object key"
)


class Kind(NamedTuple):
    """A type, the values it has, and what it is made of."""

    type: Any
    values: st.SearchStrategy[Any]
    parts: frozenset[str]
    hashable: bool = False


class Colour(enum.Enum):
    """Text values."""

    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    """Numbers."""

    SMALL = 1
    LARGE = 2


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
moments = st.datetimes(timezones=st.timezones(), allow_imaginary=True)
LEAVES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, st.integers()),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (bool, st.booleans()),
    "str": (str, texts),
    "None": (None, st.none()),
    "Decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "UUID": (UUID, st.uuids()),
    "bytes": (bytes, texts.map(str.encode)),
    "date": (dt.date, st.dates()),
    "datetime": (dt.datetime, st.datetimes()),
    "datetime with a zone": (dt.datetime, moments),
    "time": (dt.time, st.times()),
    "timedelta": (
        dt.timedelta,
        st.timedeltas(min_value=dt.timedelta(days=-9999), max_value=dt.timedelta(days=9999)),
    ),
    "Enum": (Colour, st.sampled_from(Colour)),
    "IntEnum": (Size, st.sampled_from(Size)),
    "Literal": (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    "Annotated": (Annotated[int, Field(ge=0)], st.integers(min_value=0)),
}
leaves = st.sampled_from(sorted(LEAVES)).map(lambda name: Kind(*LEAVES[name], frozenset({name}), True))
_numbers = itertools.count()


#: A type and its values, made of those of what is inside.
Builder: TypeAlias = Callable[[Any, st.SearchStrategy[Any]], tuple[Any, st.SearchStrategy[Any]]]


def _of(kind: Any, *parameters: Any) -> Any:
    return kind[parameters if len(parameters) > 1 else parameters[0]]


CONTAINERS: dict[str, Builder] = {
    "list": lambda of, values: (_of(list, of), st.lists(values, max_size=3)),
    "deque": lambda of, values: (_of(deque, of), st.lists(values, max_size=3).map(deque)),
    "dict": lambda of, values: (_of(dict, str, of), st.dictionaries(texts, values, max_size=3)),
    "dict of int": lambda of, values: (_of(dict, int, of), st.dictionaries(st.integers(), values, max_size=3)),
    "tuple": lambda of, values: (_of(tuple, of, ...), st.lists(values, max_size=3).map(tuple)),
    "pair": lambda of, values: (_of(tuple, int, of), st.tuples(st.integers(), values)),
    "optional": lambda of, values: (typing.Optional[of], st.none() | values),  # noqa: UP045
    "union": lambda of, values: (typing.Union[int, of], st.integers() | values),  # noqa: UP007
}
#: What is in these can be hashed.
HASHED: dict[str, Builder] = {
    "set": lambda of, values: (_of(set, of), st.sets(values, max_size=3)),
    "frozenset": lambda of, values: (_of(frozenset, of), st.frozensets(values, max_size=3)),
    "keys": lambda of, values: (_of(dict, of, int), st.dictionaries(values, st.integers(), max_size=3)),
}
_STAY_HASHABLE = frozenset({"tuple", "pair", "optional", "union", "frozenset", "dataclass", "NamedTuple"})


def _dataclass(of: Any, values: st.SearchStrategy[Any]) -> tuple[Any, st.SearchStrategy[Any]]:
    made = dataclasses.make_dataclass(f"Made{next(_numbers)}", [("x", of), ("n", int, 1)], frozen=True)
    return made, st.builds(made, values, st.integers())


def _checked_dataclass(of: Any, values: st.SearchStrategy[Any]) -> tuple[Any, st.SearchStrategy[Any]]:
    made: Any = pydantic_dataclass(type(f"Made{next(_numbers)}", (), {"__annotations__": {"x": of}}))
    return made, st.builds(lambda x: made(x=x), values)


def _typed_dict(of: Any, values: st.SearchStrategy[Any]) -> tuple[Any, st.SearchStrategy[Any]]:
    made: Any = TypedDict(f"Made{next(_numbers)}", {"x": of, "n": int})  # type: ignore[misc]
    return made, st.fixed_dictionaries({"x": values, "n": st.integers()})


def _named_tuple(of: Any, values: st.SearchStrategy[Any]) -> tuple[Any, st.SearchStrategy[Any]]:
    made: Any = NamedTuple(f"Made{next(_numbers)}", [("x", of), ("n", int)])  # type: ignore[misc]
    return made, st.builds(made, values, st.integers())


def _generic(of: Any, values: st.SearchStrategy[Any]) -> tuple[Any, st.SearchStrategy[Any]]:
    made: Any = Box[of]
    return made, st.builds(lambda x: made(box=x), values)


STRUCTURES: dict[str, Builder] = {
    "dataclass": _dataclass,
    "pydantic dataclass": _checked_dataclass,
    "TypedDict": _typed_dict,
    "NamedTuple": _named_tuple,
    "generic model": _generic,
}


def _built(inside: Kind) -> st.SearchStrategy[Kind]:
    builders = {**CONTAINERS, **STRUCTURES, **(HASHED if inside.hashable else {})}

    def build(name: str) -> Kind:
        made, values = builders[name](inside.type, inside.values)
        return Kind(made, values, inside.parts | {name}, inside.hashable and name in _STAY_HASHABLE)

    return st.sampled_from(sorted(builders)).map(build)


ALIASES: dict[str, Callable[[], Any]] = {
    "no alias": Field,
    "alias": lambda: Field(alias="theField"),
    "validation_alias": lambda: Field(validation_alias="theField"),
    "AliasChoices": lambda: Field(validation_alias=AliasChoices("theField", "x")),
    "serialization_alias": lambda: Field(serialization_alias="theField"),
}
CONFIGS: dict[str, ConfigDict] = {
    "plain": ConfigDict(),
    "populate_by_name": ConfigDict(populate_by_name=True),
    "by name only": ConfigDict(validate_by_name=True, validate_by_alias=False),
    "to_camel": ConfigDict(alias_generator=to_camel),
    "forbid": ConfigDict(extra="forbid"),
    "frozen": ConfigDict(frozen=True),
}


def _model(inside: Kind, alias: str, config: str) -> Kind:
    made: Any = create_model(
        f"Model{next(_numbers)}",
        __config__=CONFIGS[config],
        the_field=(inside.type, ALIASES[alias]()),
        a_default=(int, 5),
    )
    build = st.builds(lambda value, n: made.model_construct(the_field=value, a_default=n), inside.values, st.integers())
    hashable = config == "frozen" and inside.hashable
    return Kind(made, build, frozenset({"model", f"model: {alias}", f"model: {config}"}) | inside.parts, hashable)


T = typing.TypeVar("T")


class Box(BaseModel, typing.Generic[T]):
    """A generic model."""

    box: T


def _around(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    aliases, configs = st.sampled_from(sorted(ALIASES)), st.sampled_from(sorted(CONFIGS))
    return inner.flatmap(_built) | st.builds(_model, inner, aliases, configs)


kinds = st.recursive(leaves, _around, max_leaves=4)

#: What the types that were tried were made of.
_seen: set[str] = set()


def asked(ask: Callable[[Any], JobRequest], value: Any) -> JobRequest | None:
    """The request; None where it is refused for a reason that is known."""
    try:
        return ask(value)
    except InvalidPayload as error:
        refusal = error
    assert KNOWN.search(str(refusal)), refusal
    return None


def shuffled(value: Any, by: random.Random) -> Any:
    """JSON with the keys of each object in another order, and whole numbers spelt as such of either kind."""
    if isinstance(value, dict):
        keys = list(value)
        by.shuffle(keys)
        return {key: shuffled(value[key], by) for key in keys}
    if isinstance(value, list):
        return [shuffled(item, by) for item in value]
    return float(value) if type(value) is int and abs(value) < 2**53 else value


@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == _IN_CI,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(st.data(), kinds, st.randoms(use_true_random=False))
def _arrives_or_is_refused(data: Any, kind: Kind, by: random.Random) -> None:
    _seen.update(kind.parts)
    value, other = data.draw(kind.values), data.draw(kind.values)
    with isolated_registry():
        as_class, as_function = (_outcome(form, kind, value, other, by) for form in (class_job, function_job))
        assert as_class == as_function


def _outcome(form: Form, kind: Kind, value: Any, other: Any, by: random.Random) -> str | None:
    """The payload as JSON, with all laws held; None where it is refused."""
    made = asked(form(kind.type), value)
    if made is None:
        return None
    arrived = run(made)
    assert is_same(value, arrived)
    job_type = registry[made.name]
    # by name with what was stored; and in another order
    assert job_type.is_same(resolve_request(made.name, made.payload, registry).payload_json, made.payload_json)
    assert job_type.is_same(made.payload_json, json.dumps(shuffled(made.payload, by)))
    second = asked(form(kind.type), other)
    if second is not None:
        assert job_type.is_same(made.payload_json, second.payload_json) == is_same(arrived, run(second))
    return made.payload_json


def test_a_payload_of_any_type_arrives_or_is_refused_with_its_reason() -> None:
    """As a class and as a function alike; dispatched again it is the same dispatch, and another value is another."""
    _arrives_or_is_refused()
    of_models = {"model", *(f"model: {name}" for name in (*ALIASES, *CONFIGS))}
    never_tried = {*LEAVES, *CONTAINERS, *HASHED, *STRUCTURES, *of_models} - _seen
    assert never_tried == set()
    tell(f"payloads: {EXAMPLES} types were built of {len(_seen)} kinds, each for a class job and for a function job")
