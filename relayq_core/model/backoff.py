"""Backoff: how long to wait before retry number n (1 for the first retry). Pure: the random number is an argument."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from relayq_core.errors import LONGEST_DELAY, InvalidOption, Seconds, convert_to_seconds, quote, suggest
from relayq_core.model.value import Value

Kind: TypeAlias = Literal["fixed", "linear", "exponential", "list"]

_KINDS: tuple[Kind, ...] = ("fixed", "linear", "exponential", "list")
#: A longer list says nothing a formula could not, and would swell every row.
_LONGEST_LIST = 50


class Backoff(Value):
    """The wait before each retry, in seconds; each may be given as a timedelta.

    With n = 1 for the first retry: fixed `base`, linear `base * n`, exponential `base * 2**(n-1)`, a list gives
    its n-th entry and repeats its last. `cap` bounds the result; `jitter` (0 to 1) moves it at random by up to
    that share to either side, so that jobs which failed together do not return together.
    """

    kind: Kind
    values: tuple[float, ...]
    cap: float | None = None
    jitter: float = 0.0

    def __init__(
        self, kind: Kind, values: tuple[Seconds, ...], cap: Seconds | None = None, jitter: float = 0.0
    ) -> None:
        super().__init__(kind, tuple(map(convert_to_seconds, values)), convert_to_seconds(cap), jitter)
        self.__post_init__()

    def __post_init__(self) -> None:  # the name by which pydantic knows it too
        if not self.values:
            raise InvalidOption("backoff", "expected at least one number of seconds, got an empty list")
        if len(self.values) > _LONGEST_LIST:
            raise InvalidOption("backoff", f"expected at most {_LONGEST_LIST} entries, got {len(self.values)}")
        for value in (*self.values, *(() if self.cap is None else (self.cap,))):
            _validate_seconds(value)
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, int | float) or not 0 <= self.jitter <= 1:
            raise InvalidOption("backoff", f"expected a jitter from 0 to 1, got {quote(self.jitter)}")

    def evolve(self, **changes: Any) -> Backoff:
        """Return a copy with these fields changed, and validated. Raises InvalidOption."""
        return Backoff(**{**vars(self), **changes})

    def delay(self, retry: int, draw: float = 0.5) -> float:
        """Return the seconds before retry number `retry` (>= 1). `draw` in [0, 1): 0.5 is the middle of the jitter."""
        ceiling = LONGEST_DELAY if self.cap is None else self.cap
        middle = min(self._compute_exact(retry), ceiling)
        return min(middle * (1 + self.jitter * (2 * draw - 1)), ceiling)

    def _compute_exact(self, retry: int) -> float:
        base = self.values[0]
        match self.kind:
            case "fixed":
                return base
            case "linear":
                return base * retry
            case "exponential":
                return base * 2.0 ** min(retry - 1, 64)  # bounded: 2**1024 does not fit a float
            case "list":
                return self.values[min(retry, len(self.values)) - 1]

    def __str__(self) -> str:
        """The form `parse` reads, as it stands in the table and in RELAYQ_BACKOFF."""
        head = ",".join(map(_format_number, self.values))
        text = head if self.kind == "list" else f"{self.kind}:{head}"
        if self.cap is not None:
            text += f",cap={_format_number(self.cap)}"
        if self.jitter:
            text += f",jitter={_format_number(self.jitter)}"
        return text


def _format_number(value: float) -> str:
    """A number as `_parse_number` reads it; minus nought is nought."""
    return f"{value + 0:.15g}"


def Fixed(base: Seconds, *, cap: Seconds | None = None, jitter: float = 0.0) -> Backoff:  # noqa: N802 - reads as a type
    """Always `base` seconds."""
    return Backoff("fixed", (base,), cap, jitter)


def Linear(base: Seconds, *, cap: Seconds | None = None, jitter: float = 0.0) -> Backoff:  # noqa: N802
    """`base * n` seconds before retry n."""
    return Backoff("linear", (base,), cap, jitter)


def Exponential(base: Seconds, *, cap: Seconds | None = None, jitter: float = 0.0) -> Backoff:  # noqa: N802
    """`base * 2**(n-1)` seconds before retry n."""
    return Backoff("exponential", (base,), cap, jitter)


def build_backoff(value: Backoff | Seconds | Sequence[Seconds]) -> Backoff:
    """Return the Backoff that a duration (fixed), a list of durations, or a Backoff stands for."""
    if isinstance(value, Backoff):
        return value
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return Fixed(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Backoff("list", tuple(value))
    raise InvalidOption(
        "backoff",
        f"expected seconds, a list of seconds, Fixed(), Linear() or Exponential(), got {type(value).__name__}",
    )


def parse(text: str) -> Backoff:
    """Read `10`, `10,30,60` or `exponential:10,cap=3600,jitter=0.1`; raises InvalidOption."""
    head, colon, rest = text.strip().partition(":")
    kind, parts = (head.strip().lower(), rest) if colon else ("", text)
    values: list[float] = []
    extras: dict[str, float] = {}
    for part in parts.split(","):
        key, equals, number = (piece.strip() for piece in part.rpartition("="))
        if equals and key not in {"cap", "jitter"}:
            raise InvalidOption("backoff", f"expected cap= or jitter=, got {key!r}")
        if equals:
            extras[key] = _parse_number(number)
        else:
            values.append(_parse_number(number))
    if not colon:
        kind = "list" if len(values) > 1 else "fixed"
    if kind not in _KINDS or (colon and kind == "list"):
        known = _KINDS[:3]
        raise InvalidOption("backoff", f"expected one of {', '.join(known)}, got {kind!r}.{suggest(kind, known)}")
    if kind != "list" and len(values) != 1:
        raise InvalidOption("backoff", f"{kind} takes one number of seconds, got {len(values)}")
    member: Kind = next(name for name in _KINDS if name == kind)
    return Backoff(member, tuple(values), **extras)


def _parse_number(text: str) -> float:
    if not re.fullmatch(r"\d{1,12}(\.\d{1,18})?(e[+-]?\d{1,3})?", text.strip(), re.ASCII):  # whatever .15g writes
        raise InvalidOption("backoff", f"expected a number of seconds, got {text.strip()[:40]!r}")
    return float(text)


def _validate_seconds(value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_DELAY:
        raise InvalidOption("backoff", f"expected seconds from 0 to {LONGEST_DELAY:.0f}, got {quote(value)}")


DEFAULT_BACKOFF = Exponential(10, cap=3600, jitter=0.1)
