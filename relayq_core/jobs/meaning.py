"""Compare what two values mean, where `==` cannot: moments, private attributes, fields without `==`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from pydantic import BaseModel

Path: TypeAlias = tuple[int | str, ...]

#: Stands for a value that is missing.
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two values differ. `owner` is the object that has the field, if any."""

    place: Path
    given: Any
    back: Any
    owner: Any = None
    field: str = ""


def is_same(given: Any, back: Any) -> bool:
    """Return whether two values mean the same. True is not 1, at any depth."""
    return find_difference(given, back) is None and _is_same_truth(given, back)


def _is_same_truth(given: Any, back: Any) -> bool:
    parts = _list_parts(given, back)
    if parts is None:
        return isinstance(given, bool) == isinstance(back, bool)
    return all(_is_same_truth(mine, other) for _, mine, other in parts)


def find_difference(given: Any, back: Any, place: Path = (), owner: Any = None, field: str = "") -> Difference | None:
    """Return the first place where two values do not mean the same, or None."""
    try:
        return _find_difference(given, back, place, owner, field)
    except Exception:  # an == or an attribute that raises, or too deep to follow
        return Difference(place, given, back, owner, field)


def _find_difference(given: Any, back: Any, place: Path, owner: Any, field: str) -> Difference | None:
    if is_equal(given, back) or _is_equal_by_meaning(given, back):
        return None
    here = Difference(place, given, back, owner, field)
    parts = _list_parts(given, back)
    if parts is None:
        return here
    for name, mine, other in parts:
        if mine is MISSING or other is MISSING:
            return Difference((*place, name), mine, other, *_find_owner(given, name, owner, field))
        difference = _find_difference(mine, other, (*place, name), *_find_owner(given, name, owner, field))
        if difference is not None:
            return difference
    return here if _has_own_inequality(given, back) else None


def _find_owner(given: Any, name: int | str, owner: Any, field: str) -> tuple[Any, str]:
    return (given, str(name)) if _has_fields(given) else (owner, field)


def is_equal(given: Any, back: Any) -> bool:
    """Return whether `==` says that two values are equal."""
    try:
        return bool(given == back)
    except Exception:  # an == that raises, or returns no truth value, says nothing
        return False


def _is_equal_by_meaning(given: Any, back: Any) -> bool:
    """Return whether two moments, two NaNs, or two sets of those are equal."""
    if isinstance(given, datetime) and isinstance(back, datetime):
        return _measure_moment(given) is not None and _measure_moment(given) == _measure_moment(back)
    if isinstance(given, float | Decimal) and isinstance(back, type(given)):
        return math.isnan(given) and math.isnan(back)
    if isinstance(given, AbstractSet) and isinstance(back, AbstractSet):
        return len(given) == len(back) and set(map(_normalize, given)) == set(map(_normalize, back))
    return False


_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


def _measure_moment(value: datetime) -> timedelta | None:
    """Return how long after the year 1 began, in UTC, a time is, or None for one without a zone.

    A time that its zone has twice, or never, equals no time of another zone (PEP 495), though both are one moment.
    """
    offset = value.utcoffset()
    return None if offset is None else value.replace(tzinfo=UTC, fold=0) - _BEGINNING - offset


def _normalize(value: Any) -> Any:
    """Return a hashable value in a form that is equal if the moments in it are."""
    if isinstance(value, datetime):
        moment = _measure_moment(value)
        return value if moment is None else ("moment", moment)
    if isinstance(value, tuple):
        return tuple(map(_normalize, value))
    if isinstance(value, frozenset):
        return frozenset(map(_normalize, value))
    if _has_fields(value):
        return type(value), tuple((name, _normalize(part)) for name, part in collect_fields(value).items())
    return value


def _list_parts(given: Any, back: Any) -> Iterator[tuple[int | str, Any, Any]] | None:
    """Return the parts of two values in pairs, by name or number, or None if they have none, or of another kind."""
    if isinstance(given, Mapping) and isinstance(back, Mapping):
        mine = {_normalize(key): value for key, value in given.items()}
        other = {_normalize(key): value for key, value in back.items()}
        return _pair_by_key(mine, other) if mine.keys() == other.keys() else None
    for kind in (list, tuple, deque):
        if isinstance(given, kind) and isinstance(back, kind):
            return _pair_by_number(list(given), list(back)) if len(given) == len(back) else None
    if type(given) is type(back) and _has_fields(given):
        return _pair_by_key(
            {**_collect_compared(given), **_collect_private(given)},
            {**_collect_compared(back), **_collect_private(back)},
        )
    return None


def _pair_by_key(given: Mapping[Any, Any], back: Mapping[Any, Any]) -> Iterator[tuple[int | str, Any, Any]]:
    for key in (*given, *(key for key in back if key not in given)):
        name = key if isinstance(key, int | str) else "…"
        yield name, given.get(key, MISSING), back.get(key, MISSING)


def _pair_by_number(given: list[Any], back: list[Any]) -> Iterator[tuple[int | str, Any, Any]]:
    for number, (mine, other) in enumerate(zip(given, back, strict=True)):
        yield number, mine, other


def _has_fields(value: Any) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def collect_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a model, with its extras, or of a dataclass, without its cached properties."""
    if isinstance(value, BaseModel):
        names: Iterable[str] = type(value).model_fields
        extra = value.model_extra or {}
    else:
        names, extra = (field.name for field in fields(value)), getattr(value, "__pydantic_extra__", None) or {}
    return {name: getattr(value, name, MISSING) for name in names} | extra


def _collect_private(value: Any) -> dict[str, Any]:
    """Return a model's private attributes, except those with a default_factory."""
    if not isinstance(value, BaseModel):
        return {}
    private = value.__pydantic_private__ or {}
    declared = type(value).__private_attributes__
    return {name: kept for name, kept in private.items() if declared[name].default_factory is None}


def _collect_compared(value: Any) -> dict[str, Any]:
    """Return the fields, except those of a dataclass that have compare=False."""
    left_out = {field.name for field in fields(value) if not field.compare} if is_dataclass(value) else set()
    return {name: part for name, part in collect_fields(value).items() if name not in left_out}


_IDENTITY: tuple[Any, ...] = (object.__eq__, BaseModel.__eq__)


def _has_own_inequality(given: Any, back: Any) -> bool:
    """Return whether all parts are equal, so that only the class's own `==` finds a difference."""
    if not _has_fields(given) or type(given).__eq__ in _IDENTITY:
        return False
    return all(is_equal(part, getattr(back, name, MISSING)) for name, part in _collect_compared(given).items())


# --- moments that JSON would shift ---------------------------------------------------------------------------------


def convert_offsets(value: Any) -> Any:
    """Return a value with each moment whose offset has seconds in UTC: in JSON, an offset has hours and minutes.

    Offsets had seconds until about 1900, later in some places. A value without such a moment is returned unchanged.
    """
    if isinstance(value, datetime):
        offset = value.utcoffset()
        return value.astimezone(UTC) if offset is not None and offset % timedelta(minutes=1) else value
    if isinstance(value, Mapping):
        return _rebuild(value, {convert_offsets(k): convert_offsets(v) for k, v in value.items()}, dict)
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return type(value)(*map(convert_offsets, value))
    for kind in (list, tuple, set, frozenset, deque):
        if type(value) is kind:
            return kind(map(convert_offsets, value))
    return _convert_fields(value, convert_offsets) if _has_fields(value) else value


def _rebuild(value: Any, changed: Any, kind: type) -> Any:
    return changed if type(value) is kind else value


def _convert_fields(value: Any, change: Callable[[Any], Any]) -> Any:
    import copy  # noqa: PLC0415 - needed for old moments alone

    converted = copy.copy(value)
    for name, part in collect_fields(value).items():
        changed = change(part)
        if changed is not part:
            object.__setattr__(converted, name, changed)
    return converted
