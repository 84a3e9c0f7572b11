"""A form for a job's payload: fields from its JSON Schema, and a payload from the text typed into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relayq_core.errors import InvalidOption

#: Types that a text field can hold as typed; every other type is typed as JSON.
_PLAIN = {"string": "text", "integer": "number", "number": "number", "boolean": "choice"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form; `kind` is text, number, choice or json."""

    name: str
    kind: str
    required: bool
    hint: str
    choices: tuple[str, ...] = ()
    value: str = ""


def list_fields(schema: Mapping[str, Any]) -> list[Field]:
    """Return a field for each property of a payload's JSON Schema."""
    required = schema.get("required", ())
    return [_build_field(name, one, required=name in required) for name, one in schema.get("properties", {}).items()]


def _build_field(name: str, schema: Mapping[str, Any], *, required: bool) -> Field:
    hint = str(schema.get("description", ""))
    default = schema.get("default")
    kind = _choose_kind(schema)
    if kind == "choice":
        choices = tuple(map(json.dumps, schema.get("enum", (True, False))))
        return Field(name, kind, required, hint, choices, "" if default is None else json.dumps(default))
    if kind in {"text", "number"}:
        return Field(name, kind, required, hint, (), "" if default is None else str(default))
    return Field(name, "json", required, hint or "JSON", (), "" if default is None else json.dumps(default))


def _choose_kind(schema: Mapping[str, Any]) -> str:
    if isinstance(schema.get("enum"), list):
        return "choice"
    return _PLAIN.get(str(schema.get("type")), "json")


def parse_fields(fields: list[Field], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the payload for these texts. An empty text is left out, unless a required text field. InvalidOption."""
    payload: dict[str, Any] = {}
    for field in fields:
        text = texts.get(field.name, "")
        if field.kind == "text":
            if text or field.required:
                payload[field.name] = text
        elif text.strip():
            payload[field.name] = _parse_json(text, field.name)
    return payload


def parse_json_payload(text: str) -> dict[str, Any]:
    """Return the payload typed as one JSON object; no text is an empty one. Raises InvalidOption."""
    payload = _parse_json(text.strip() or "{}", "payload")
    if not isinstance(payload, dict):
        raise InvalidOption("payload", 'expected a JSON object, such as {"to": "ada@example.com"}')
    return payload


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidOption(name, "expected JSON; put text in double quotes") from None
