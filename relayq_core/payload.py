"""Payloads through pydantic: written as JSON, read back and compared, and told about without ever showing a value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from relayq_core.errors import InvalidPayload, did_you_mean
from relayq_core.text import complaint, place

T = TypeVar("T")
Path: TypeAlias = tuple[int | str, ...]


def dumped(name: str, fields: Iterable[str], dump: Callable[[set[str] | None], str]) -> str:
    """What `dump` writes, of all fields (None) or of some; where that fails, the field at fault is looked for."""
    try:
        return dump(None)
    except _UNWRITABLE as error:
        field, reason = next(filter(None, (_unwritable(dump, field) for field in fields)), (None, _reason(error)))
        raise InvalidPayload(
            name,
            f"it cannot be written as JSON ({reason}); use types that JSON can hold, or define to_payload",
            field=field,
        ) from None


_UNWRITABLE = (PydanticSerializationError, UnicodeEncodeError, ValueError, TypeError, RecursionError)


def _unwritable(dump: Callable[[set[str] | None], str], field: str) -> tuple[str, str] | None:
    try:
        dump({field})
    except _UNWRITABLE as error:
        return field, _reason(error)
    return None


def _reason(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, PydanticSerializationError) else type(error).__name__


def compare(name: str, given: Mapping[str, Any], back: Mapping[str, Any]) -> None:
    """Raises InvalidPayload for the first field that is not as it was."""
    for field, value in given.items():
        if field not in back or not _equal(value, back[field]):
            raise changed(name, field)


def _equal(given: Any, back: Any) -> bool:
    try:
        return bool(given == back)
    except Exception:  # an == that raises, or has no truth value, can't vouch for equality
        return False


def changed(name: str, field: str | None) -> InvalidPayload:
    """The error for a payload that JSON does not bring back as it was."""
    return InvalidPayload(
        name,
        "it does not come back from JSON as it was (a secret, a tuple or set typed Any, NaN, or a subclass whose "
        "own fields would be lost); give it a type that JSON can hold, or define to_payload and from_payload",
        field=field,
    )


def invalid(name: str, error: ValidationError) -> InvalidPayload:
    """The error for a payload that does not fit: one complaint, how many more there are, never the input.

    A field that the job does not have comes first: it is often the one that is missing, misspelt.
    """
    complaints = error.errors(include_input=False, include_url=False, include_context=False)
    told = next((found for found in complaints if found["type"] == "extra_forbidden"), complaints[0])
    field = _joined(told["loc"])
    problem = {
        "extra_forbidden": "the job has no such field",
        "missing": "it is missing",
    }.get(told["type"], complaint(told))
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    missing = [_joined(found["loc"]) or "" for found in complaints if found["type"] == "missing"]
    hint = did_you_mean(field or "", missing) if told["type"] == "extra_forbidden" else ""
    return InvalidPayload(name, f"{problem}{more}{'.' if hint else ''}{hint}", field=field)


def first_field(error: ValidationError) -> str | None:
    """Where the first complaint is: `items.0.name`, or None for the payload as a whole."""
    return _joined(error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"])


def _joined(location: Path) -> str | None:
    return place(location) or None


def lenient(name: str, payload_json: str, validate: Callable[[str], T]) -> tuple[T, list[str]]:
    """Validate, leaving out fields that the job does not know: a newer caller is no error."""
    ignored: list[str] = []
    text = payload_json
    for _ in range(3):  # what is left out may bring more to light, but not for ever
        try:
            return validate(text), ignored
        except ValidationError as error:
            extras = [e["loc"] for e in error.errors(include_input=False) if e["type"] == "extra_forbidden"]
            data = json.loads(text) if extras else None
            unknown = _unknown(extras, data)
            if not unknown:
                raise invalid(name, error) from None
            for *path, field in unknown:
                del _at(data, path)[field]
                ignored.append(place((*path, field)))
            text = json.dumps(data)
    raise InvalidPayload(name, "it holds fields the job does not know, and they cannot be left out")


def _unknown(extras: Iterable[Path], data: Any) -> list[Path]:
    """Where in the data the fields are that no reading of it knows.

    A union complains once for each of its members, with the member's tag in the location: what one of them knows
    is not unknown.
    """
    readings: dict[Path, dict[Path, set[Path]]] = {}
    for *tagged, field in extras:
        path = _path(data, tagged)
        if field in _at(data, path):
            readings.setdefault(path, {}).setdefault(tuple(tagged), set()).add((*path, field))
    return [path for reading in readings.values() for path in sorted(set.intersection(*reading.values()), key=str)]


def _path(data: Any, location: Iterable[int | str]) -> Path:
    """The location without the tags of unions, which are no part of the data."""
    path: list[int | str] = []
    for part in location:
        leads_on = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if leads_on:
            data = data[part]
            path.append(part)
    return tuple(path)


def _at(data: Any, path: Iterable[int | str]) -> Any:
    for part in path:
        data = data[part]
    return data
