"""Why a value does not come back from JSON as it was, and what to do: one sentence for each cause."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import datetime, time, timedelta
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from relayq_core.jobs.meaning import MISSING, Difference, Path
from relayq_core.text import cut, describe_complaint, read_class_name

_VALIDATORS = frozenset({"BeforeValidator", "AfterValidator", "WrapValidator", "PlainValidator"})
_SERIALIZERS = frozenset({"PlainSerializer", "WrapSerializer"})


def explain_change(difference: Difference) -> str:
    """Return why two values differ and what to do, without showing them: the first cause that applies."""
    return next(filter(None, (cause(difference) for cause in _CAUSES)), _explain_loss(difference))


def explain_unreadable(error: Exception, given: Any) -> tuple[Path, str]:
    """Return where the JSON of a payload cannot be read again, and why, without showing a value."""
    if type(error) is not ValidationError:
        return (), f"reading it raises {_explain_raised(error)}"
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    location: Path = first["loc"]
    owner, field, value = _find_given(given, location)
    difference = Difference(location, value, MISSING, owner, field)
    if location[-1:] == ("[key]",):
        return location[:-2], _KEYS
    reason = next(filter(None, (cause(difference) for cause in _CAUSES_WHEN_UNREADABLE)), None)
    return (
        location,
        reason or f"what is written cannot be read ({describe_complaint(first)}); give it a type that JSON can hold",
    )


_MESSAGE_BYTES = 500
#: Python's messages for a call that does not fit a signature: they hold names, and no values.
_DOES_NOT_FIT = re.compile(r"[\w.<>]+\(\) (got an unexpected keyword argument '\w+'|missing \d+ required [\w' ,-]+)")


def _explain_raised(error: Exception) -> str:
    message = cut(error, _MESSAGE_BYTES) if type(error) is TypeError else ""
    if _DOES_NOT_FIT.fullmatch(message):
        return f"TypeError: {message}; let __init__ take the fields by their names"
    return f"{read_class_name(error)}; a validator or an __init__ does not take what was written"


# --- the place ------------------------------------------------------------------------------------------------------


def _find_given(given: Any, location: Path) -> tuple[Any, str, Any]:
    """Return the object that has the field at a location, the field's name, and the value there, as far as it leads.

    A location names fields by their aliases, and holds the tags of unions, which lead nowhere.
    """
    owner, field, value = None, "", given
    for part in location:
        if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
            name = _find_field(type(value), part)
            if name is not None:
                owner, field, value = value, name, getattr(value, name, MISSING)
        elif isinstance(value, Mapping):
            value = next((item for key, item in value.items() if key == part or str(key) == part), value)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
    return owner, field, value


def _find_field(cls: type, part: int | str) -> str | None:
    infos = _get_infos(cls)
    declared: dict[str, Any] = getattr(cls, "__dataclass_fields__", {})
    for name in (*infos, *(name for name in declared if name not in infos)):
        info = infos.get(name)
        if part == name or (info is not None and part in (info.alias, info.validation_alias, info.serialization_alias)):
            return name
    return None


def _get_infos(cls: Any) -> dict[str, FieldInfo]:
    infos: dict[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})
    return infos


def _get_info(difference: Difference) -> FieldInfo | None:
    owner: Any = difference.owner
    return None if owner is None else _get_infos(type(owner)).get(difference.field)


# --- the causes -----------------------------------------------------------------------------------------------------

_KEYS = "the keys of a mapping are text in JSON, and its key type does not read them as what they were; use text keys"


def _explain_excluded(difference: Difference) -> str | None:
    info = _get_info(difference)
    if info is None or not (info.exclude or getattr(info, "exclude_if", False)):
        return None
    return f"the field {difference.field!r} says exclude, so that it is left out of JSON; do not exclude it"


def _explain_secret(difference: Difference) -> str | None:
    if not isinstance(difference.given, SecretStr | SecretBytes | Secret):
        return None
    return "a secret is written as stars; dispatch the name under which the handler finds the secret"


def _explain_iterator(difference: Difference) -> str | None:
    if not isinstance(difference.given, Iterator):
        return None
    return "an iterator or generator is used up when it is written; annotate it list[...]"


def _explain_not_a_number(difference: Difference) -> str | None:
    if not isinstance(difference.given, float) or math.isfinite(difference.given):
        return None
    return "NaN and infinity are no JSON; use None, or ser_json_inf_nan='strings' in its model_config"


def _explain_serializer(difference: Difference) -> str | None:
    of_class, of_field = (
        _has_decorator(difference, "model_serializers"),
        _has_decorator(difference, "field_serializers"),
    )
    if of_class or of_field or _has_mark(difference, _SERIALIZERS):
        whose = f"the field {difference.field!r}" if of_field or not of_class else type(difference.owner).__name__
        return f"what the serializer of {whose} writes is not read as what it was; let its validation read it"
    return None


def _explain_private(difference: Difference) -> str | None:
    if (
        not isinstance(difference.owner, BaseModel)
        or difference.field not in type(difference.owner).__private_attributes__
    ):
        return None
    return (
        f"the private attribute {difference.field!r} of {type(difference.owner).__name__} is not part of "
        "JSON; make it a field, or give it a default_factory if each object may have its own"
    )


def _explain_init_var(difference: Difference) -> str | None:
    declared = getattr(type(difference.owner), "__dataclass_fields__", {}).get(difference.field)
    if declared is None or "INITVAR" not in str(getattr(declared, "_field_type", "")):
        return None
    return f"the InitVar {difference.field!r} of {type(difference.owner).__name__} is not kept; make it a field"


def _explain_validator(difference: Difference) -> str | None:
    plain = type(difference.given) is type(difference.back) and isinstance(difference.given, str | int | float)
    changes = _has_decorator(difference, "field_validators") or _has_decorator(difference, "model_validators")
    if not plain and not (changes or _has_mark(difference, _VALIDATORS)):
        return None
    return "a validator changes its own answer when it runs again, on the runner; let it leave that as it is"


def _explain_sequence(difference: Difference) -> str | None:
    if isinstance(difference.given, list | str | bytes | Mapping) or not isinstance(difference.given, Iterable):
        return None
    if not isinstance(difference.back, list):
        return None
    kind = type(difference.given).__name__
    return (
        f"a {kind} comes back as a list; annotate it {kind}[...] instead of a type that takes lists too, or give a list"
    )


def _explain_text(difference: Difference) -> str | None:
    if not isinstance(difference.back, str) or isinstance(difference.given, str):
        return None
    kind = _name_kind(difference.given)
    return (
        f"a {kind} comes back as text, for its type takes text too (Any, or a union with str); annotate it {kind} alone"
    )


def _explain_keys(difference: Difference) -> str | None:
    if not isinstance(difference.given, Mapping) or not isinstance(difference.back, Mapping):
        return None
    if all(isinstance(key, str) for key in difference.given):
        return None
    return _KEYS


def _explain_plain_mapping(difference: Difference) -> str | None:
    if not isinstance(difference.back, dict) or isinstance(difference.given, Mapping):
        return None
    kind = _name_kind(difference.given)
    return f"a {kind} comes back as a dict, for its type does not say what it is; annotate it {kind}"


def _explain_subclass(difference: Difference) -> str | None:
    if (
        difference.back is MISSING
        or type(difference.given) is type(difference.back)
        or type(difference.back) not in type(difference.given).__mro__
    ):
        return None
    derived, base = _name_kind(difference.given), _name_kind(difference.back)
    return f"a {derived} comes back as a {base}: the subclass is lost; annotate it {derived}, or a union"


def _explain_other_member(difference: Difference) -> str | None:
    kinds = type(difference.given), type(difference.back)
    if difference.back is MISSING or kinds[0] is kinds[1]:
        return None
    return f"a {_name_kind(difference.given)} comes back as a {_name_kind(difference.back)}; annotate it as what it is"


def _explain_pattern(difference: Difference) -> str | None:
    if not isinstance(difference.given, re.Pattern):
        return None
    return "the flags of a pattern are lost; write them into it, such as (?i)"


def _explain_offset(difference: Difference) -> str | None:
    if not isinstance(difference.given, time | datetime):
        return None
    offset = difference.given.utcoffset()
    if offset is None or not offset % timedelta(minutes=1):
        return None
    return "its offset from UTC has seconds, which JSON does not keep; give it in UTC"


def _explain_enum_value(difference: Difference) -> str | None:
    if not isinstance(difference.given, enum.Enum):
        return None
    kind = type(difference.given.value).__name__
    return (
        f"the value of an enum's member is a {kind}, which JSON does not bring back; give the members text or numbers"
    )


def _explain_no_equality(difference: Difference) -> str | None:
    own: Any = type(difference.given).__eq__
    if difference.back is MISSING or own is not object.__eq__:
        return None
    return f"a {_name_kind(difference.given)} has no == that can say that it is what it was; define __eq__"


def _explain_own_equality(difference: Difference) -> str | None:
    given, back = difference.given, difference.back
    if not (isinstance(given, BaseModel) or is_dataclass(given)) or type(given) is not type(back):
        return None
    return f"the == of {_name_kind(given)} says that it is another; let it compare what is in its fields"


def _explain_loss(difference: Difference) -> str:
    return (
        f"a {_name_kind(difference.given)} is not read as it is written, and loses something; write and read it alike "
        "(ser_json_... and val_json_... of model_config), or give it a type that JSON can hold"
    )


def _name_kind(value: Any) -> str:
    return type(value).__name__


_CAUSES: tuple[Callable[[Difference], str | None], ...] = (
    _explain_excluded,
    _explain_secret,
    _explain_iterator,
    _explain_not_a_number,
    _explain_serializer,
    _explain_private,
    _explain_sequence,
    _explain_text,
    _explain_offset,
    _explain_pattern,
    _explain_keys,
    _explain_subclass,
    _explain_plain_mapping,
    _explain_validator,
    _explain_other_member,
    _explain_own_equality,
    _explain_no_equality,
)
_CAUSES_WHEN_UNREADABLE: tuple[Callable[[Difference], str | None], ...] = (
    _explain_excluded,
    _explain_init_var,
    _explain_secret,
    _explain_serializer,
    _explain_enum_value,
    _explain_not_a_number,
)


def _has_decorator(difference: Difference, kind: str) -> bool:
    """Return whether the class that has the field has a decorator of this kind for it."""
    decorators = getattr(type(difference.owner), "__pydantic_decorators__", None)
    for decorator in getattr(decorators, kind, {}).values():
        names = getattr(decorator.info, "fields", None)
        if names is None or difference.field in names or "*" in names:
            return True
    return False


def _has_mark(difference: Difference, kinds: frozenset[str]) -> bool:
    """Return whether the field's annotation has such a mark: Annotated[..., AfterValidator(...)]."""
    info = _get_info(difference)
    return info is not None and any(type(mark).__name__ in kinds for mark in info.metadata)
