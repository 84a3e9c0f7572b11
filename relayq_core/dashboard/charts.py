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
    """One step of time and its counts; `x` and `width` are in hundredths of the chart's width."""

    x: float
    width: float
    bin: Bin
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars, and the count that their full height stands for."""

    bars: tuple[Bar, ...]
    top: float


@dataclass(frozen=True, slots=True)
class LineChart:
    """Two lines as SVG paths, with gaps where no duration is known; `top`: the milliseconds of the full height."""

    p50: str
    p95: str
    top: float


def draw_bars(bins: Sequence[Bin]) -> BarChart:
    """Draw completed, retried and failed as stacked bars."""
    top = round_up(max((_count_runs(one) for one in bins), default=0))
    width = 100 / max(len(bins), 1)
    bars = tuple(
        Bar(round(n * width + width * 0.1, 3), round(width * 0.8, 3), one, _build_segments(one, top))
        for n, one in enumerate(bins)
    )
    return BarChart(bars, top)


def draw_lines(bins: Sequence[Bin]) -> LineChart:
    """Draw the median and the 95th percentile of how long runs took."""
    p50, p95 = [_drop_non_finite(one.p50_ms) for one in bins], [_drop_non_finite(one.p95_ms) for one in bins]
    top = round_up(max((value or 0 for value in p95), default=0))
    return LineChart(_draw_path(p50, top), _draw_path(p95, top), top)


def round_up(value: float) -> float:
    """Return the next round number, where an axis can end; 1 for what is below 1 or not finite."""
    if value <= 1 or not math.isfinite(value):
        return 1
    power = 1
    while True:
        for step in _STEPS:
            if value <= step * power:
                return step * power
        power *= 10


def _drop_non_finite(value: float | None) -> float | None:
    """Return the value, or None for infinity and NaN."""
    return value if value is not None and math.isfinite(value) else None


def _build_segments(counts: Bin, top: float) -> tuple[Segment, ...]:
    segments = []
    filled = 0.0
    for kind in ("completed", "retried", "failed"):
        height = getattr(counts, kind) / top * 100
        if height:
            filled += height
            segments.append(Segment(kind, round(100 - filled, 3), round(height, 3)))
    return tuple(segments)


def _draw_path(values: Sequence[float | None], top: float) -> str:
    width = 100 / max(len(values), 1)
    parts = []
    pen_is_up = True
    for n, value in enumerate(values):
        if value is None:
            pen_is_up = True
            continue
        x, y = round((n + 0.5) * width, 2), round(100 - value / top * 100, 2)
        # a lone point becomes a short line; a path of one point would be invisible
        parts.append(f"M{x} {y}h0.4" if pen_is_up else f"L{x} {y}")
        pen_is_up = False
    return "".join(parts)


def _count_runs(counts: Bin) -> int:
    return counts.completed + counts.retried + counts.failed
