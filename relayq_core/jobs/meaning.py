"""Whether two values mean the same, where `==` does not say so: moments, private attributes, fields that lack `==`."""

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

#: Stands for a value that is not there.
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two values differ; `owner` is the object whose field it is in, if any."""

    place: Path
    given: Any
    back: Any
    owner: Any = None
    field: str = ""


def same(given: Any, back: Any) -> bool:
    """Whether the two values mean the same; True is not 1, wherever it stands."""
    return difference(given, back) is None and _same_truths(given, back)


def _same_truths(given: Any, back: Any) -> bool:
    parts = _parts(given, back)
    if parts is None:
        return isinstance(given, bool) == isinstance(back, bool)
    return all(_same_truths(mine, other) for _, mine, other in parts)


def difference(given: Any, back: Any, place: Path = (), owner: Any = None, field: str = "") -> Difference | None:
    """Where the second value means something else than the first; None where it does not."""
    try:
        return _difference(given, back, place, owner, field)
    except Exception:  # an == or an attribute that raises, or too deep to follow
        return Difference(place, given, back, owner, field)


def _difference(given: Any, back: Any, place: Path, owner: Any, field: str) -> Difference | None:
    if equal(given, back) or _equal_by_other_means(given, back):
        return None
    here = Difference(place, given, back, owner, field)
    parts = _parts(given, back)
    if parts is None:
        return here
    for name, mine, other in parts:
        if mine is MISSING or other is MISSING:
            return Difference((*place, name), mine, other, *_owner(given, name, owner, field))
        found = _difference(mine, other, (*place, name), *_owner(given, name, owner, field))
        if found is not None:
            return found
    return here if _differs_by_its_own_word(given, back) else None


def _owner(given: Any, name: int | str, owner: Any, field: str) -> tuple[Any, str]:
    return (given, str(name)) if _has_fields(given) else (owner, field)


def equal(given: Any, back: Any) -> bool:
    """Python's own word for it."""
    try:
        return bool(given == back)
    except Exception:  # an == that raises, or has no truth value, cannot vouch for equality
        return False


def _equal_by_other_means(given: Any, back: Any) -> bool:
    """Moments; floats that are no number; and containers without order, whose members are such."""
    if isinstance(given, datetime) and isinstance(back, datetime):
        return _moment(given) is not None and _moment(given) == _moment(back)
    if isinstance(given, float | Decimal) and isinstance(back, type(given)):
        return math.isnan(given) and math.isnan(back)
    if isinstance(given, AbstractSet) and isinstance(back, AbstractSet):
        return len(given) == len(back) and set(map(_normal, given)) == set(map(_normal, back))
    return False


_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


def _moment(value: datetime) -> timedelta | None:
    """How long after the year 1 began, in UTC, a time is; None for one without a zone.

    An aware time that its zone has twice or never equals no time of another zone (PEP 495), though both are one moment.
    """
    offset = value.utcoffset()
    return None if offset is None else value.replace(tzinfo=UTC, fold=0) - _BEGINNING - offset


def _normal(value: Any) -> Any:
    """A hashable value in a form that is equal where the moments are."""
    if isinstance(value, datetime):
        moment = _moment(value)
        return value if moment is None else ("moment", moment)
    if isinstance(value, tuple):
        return tuple(map(_normal, value))
    if isinstance(value, frozenset):
        return frozenset(map(_normal, value))
    if _has_fields(value):
        return type(value), tuple((name, _normal(part)) for name, part in fields_of(value).items())
    return value


def _parts(given: Any, back: Any) -> Iterator[tuple[int | str, Any, Any]] | None:
    """The parts of two values side by side, by name or number; None where they have none, or not the same kind."""
    if isinstance(given, Mapping) and isinstance(back, Mapping):
        mine = {_normal(key): value for key, value in given.items()}
        other = {_normal(key): value for key, value in back.items()}
        return _by_key(mine, other) if mine.keys() == other.keys() else None
    for kind in (list, tuple, deque):
        if isinstance(given, kind) and isinstance(back, kind):
            return _by_number(list(given), list(back)) if len(given) == len(back) else None
    if type(given) is type(back) and _has_fields(given):
        return _by_key({**_compared(given), **_kept(given)}, {**_compared(back), **_kept(back)})
    return None


def _by_key(given: Mapping[Any, Any], back: Mapping[Any, Any]) -> Iterator[tuple[int | str, Any, Any]]:
    for key in (*given, *(key for key in back if key not in given)):
        name = key if isinstance(key, int | str) else "…"
        yield name, given.get(key, MISSING), back.get(key, MISSING)


def _by_number(given: list[Any], back: list[Any]) -> Iterator[tuple[int | str, Any, Any]]:
    for number, (mine, other) in enumerate(zip(given, back, strict=True)):
        yield number, mine, other


def _has_fields(value: Any) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a model, with its extras, or of a dataclass: without what a cached property has left there."""
    if isinstance(value, BaseModel):
        names: Iterable[str] = type(value).model_fields
        extra = value.model_extra or {}
    else:
        names, extra = (field.name for field in fields(value)), getattr(value, "__pydantic_extra__", None) or {}
    return {name: getattr(value, name, MISSING) for name in names} | extra


def _kept(value: Any) -> dict[str, Any]:
    """A model's private attributes, but for those of which each object makes its own."""
    if not isinstance(value, BaseModel):
        return {}
    private = value.__pydantic_private__ or {}
    declared = type(value).__private_attributes__
    return {name: kept for name, kept in private.items() if declared[name].default_factory is None}


def _compared(value: Any) -> dict[str, Any]:
    """The fields, but for those of a dataclass that say compare=False."""
    left_out = {field.name for field in fields(value) if not field.compare} if is_dataclass(value) else set()
    return {name: part for name, part in fields_of(value).items() if name not in left_out}


_IDENTITY: tuple[Any, ...] = (object.__eq__, BaseModel.__eq__)


def _differs_by_its_own_word(given: Any, back: Any) -> bool:
    """All parts mean the same, and are equal: then what says otherwise is an `==` that the class brings along."""
    if not _has_fields(given) or type(given).__eq__ in _IDENTITY:
        return False
    return all(equal(part, getattr(back, name, MISSING)) for name, part in _compared(given).items())


# --- moments that JSON would shift ---------------------------------------------------------------------------------


def in_whole_minutes(value: Any) -> Any:
    """The value with each moment whose offset has seconds in UTC instead: as JSON, an offset has hours and minutes.

    Offsets had seconds until about 1900, later in some places. What holds no such moment is returned as it is.
    """
    if isinstance(value, datetime):
        offset = value.utcoffset()
        return value.astimezone(UTC) if offset is not None and offset % timedelta(minutes=1) else value
    if isinstance(value, Mapping):
        return _rebuilt(value, {in_whole_minutes(k): in_whole_minutes(v) for k, v in value.items()}, dict)
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return type(value)(*map(in_whole_minutes, value))
    for kind in (list, tuple, set, frozenset, deque):
        if type(value) is kind:
            return kind(map(in_whole_minutes, value))
    return _with_fields(value, in_whole_minutes) if _has_fields(value) else value


def _rebuilt(value: Any, changed: Any, kind: type) -> Any:
    return changed if type(value) is kind else value


def _with_fields(value: Any, change: Callable[[Any], Any]) -> Any:
    import copy  # noqa: PLC0415 - needed for old moments alone

    made = copy.copy(value)
    for name, part in fields_of(value).items():
        changed = change(part)
        if changed is not part:
            object.__setattr__(made, name, changed)
    return made
