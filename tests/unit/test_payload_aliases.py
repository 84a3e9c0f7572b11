"""Aliases of every kind: a payload arrives, whichever name pydantic reads and whichever it writes."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from relayq_core import Job, job
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request
from tests.support.forms import BOTH, Form, run

FIELDS: dict[str, Any] = {
    "alias": Field(alias="orderId"),
    "validation_alias": Field(validation_alias="orderId"),
    "validation_alias, with a default": Field(default=5, validation_alias="orderId"),
    "choices": Field(validation_alias=AliasChoices("orderId", "order")),
    "path": Field(validation_alias=AliasPath("orderId", 0)),
    "serialization_alias": Field(serialization_alias="orderId"),
    "both": Field(validation_alias="orderId", serialization_alias="id"),
    "alias and another to write": Field(alias="orderId", serialization_alias="id"),
}
CONFIGS: dict[str, ConfigDict] = {
    "plain": ConfigDict(),
    "populate_by_name": ConfigDict(populate_by_name=True),
    "by name": ConfigDict(validate_by_name=True),
    "by name only": ConfigDict(validate_by_name=True, validate_by_alias=False),
    "serialize_by_alias": ConfigDict(serialize_by_alias=True),
    "forbid": ConfigDict(extra="forbid"),
    "allow": ConfigDict(extra="allow"),
}
GENERATORS: dict[str, Any] = {
    "to_camel": to_camel,
    "validation only": AliasGenerator(validation_alias=to_camel),
    "serialization only": AliasGenerator(serialization_alias=to_camel),
}


def model(field: Any, config: ConfigDict) -> type[BaseModel]:
    """A model of one field."""
    body = {"__annotations__": {"order_id": int}, "order_id": field, "model_config": config, "__module__": __name__}
    return type("Order", (BaseModel,), body)


def job_class(field: Any, config: ConfigDict) -> Any:
    """A job of one field."""
    body = {
        "__annotations__": {"order_id": int},
        "order_id": field,
        "model_config": config,
        "__module__": __name__,
        "handle": lambda self: self.order_id,
    }
    return type("Ship", (Job,), body)


def made(cls: Any, value: int) -> Any:
    """An object of it, by whichever spelling it takes."""
    for args in ({"order_id": value}, {"orderId": value}, {"orderId": [value]}):
        try:
            found = cls(**args)
        except ValueError:
            continue
        if found.order_id == value:
            return found
    raise AssertionError("no spelling is taken")


def arrived_as(kind: Any, value: Any, form: Form) -> None:
    """The value arrives, and what is stored may be dispatched by name as it is."""
    request = form(kind)(value)
    assert run(request) == value
    again = resolve_request(request.name, request.payload, registry)
    assert run(again) == value
    assert registry[request.name].is_same(request.payload_json, again.payload_json)


@BOTH
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_nested_model_arrives_whatever_its_aliases(form: Form, field: str, config: str) -> None:
    """Alone, in containers, in a union."""
    order = model(FIELDS[field], CONFIGS[config])
    value = made(order, 7)
    arrived_as(order, value, form)
    arrived_as(list[order], [value, made(order, 8)], form)  # type: ignore[valid-type]
    arrived_as(dict[str, order | None], {"x": value, "y": None}, form)  # type: ignore[valid-type]


@BOTH
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_of_aliases_is_one_of_them(form: Form, generator: str, config: str) -> None:
    """camelCase models of an API, with and without populate_by_name."""
    order = model(Field(), CONFIGS[config] | {"alias_generator": GENERATORS[generator]})
    arrived_as(list[order], [made(order, 7)], form)  # type: ignore[valid-type]


@BOTH
def test_models_of_different_kinds_arrive_together(form: Form) -> None:
    """One is read by its aliases alone, the other by its names alone."""
    kinds = [model(field, CONFIGS[config]) for field in FIELDS.values() for config in CONFIGS]
    body = {"__annotations__": {f"f{n}": kind for n, kind in enumerate(kinds)}, "__module__": __name__}
    whole = type("Whole", (BaseModel,), body)
    arrived_as(whole, whole(**{f"f{n}": made(kind, n) for n, kind in enumerate(kinds)}), form)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_job_itself_may_have_any_alias(field: str, config: str) -> None:
    """Dispatched as an object, as type and data, and by name with what was stored."""
    ship = job_class(FIELDS[field], CONFIGS[config])
    instance = made(ship, 7)
    request = resolve_request(instance, None, registry)
    assert run(request) == 7
    assert run(resolve_request("Ship", request.payload, registry)) == 7
    assert run(resolve_request("Ship", {"order_id": 7}, registry)) == 7
    spelt = [args for args in ({"order_id": 7}, {"orderId": 7}, {"orderId": [7]}) if taken(ship, args)]
    assert {run(resolve_request(ship, args, registry)) for args in spelt} == {7}


def taken(cls: Any, args: dict[str, Any]) -> bool:
    """The class itself takes this spelling."""
    try:
        return bool(cls(**args).order_id == 7)
    except ValueError:
        return False


def test_what_is_written_by_alias_stays_so() -> None:
    """The API's own spelling is what operators see, where it can be read back."""
    ship = job_class(FIELDS["alias"], {})
    assert resolve_request(ship(orderId=7), None, registry).payload == {"orderId": 7}


def test_a_parameter_may_have_an_alias() -> None:
    """It is called by its name, and is given by either."""

    @job
    def ship(order_id: Annotated[int, Field(alias="orderId")], n: int = 1) -> tuple[int, int]:
        return order_id, n

    for request in (
        ship.job(7),
        ship.job(order_id=7),
        resolve_request(ship, {"orderId": 7}, registry),
        resolve_request("ship", {"order_id": 7}, registry),
        resolve_request("ship", {"orderId": 7}, registry),
    ):
        assert run(request) == (7, 1)


@pydantic_dataclass
class Data:
    """A dataclass with an alias."""

    order_id: int = Field(alias="orderId")


class Typed(TypedDict):
    """A TypedDict with one."""

    order_id: Annotated[int, Field(validation_alias="orderId")]


@BOTH
@pytest.mark.parametrize(("kind", "data"), [(Data, {"orderId": 7}), (Typed, {"orderId": 7})])
def test_dataclasses_and_typed_dicts_have_aliases_too(form: Form, kind: Any, data: Any) -> None:
    """Read by the one, written by the other."""
    arrived = run(form(kind)(data))
    assert (dataclasses.asdict(arrived) if kind is Data else arrived) == {"order_id": 7}


def test_names_that_are_each_others_aliases_are_not_confused() -> None:
    """An alias goes before a name."""

    class Swapped(Job):
        a: int = Field(alias="b")
        b: int = Field(alias="a")

        def handle(self) -> tuple[int, int]:
            return self.a, self.b

    request = resolve_request(Swapped(b=1, a=2), None, registry)
    assert json.loads(request.payload_json) == {"b": 1, "a": 2}
    assert run(request) == (1, 2)
