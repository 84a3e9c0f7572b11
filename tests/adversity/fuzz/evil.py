"""Exceptions that misbehave: in their text, their attributes, their class, their size."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

from pydantic import BaseModel, SecretStr, ValidationError

from relayq_core import Bury, RetryAfter, Snooze

T = TypeVar("T")

#: Planted in payloads and in the environment; it must never be seen again.
SECRET = "canary-7f3a9c5e1b"


def unharmed(ask: Callable[[], T]) -> T:
    """Return the answer. An exception that escapes is reported by its class alone: the rest would harm pytest."""
    try:
        return ask()
    except BaseException as error:
        escaped = object.__repr__(error)
        lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    raise AssertionError(f"{escaped} escaped, through lines {lines}")


def _raise(error: BaseException) -> NoReturn:
    raise error


class EvilStr(str):
    """A text none of whose methods can be trusted."""

    def __str__(self) -> str:
        return self

    def __len__(self) -> int:
        raise SystemExit("len")

    def __getitem__(self, key: Any) -> str:
        raise SystemExit("slice")

    def __format__(self, spec: str) -> str:
        raise SystemExit("format")

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        raise SystemExit("encode")


def _error(name: str = "Evil", base: type[BaseException] = Exception, **members: Any) -> BaseException:
    """An exception of a class made for it."""
    return cast("BaseException", type(name, (base,), members)("told"))


def _text(answer: Callable[[], Any], **more: Any) -> BaseException:
    """An exception whose text is what this answers, or raises."""
    return _error(__str__=lambda self: answer(), **more)


def _recurse(self: BaseException) -> str:
    return str(self)


class _NamelessMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit("name")


class _Nameless(Exception, metaclass=_NamelessMeta):
    pass


class _OddMeta(type):
    __name__ = property(lambda cls: 7)


class _Odd(Exception, metaclass=_OddMeta):
    pass


def _recursive() -> BaseException:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        return error
    raise AssertionError


def _nested_groups(depth: int) -> BaseException:
    error: Exception = ValueError("at the bottom")
    for _ in range(depth):
        error = ExceptionGroup("again", [error])
    return error


def _long_chain(length: int) -> BaseException:
    first: BaseException = ValueError("first")
    for _ in range(length):
        then = ValueError("then")
        then.__cause__ = first
        first = then
    return first


def _cycle() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__cause__ = two, one
    return one


def _spoilt(error: Any, **attributes: Any) -> BaseException:
    for name, value in attributes.items():
        setattr(error, name, value)
    assert isinstance(error, BaseException)
    return error


class _Card(BaseModel):
    number: int
    holder: SecretStr


def invalid() -> ValidationError:
    """pydantic's own error, whose text holds its input."""
    try:
        _Card.model_validate({"number": SECRET, "holder": [SECRET]})
    except ValidationError as error:
        return error
    raise AssertionError


#: name -> what makes it. Made again for each use, since raising adds a traceback.
EVIL: dict[str, Callable[[], BaseException]] = {
    "its text raises": lambda: _text(lambda: _raise(ValueError("no text"))),
    "its text exits": lambda: _text(lambda: _raise(SystemExit("no text"))),
    "its text interrupts": lambda: _text(lambda: _raise(KeyboardInterrupt())),
    "its text raises a thing like itself": lambda: _text(lambda: _raise(_text(lambda: 1 / 0))),
    "its text is None": lambda: _text(lambda: None),
    "its text is bytes": lambda: _text(lambda: b"bytes"),
    "its text recurses": lambda: _error(__str__=_recurse),
    "its text is of a class of its own": lambda: _text(lambda: EvilStr("evil")),
    "its text is 50 MB": lambda: ValueError("x" * 50_000_000),
    "its text is 50 MB of surrogates": lambda: ValueError("\udcff" * 50_000_000),
    "its text has lone surrogates": lambda: ValueError("a\ud800b\udfffc"),
    "its text has control characters": lambda: ValueError("a\x00b\x1b[31mc\x85d\u2028e\u202ef\r\ng"),
    "its repr raises": lambda: _error(__repr__=lambda self: _raise(SystemExit("no repr"))),
    "its repr raises within a group": lambda: ExceptionGroup(
        "two",
        [ValueError(1), cast("Exception", _error(__repr__=lambda self: 1 / 0))],
    ),
    "it has no attributes": lambda: _error(__getattribute__=lambda self, name: _raise(RuntimeError(name))),
    "its attributes exit": lambda: _error(__getattribute__=lambda self, name: _raise(SystemExit(name))),
    "its unknown attributes exit": lambda: _error(__getattr__=lambda self, name: _raise(SystemExit(name))),
    "its errors raise": lambda: _error("ValidationError", errors=property(lambda self: _raise(RuntimeError("no")))),
    "its errors exit": lambda: _error("ValidationError", errors=lambda self, **kwargs: _raise(SystemExit("no"))),
    "its errors are a number": lambda: _error("ValidationError", errors=lambda self, **kwargs: 7),
    "its errors are endless": lambda: _error(
        "ValidationError", errors=lambda self, **kwargs: [{"loc": (), "msg": "x"}] * 10**6
    ),
    "its errors are odd": lambda: _error(
        "ValidationError", errors=lambda self, **kwargs: [{"loc": EvilStr(), "msg": EvilStr("x")}]
    ),
    "it is false": lambda: _error(__bool__=lambda self: False),
    "its truth exits": lambda: _error(__bool__=lambda self: _raise(SystemExit("no truth"))),
    "it is empty": lambda: _error(__len__=lambda self: 0),
    "its class lies": lambda: _error(__class__=property(lambda self: Snooze)),
    "its class is a number": lambda: _error(__class__=property(lambda self: 7)),
    "its class exits": lambda: _error(__class__=property(lambda self: _raise(SystemExit("no class")))),
    "its class has no name": lambda: _Nameless("told"),
    "its class is named by a number": lambda: _Odd("told"),
    "its class has a long name": lambda: _error("E" * 1_000_000),
    "its class has an odd name": lambda: _error("\n\x1b[31m\u2028"),
    "it equals nothing": lambda: _error(
        __eq__=lambda self, other: _raise(SystemExit("eq")), __hash__=lambda self: 1 / 0
    ),
    "its traceback lies": lambda: _error(__traceback__=property(lambda self: 7)),
    "its cause lies": lambda: _error(__cause__=7, __context__="x", __suppress_context__=None),
    "its notes are odd": lambda: _spoilt(ValueError("noted"), __notes__=7),
    "its notes are long": lambda: _spoilt(ValueError("noted"), __notes__=["x" * 1_000_000] * 20),
    "it recursed": _recursive,
    "its causes are many": lambda: _long_chain(5_000),
    "its causes go round": _cycle,
    "it is a group": lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    "it is a group of exits": lambda: BaseExceptionGroup("exits", [SystemExit(1), KeyboardInterrupt()]),
    "it is a group of 100,000": lambda: ExceptionGroup("many", [ValueError(n) for n in range(100_000)]),
    "it is groups within groups": lambda: _nested_groups(3_000),
    "it exits": lambda: SystemExit(3),
    "it exits with a text": lambda: SystemExit("bye"),
    "it interrupts": KeyboardInterrupt,
    "it closes a generator": GeneratorExit,
    "it cancels": asyncio.CancelledError,
    "it stops an iteration": lambda: StopIteration(7),
    "it stops an async iteration": StopAsyncIteration,
    "it is out of memory": MemoryError,
    "it is of another base": lambda: _error(base=BaseException),
    "it is a name that cannot be decoded": lambda: OSError(2, "no such file", "caf\udce9"),
    "it holds 50 MB": lambda: UnicodeDecodeError("utf-8", b"x" * 50_000_000, 0, 1, "no"),
    "it is pydantic's": invalid,
    "it snoozes for ever": lambda: _spoilt(Snooze(1), seconds=float("inf")),
    "it snoozes for no number": lambda: _spoilt(Snooze(1), seconds=float("nan")),
    "it snoozes for a word": lambda: _spoilt(Snooze(1), seconds="soon"),
    "it snoozes into the past": lambda: _spoilt(Snooze(1), seconds=-(10**9)),
    "it retries for ever": lambda: _spoilt(RetryAfter(1), seconds=float("inf")),
    "it retries at no time": lambda: _spoilt(RetryAfter(1), seconds=None),
    "it buries without a text": lambda: _spoilt(Bury("x"), args=()),
    "it buries with an odd text": lambda: Bury(EvilStr("odd")),
}
