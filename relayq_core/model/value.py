"""Value: a frozen object of named fields, as a frozen dataclass is one, but with no code written for each class.

`dataclasses` compiles six functions for every class and imports `inspect`: that was a third of what it took to import
RelayQ's dispatch. Here one __init__ serves all, and sets all fields at once instead of one by one. A Value passes
for a dataclass all the same: `replace()`, `asdict()` and `fields()` take it, and load `dataclasses` then.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, NoReturn, Self, dataclass_transform


class Field(NamedTuple):
    """A field of a Value: its default, whether repr() shows it, and how it is read."""

    default: Any
    shown: bool = True
    read: Any = None
    #: its type, as it is written
    kind: Any = Any


def field(*, default: Any = ..., shown: bool = True, read: Any = None) -> Any:
    """A field of a Value. `shown=False` keeps it out of repr(); `read` is whatever the class wants to keep with it."""
    return Field(default, shown, read)


def _build_field(default: Any, kind: Any) -> Field:
    return (default if isinstance(default, Field) else Field(default))._replace(kind=kind)


class _AsDataclass:
    """Makes a Value pass for a dataclass: returns what a dataclass of the same fields has on its class, lazily."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, value: Value | None, kind: type[Value]) -> Any:
        owner: Any = kind
        return getattr(_make_dataclass(owner), self._name)


@functools.cache
def _make_dataclass(kind: Any) -> Any:
    """Return a dataclass of the same fields, made when it is first needed."""
    import dataclasses  # noqa: PLC0415 - see above

    fields = [
        (name, known.kind, dataclasses.field(repr=known.shown, **_build_default(known)))
        for name, known in kind._about.items()
    ]
    return dataclasses.make_dataclass(kind.__name__, fields, kw_only=True, frozen=True)


def _build_default(known: Field) -> dict[str, Any]:
    """A factory for what `dataclasses` would not take as a default."""
    if known.default is ...:
        return {}
    return {"default_factory": lambda: known.default} if isinstance(known.default, dict) else {"default": known.default}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """Its subclass's annotations are its fields, in their order; what is assigned to them there are defaults.

    Equal to another of its class with equal fields, and hashed by them. `vars()` answers with all of them.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    #: everything that was said of each field
    _about: ClassVar[dict[str, Field]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}
    __dataclass_fields__ = _AsDataclass()
    __dataclass_params__ = _AsDataclass()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        """`kw_only` is for type checkers: they refuse fields given by their place."""
        own = {name: _build_field(vars(cls).get(name, ...), kind) for name, kind in cls.__annotations__.items()}
        cls._about = {**cls._about, **own}
        cls._names = tuple(cls._about)
        type.__setattr__(cls, "__match_args__", cls._names)  # mypy makes its own, and lets no code assign it
        cls._defaults = {name: known.default for name, known in cls._about.items() if known.default is not ...}
        for name, default in cls._defaults.items():
            setattr(cls, name, default)
        # orjson looks into the class itself, and then at the fields in `vars()`
        type.__setattr__(cls, "__dataclass_fields__", vars(Value)["__dataclass_fields__"])

    def __init__(self, *args: Any, **named: Any) -> None:
        """Raises TypeError for a field that is missing, given twice, or none of its own."""
        if args:
            named = self._name_all(args, named)
        values = {**self._defaults, **named}
        # none is unknown, and none is missing then
        if len(values) != len(self._about) or not named.keys() <= self._about.keys():
            self._refuse_fields(values)
        object.__setattr__(self, "__dict__", values)

    @classmethod
    def get_fields(cls) -> Mapping[str, Field]:
        """Return what the class says of each of its fields, by name and in their order."""
        return cls._about

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed. Raises TypeError for a name that is no field."""
        values = {**vars(self), **changes}
        if len(values) != len(self._about):
            self._refuse_fields(values)
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", values)
        return copy

    def __replace__(self, **changes: Any) -> Self:
        """What `copy.replace` asks for."""
        return self.evolve(**changes)

    def _refuse_fields(self, values: dict[str, Any]) -> NoReturn:
        wrong = ", ".join(sorted(values.keys() ^ self._about.keys()))
        raise TypeError(f"{type(self).__name__}: missing, or no field of it: {wrong}")

    def _name_all(self, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        placed = dict(zip(self._names, args, strict=False))
        if len(placed) < len(args) or placed.keys() & named.keys():
            raise TypeError(f"{type(self).__name__}: too many fields, or one of them twice")
        return {**placed, **named}

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *map(vars(self).__getitem__, self._names)))

    def __repr__(self) -> str:
        shown = (f"{name}={vars(self)[name]!r}" for name, known in self._about.items() if known.shown)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._refuse(name)

    def __delattr__(self, name: str) -> NoReturn:
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError  # noqa: PLC0415 - see above

        raise FrozenInstanceError(f"a {type(self).__name__} is frozen: {name!r} stays as it is; evolve() makes a copy")
