"""Payloads through pydantic: write them as JSON, read them back and compare, without ever showing a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from relayq_core.errors import InvalidPayload, suggest
from relayq_core.jobs.meaning import MISSING, Difference, Path, convert_offsets, find_difference, is_equal
from relayq_core.jobs.reasons import explain_change, explain_unreadable
from relayq_core.text import describe_complaint, format_location, read_class_name

T = TypeVar("T")


class Codec(NamedTuple):
    """How the payloads of one job type, job objects or mappings of arguments, become JSON and come back."""

    name: str
    #: returns the values of a payload's fields, by the fields' names
    values: Callable[[Any], Mapping[str, Any]]
    #: takes a payload, the fields to write (None: all), and whether to write their aliases; returns its JSON
    dump: Callable[[Any, set[str] | None, bool], str]
    #: returns the payload of a text of JSON; it reads a field by its name and by its alias
    read: Callable[[str], Any]


def encode_payload(codec: Codec, given: Any) -> str:
    """Return a payload as JSON. Raises InvalidPayload, with the reason, if it does not mean the same when read back.

    Fields are written by their aliases if they can be read back from them, else by their names.
    """
    problems = []
    for candidate, by_alias in _list_candidates(given):
        text, problem = _try_candidate(codec, given, candidate, by_alias=by_alias)
        if problem is None:
            return text
        problems.append(problem)
    differences = [problem for problem in problems if isinstance(problem, Difference)]
    raise _build_refusal(codec, given, differences[0] if differences else problems[0]) from None


def _list_candidates(given: Any) -> Iterator[tuple[Any, bool]]:
    """Yield what to try to write for a payload, and whether by aliases. Nearly always the first works."""
    yield given, True
    yield given, False
    try:
        shifted = convert_offsets(given)
    except Exception:  # an object that cannot be copied, or a moment at the end of the calendar
        return
    yield shifted, True
    yield shifted, False


def _try_candidate(
    codec: Codec, given: Any, candidate: Any, *, by_alias: bool
) -> tuple[str, Difference | Exception | None]:
    """Return a candidate as JSON, and how that differs from the payload, or None if it does not."""
    text = _dump_payload(codec, candidate, by_alias=by_alias)
    try:
        back = codec.read(text)
    except Exception as error:  # a validator's, or that of an __init__ of the user's own
        return text, error
    values, read = codec.values(given), codec.values(back)
    if is_equal(values, read):
        return text, None
    owner = None if isinstance(given, Mapping) else given
    differences = (
        find_difference(value, read.get(field, MISSING), (field,), owner, field) for field, value in values.items()
    )
    return text, next(filter(None, differences), None)


def _dump_payload(codec: Codec, given: Any, *, by_alias: bool) -> str:
    """Return a payload as JSON. Raises InvalidPayload, which names the field that cannot be written."""

    def dump(only: set[str] | None) -> str:
        text = codec.dump(given, only, by_alias)
        if "NaN" in text or "Infinity" in text:
            json.loads(text, parse_constant=_refuse_constant)
        return text

    try:
        return dump(None)
    except _UNWRITABLE as error:
        fields = codec.values(given)
        field, reason = next(
            filter(None, (_explain_unwritable(dump, field) for field in fields)), (None, _describe_reason(error))
        )
        raise InvalidPayload(
            codec.name,
            f"it cannot be written as JSON ({reason}); use types that JSON can hold, or define to_payload",
            field=field,
        ) from None


class _NotJson(ValueError):
    """What Python writes, and no other reader of JSON takes."""


def _refuse_constant(constant: str) -> None:
    raise _NotJson("NaN and infinity are no JSON; use None, or ser_json_inf_nan='strings'")


_UNWRITABLE = (PydanticSerializationError, UnicodeEncodeError, ValueError, TypeError, RecursionError)


def _explain_unwritable(dump: Callable[[set[str] | None], str], field: str) -> tuple[str, str] | None:
    try:
        dump({field})
    except _UNWRITABLE as error:
        return field, _describe_reason(error)
    return None


#: What holds a type or a name, and no value: what a serializer of the user's raised may show one.
_SHOWABLE = re.compile(r"Error calling function `\w+`: \w+|`\w+` not valid as object key|Unable to serialize unknown.*")


def _describe_reason(error: Exception) -> str:
    if type(error) is _NotJson:
        return str(error)
    if type(error) is not PydanticSerializationError:
        return read_class_name(error)
    text = str(error)
    showable = _SHOWABLE.search(text)
    return showable[0][:200] if showable else text.partition(":")[0]


def _build_refusal(codec: Codec, given: Any, problem: Difference | Exception) -> InvalidPayload:
    """The error for a payload that JSON does not bring back as it was."""
    if isinstance(problem, Difference):
        at: Path = problem.place
        reason = explain_change(problem)
    else:
        at, reason = explain_unreadable(problem, given)
    return InvalidPayload(
        codec.name,
        f"it does not come back from JSON as it was: {reason}; or define to_payload and from_payload",
        field=_join_location(at),
    )


def build_invalid_payload(name: str, error: ValidationError) -> InvalidPayload:
    """The error for a payload that does not fit: the first two complaints, how many more there are, never the input.

    A field that the job does not have comes first: it is often the one that is missing, misspelt.
    """
    complaints = error.errors(include_input=False, include_url=False, include_context=False)
    first = next((found for found in complaints if found["type"] == "extra_forbidden"), complaints[0])
    others = [found for found in complaints if found is not first]
    field = _join_location(first["loc"])
    missing = [_join_location(found["loc"]) or "" for found in complaints if found["type"] == "missing"]
    hint = suggest(field or "", missing) if first["type"] == "extra_forbidden" else ""
    return InvalidPayload(
        name, f"{_describe_problem(first)}{_describe_others(others)}{'.' if hint else ''}{hint}", field=field
    )


def _describe_problem(found: Mapping[str, Any]) -> str:
    known = {"extra_forbidden": "the job has no such field", "missing": "it is missing"}
    return known.get(found["type"]) or describe_complaint(found)


def _describe_others(others: list[Any]) -> str:
    """`(and field 'name' is missing, and 2 more)`, or nothing."""
    if not others:
        return ""
    second = next((found for found in others if found["type"] == "missing"), others[0])
    at = f"field {_join_location(second['loc'])!r}" if second["loc"] else "the payload"
    known = {"extra_forbidden": f"{at} is none of the job's", "missing": f"{at} is missing"}
    more = f", and {len(others) - 1} more" if len(others) > 1 else ""
    return f" (and {known.get(second['type']) or f'{at}: {describe_complaint(second)}'}{more})"


def _join_location(location: Path) -> str | None:
    return format_location(location) or None


def validate_leniently(name: str, payload_json: str, validate: Callable[[str], T]) -> tuple[T, list[str]]:
    """Validate a payload without the fields that the job does not know, which a newer caller may have written.

    Return the result, and the names of those fields. Raises InvalidPayload.
    """
    ignored: list[str] = []
    text = payload_json
    for _ in range(3):  # leaving fields out may reveal others, but not without end
        try:
            return validate(text), ignored
        except ValidationError as error:
            extras = [e["loc"] for e in error.errors(include_input=False) if e["type"] == "extra_forbidden"]
            data = json.loads(text) if extras else None
            unknown = _find_unknown(extras, data)
            if not unknown:
                raise build_invalid_payload(name, error) from None
            for *path, field in unknown:
                del _get_at(data, path)[field]
                ignored.append(format_location((*path, field)))
            text = json.dumps(data)
    raise InvalidPayload(name, "it holds fields the job does not know, and they cannot be left out")


def _find_unknown(extras: Iterable[Path], data: Any) -> list[Path]:
    """Return where in the data the fields are that are unknown, however it is read.

    A union complains once for each of its members, with the member's tag in the location: a field that one of them
    knows is not unknown.
    """
    readings: dict[Path, dict[Path, set[Path]]] = {}
    for *tagged, field in extras:
        path = _strip_tags(data, tagged)
        if field in _get_at(data, path):
            readings.setdefault(path, {}).setdefault(tuple(tagged), set()).add((*path, field))
    return [path for reading in readings.values() for path in sorted(set.intersection(*reading.values()), key=str)]


def _strip_tags(data: Any, location: Iterable[int | str]) -> Path:
    """Return a location without the tags of unions, which are not part of the data."""
    path: list[int | str] = []
    for part in location:
        leads_on = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if leads_on:
            data = data[part]
            path.append(part)
    return tuple(path)


def _get_at(data: Any, path: Iterable[int | str]) -> Any:
    for part in path:
        data = data[part]
    return data
