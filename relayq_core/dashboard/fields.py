"""A form for a job's payload: fields made of its JSON Schema, and a payload made of what was typed into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relayq_core.errors import InvalidOption

#: What a text field can hold as it stands; everything else is typed as JSON.
_PLAIN = {"string": "text", "integer": "number", "number": "number", "boolean": "choice"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form; `kind` is text, number, choice or json."""

    name: str
    kind: str
    needed: bool
    hint: str
    choices: tuple[str, ...] = ()
    value: str = ""


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """The fields that a payload of this schema has."""
    needed = schema.get("required", ())
    return [_field(name, found, name in needed, schema) for name, found in schema.get("properties", {}).items()]


def _field(name: str, found: Mapping[str, Any], needed: bool, schema: Mapping[str, Any]) -> Field:
    hint = str(found.get("description", ""))
    default = found.get("default")
    kind = _kind(found)
    if kind == "choice":
        choices = tuple(map(json.dumps, found.get("enum", (True, False))))
        return Field(name, kind, needed, hint, choices, "" if default is None else json.dumps(default))
    if kind in {"text", "number"}:
        return Field(name, kind, needed, hint, (), "" if default is None else str(default))
    return Field(name, "json", needed, hint or "JSON", (), "" if default is None else json.dumps(default))


def _kind(found: Mapping[str, Any]) -> str:
    if isinstance(found.get("enum"), list):
        return "choice"
    return _PLAIN.get(str(found.get("type")), "json")


def payload_of(fields: list[Field], typed: Mapping[str, str]) -> dict[str, Any]:
    """The payload that was typed; what was left empty is left out, unless it is a needed text. InvalidOption."""
    payload: dict[str, Any] = {}
    for field in fields:
        text = typed.get(field.name, "")
        if field.kind == "text":
            if text or field.needed:
                payload[field.name] = text
        elif text.strip():
            payload[field.name] = _json(text, field.name)
    return payload


def json_payload(text: str) -> dict[str, Any]:
    """A payload typed as one JSON object. Raises InvalidOption."""
    found = _json(text.strip() or "{}", "payload")
    if not isinstance(found, dict):
        raise InvalidOption("payload", 'expected a JSON object, such as {"to": "ada@example.com"}')
    return found


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidOption(name, "expected JSON: a text stands in double quotes") from None
