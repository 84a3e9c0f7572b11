"""Charts as shapes: heights and lines between 0 and 100, which a template draws without any script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from relayq_core.ports import Bin

_STEPS = (1, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar, in hundredths of the height from the top."""

    kind: str
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What one step of time holds, from x on, in hundredths of the width."""

    x: float
    width: float
    bin: Bin
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars, and what their full height stands for."""

    bars: tuple[Bar, ...]
    top: float


@dataclass(frozen=True, slots=True)
class LineChart:
    """Two lines as SVG paths, with gaps where nothing is known, and what the full height stands for."""

    p50: str
    p95: str
    top: float


def stacked(bins: Sequence[Bin]) -> BarChart:
    """Completed, retried and failed, one on the other."""
    top = rounded_up(max((_total(found) for found in bins), default=0))
    width = 100 / max(len(bins), 1)
    bars = tuple(
        Bar(round(n * width + width * 0.1, 3), round(width * 0.8, 3), found, _segments(found, top))
        for n, found in enumerate(bins)
    )
    return BarChart(bars, top)


def lines(bins: Sequence[Bin]) -> LineChart:
    """How long runs took: the middle one, and what 95 in 100 did not exceed."""
    p50, p95 = [_known(found.p50_ms) for found in bins], [_known(found.p95_ms) for found in bins]
    top = rounded_up(max((value or 0 for value in p95), default=0))
    return LineChart(_path(p50, top), _path(p95, top), top)


def rounded_up(value: float) -> float:
    """The next round number: an axis that ends there can be read."""
    if value <= 1 or not math.isfinite(value):
        return 1
    power = 1
    while True:
        for step in _STEPS:
            if value <= step * power:
                return step * power
        power *= 10


def _known(value: float | None) -> float | None:
    """What is no number is not known."""
    return value if value is not None and math.isfinite(value) else None


def _segments(found: Bin, top: float) -> tuple[Segment, ...]:
    segments = []
    filled = 0.0
    for kind in ("completed", "retried", "failed"):
        height = getattr(found, kind) / top * 100
        if height:
            filled += height
            segments.append(Segment(kind, round(100 - filled, 3), round(height, 3)))
    return tuple(segments)


def _path(values: Sequence[float | None], top: float) -> str:
    width = 100 / max(len(values), 1)
    parts = []
    pen_is_up = True
    for n, value in enumerate(values):
        if value is None:
            pen_is_up = True
            continue
        x, y = round((n + 0.5) * width, 2), round(100 - value / top * 100, 2)
        # a lone point is drawn as a short line, or nothing would be seen of it
        parts.append(f"M{x} {y}h0.4" if pen_is_up else f"L{x} {y}")
        pen_is_up = False
    return "".join(parts)


def _total(found: Bin) -> int:
    return found.completed + found.retried + found.failed
