"""Print what commands answer: JSON for programs, tables for people, plain columns if stdout is no terminal.

Stored texts come from callers, and a terminal obeys the control characters in them: all output of commands goes through
this module, and every text through `clean`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relayq_core.dashboard.words import format_ago
from relayq_core.text import clean, escape_json

#: Colours of the terminal's own palette, which suit a light and a dark background.
STATUS_STYLES = {
    "pending": "blue",
    "processing": "cyan",
    "retrying": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "duplicate": "magenta",
}
#: A column of sentences narrower than this is hard to read: they go below their rows instead.
_NARROWEST = 30


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Only a `wide` one, of sentences, may shrink when there is little room."""

    title: str
    wide: bool = False
    right: bool = False


def is_fancy(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that shows colours, and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(line: str = "", *, style: str = "") -> None:
    """Print one line on stdout, however long; `style` counts only on a terminal that can show it."""
    line = clean(line)
    if is_fancy(sys.stdout):
        Console(highlight=False).print(Text(line, style=style), soft_wrap=True)
    else:
        print(line)  # noqa: T201


def complain(kind: str, message: str) -> None:
    """Print `error: ...`, `warning: ...` or `note: ...` on stderr; a terminal wraps it between words."""
    message = clean(message)
    if is_fancy(sys.stderr):
        style = "bold red" if kind == "error" else "yellow"
        line = Text.assemble((f"{kind}:", style), " ", message)
        Console(stderr=True, highlight=False).print(line)
    else:
        print(f"{kind}: {message}", file=sys.stderr)  # noqa: T201


def show_traceback(error: BaseException | None = None) -> None:
    """Print the traceback of an error, or of the one being handled, on stderr."""
    lines = traceback.format_exception(error or sys.exception())
    print(clean("".join(lines)), end="", file=sys.stderr)  # noqa: T201


def render_text(line: str) -> Text:
    """Return a line as rich's Text: rich would read a plain string as its own markup."""
    return Text(clean(line))


def print_json(data: Any, *, line: bool = False) -> None:
    """Print data on stdout as JSON; with `line`, in one line, because more objects follow."""
    text = json.dumps(data, indent=None if line else 2, ensure_ascii=False, default=str)
    print(escape_json(text), flush=line)  # noqa: T201


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, styles: dict[str, str] | None = None
) -> None:
    """Print a table; cells found in `styles` are coloured.

    If the terminal has no room for the wide columns, they go below their rows; if it has none for the others either,
    each row is printed as a block.
    """
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    if not is_fancy(sys.stdout):
        _print_plain(columns, cells)
        return
    console = Console(highlight=False)
    styles = styles or {}
    slim = [column for column in columns if not column.wide]
    if _measure_table(columns, cells, columns) <= console.width:
        console.print(build_table(columns, cells, styles))
    elif len(slim) < len(columns) and _measure_table(columns, cells, slim) <= console.width:
        _print_beneath(console, columns, cells, styles)
    else:
        _print_blocks(console, columns, cells, styles)


def build_table(columns: Sequence[Column], cells: list[list[str]], styles: dict[str, str]) -> Table:
    """Return a table for a terminal; cells found in `styles` are coloured."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.title.upper(),
            justify="right" if column.right else "left",
            no_wrap=not column.wide,
            overflow="fold",
            min_width=None if column.wide else _measure_column(columns, cells, column),
        )
    for row in cells:
        table.add_row(*(Text(clean(cell), style=styles.get(cell, "")) for cell in row))
    return table


def print_details(pairs: Iterable[tuple[str, str]], *, styles: dict[str, str] | None = None) -> None:
    """Print names and values, one pair a line; a value of several lines is a block below its name."""
    lines = [(clean(name), clean(value)) for name, value in pairs if value]
    fancy = is_fancy(sys.stdout)
    console = Console(highlight=False)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        block = "\n" in value
        text = "\n" + "\n".join(f"  {line}" for line in value.splitlines()) if block else value
        if fancy:
            line = Text.assemble((f"{name:<{width}}  ", "dim"), (text, (styles or {}).get(value, "")))
            console.print(line, soft_wrap=True)
        else:
            print(f"{name:<{width}}  {text}".rstrip() if not block else f"{name}{text}")  # noqa: T201


def format_age(at: Any, now: int) -> str:
    """Return `3.0 s ago`, `in 5 min` or `now`; empty for None and what is not a time, as in a row edited by hand."""
    return format_ago(at, now) if isinstance(at, int) else ""


def format_time(at: int) -> str:
    """Return a time as `2026-11-22 00:47:27 UTC`; a value that is no date is returned as it is."""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return str(at)


def _measure_column(columns: Sequence[Column], cells: list[list[str]], column: Column) -> int:
    place = columns.index(column)
    return max(len(column.title), *(len(row[place]) for row in cells), 0)


def _measure_table(columns: Sequence[Column], cells: list[list[str]], shown: Sequence[Column]) -> int:
    """Return the least width of a table with the columns `shown`."""
    widths = (
        min(_measure_column(columns, cells, column), _NARROWEST)
        if column.wide
        else _measure_column(columns, cells, column)
        for column in shown
    )
    return sum(widths) + 2 * (len(shown) - 1)


def _print_plain(columns: Sequence[Column], cells: list[list[str]]) -> None:
    """Print bare columns, a line for each row, however long."""
    widths = [_measure_column(columns, cells, column) for column in columns]
    for row in [[column.title.upper() for column in columns], *cells]:
        line = "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        print(line.rstrip())  # noqa: T201


def _print_beneath(console: Console, columns: Sequence[Column], cells: list[list[str]], styles: dict[str, str]) -> None:
    """Print each row without its wide cells, which follow below it, indented."""
    widths = [_measure_column(columns, cells, column) for column in columns]

    def render_slim(row: Sequence[str], style: str = "") -> Text:
        return Text("  ", style).join(
            Text(cell.rjust(width) if column.right else cell.ljust(width), styles.get(cell, ""))
            for cell, width, column in zip(row, widths, columns, strict=True)
            if not column.wide
        )

    console.print(render_slim([column.title.upper() for column in columns], "bold"), no_wrap=True)
    for row in cells:
        console.print(render_slim(row), no_wrap=True)
        for cell, column in zip(row, columns, strict=True):
            if column.wide and cell:
                console.print(Padding(Text(cell), (0, 0, 0, 2)))


def _print_blocks(console: Console, columns: Sequence[Column], cells: list[list[str]], styles: dict[str, str]) -> None:
    width = max(len(column.title) for column in columns)
    for number, row in enumerate(cells):
        if number:
            console.print()
        for column, cell in zip(columns, row, strict=True):
            line = Text.assemble((f"{column.title:<{width}}  ", "dim"), (cell, styles.get(cell, "")))
            console.print(line, soft_wrap=True)
