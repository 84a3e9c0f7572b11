"""Format numbers and times for people."""

from __future__ import annotations

from datetime import UTC, datetime

#: The end of the year 9999 in epoch milliseconds: datetime knows no later dates.
_LAST = 253_402_300_799_999
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def format_span(ms: float) -> str:
    """Format a duration in one unit: `85 ms`, `3.2 s`, `12 min`, `5 h`, `3 d`."""
    ms = max(ms, 0)
    if ms < 1000:
        return f"{ms:.0f} ms"
    for size, unit in _UNITS:
        if ms >= 2 * size:
            return f"{ms // size:.0f} {unit}"
    return f"{ms / 1000:.1f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"


def format_ago(at: int | None, now: int) -> str:
    """Format a moment relative to now: `12 s ago`, `in 5 min`, `now`; empty for None and for dates past 9999."""
    if at is None or abs(at) > _LAST:
        return ""
    away = now - at
    if abs(away) < 1000:
        return "now"
    return f"{format_span(away)} ago" if away > 0 else f"in {format_span(-away)}"


def format_moment(at: int | None) -> str:
    """Format epoch milliseconds: `2026-11-25 17:04:05.123 UTC`; a value that is not a time is shown unchanged."""
    if at is None:
        return ""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return str(at)


def format_clock_time(at: int, *, with_day: bool) -> str:
    """Format epoch milliseconds as `17:04` or `25 Nov 17:04`, UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%d %b %H:%M" if with_day else "%H:%M")


def format_count(number: int, *, more: bool = False) -> str:
    """Format a count: `1,204`, or `1,000+` if there are `more`."""
    return f"{number:,}{'+' if more else ''}"
