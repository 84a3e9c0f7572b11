"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

#: Milliseconds to the end of year 9999, beyond which there are no dates.
_LAST = 253_402_300_799_999
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def span(ms: float) -> str:
    """A duration in one unit: `85 ms`, `3.2 s`, `12 min`, `5 h`, `3 d`."""
    ms = max(ms, 0)
    if ms < 1000:
        return f"{ms:.0f} ms"
    for size, unit in _UNITS:
        if ms >= 2 * size:
            return f"{ms // size:.0f} {unit}"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"


def ago(at: int | None, now: int) -> str:
    """`12 s ago`, `in 5 min`, `now`; nothing for no time, nor for what no clock has shown."""
    if at is None or abs(at) > _LAST:
        return ""
    away = now - at
    if abs(away) < 1000:
        return "now"
    return f"{span(away)} ago" if away > 0 else f"in {span(-away)}"


def moment(at: int | None) -> str:
    """`2026-11-25 17:04:05.123 UTC`; what is no time is shown as it stands."""
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return str(at)


def clock_time(at: int, *, with_day: bool) -> str:
    """`17:04`, or `25 Nov 17:04`; UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%d %b %H:%M" if with_day else "%H:%M")


def counted(number: int, *, more: bool = False) -> str:
    """`1,204`, and `1,000+` where there are more."""
    return f"{number:,}{'+' if more else ''}"
