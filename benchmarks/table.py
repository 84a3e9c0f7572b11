"""Write the results as JSON, and as a table for people: on the screen, and in docs/explanation/performance.md."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, Verdict

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
_MARKED = re.compile(r"(<!-- written by make bench -->\n).*?(<!-- end -->)", re.DOTALL)
_WORDS = {
    Verdict.MET: "yes",
    Verdict.MISSED: "**no**",
    Verdict.NEAR: "near",
    Verdict.NO_GOAL: "",
    Verdict.VOID: "void",
    Verdict.SKIPPED: "skipped",
}


@dataclass(frozen=True)
class Run:
    """All rows of one run, and the machine it ran on."""

    when: str
    python: str
    botocore: str
    machine: str
    #: enough rounds for a verdict
    full: bool
    minutes: float
    rows: tuple[Row, ...]

    @property
    def void(self) -> bool:
        """Whether a base was not equal to itself: then the machine was too busy for any result."""
        return any(row.verdict is Verdict.VOID for row in self.rows)


def write(run: Run) -> None:
    """Write the results, and the table into the page; the page's own text stays."""
    RESULTS.write_text(json.dumps(asdict(run), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(replace_table(PAGE.read_text(), run))


def read() -> Run:
    """Return the last run that was written."""
    fields: dict[str, Any] = json.loads(RESULTS.read_text())
    rows = [{**row, "spread": tuple(row["spread"]) if row["spread"] else None} for row in fields.pop("rows")]
    return Run(**fields, rows=tuple(Row(**row) for row in rows))


def replace_table(page: str, run: Run) -> str:
    """Return the page with this run's table between its marks."""
    return _MARKED.sub(lambda marks: f"{marks[1]}\n{render_markdown(run)}\n{marks[2]}", page)


def render_markdown(run: Run) -> str:
    """Return a sentence about the run, and a table for each group."""
    head = (
        f"Made on {run.when} with Python {run.python} and botocore {run.botocore}, on {run.machine}, in "
        f"{run.minutes:.0f} minutes."
    )
    if run.void:
        head += " **The run is void: a base measured against itself was off by more than 3 %.**"
    tables = [_group(name, list(rows)) for name, rows in groupby(run.rows, key=lambda row: row.group)]
    return "\n\n".join([head, *tables]) + "\n"


def _group(name: str, rows: Sequence[Row]) -> str:
    lines = [
        f"**{name}**",
        "",
        "| What | Against | Measured | Goal | Met | |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.name} | {row.against} | {format_measured(row)} | {format_goal(row)} | {_WORDS[row.verdict]} "
            f"| {row.note} |"
            for row in rows
        ),
    ]
    return "\n".join(lines)


def format_measured(row: Row) -> str:
    """Format the value, and the middle half of the measurements whose median it is."""
    if row.value is None:
        return ""
    spread = f" ({row.spread[0]:.2f} to {row.spread[1]:.2f})" if row.spread else ""
    return f"{_format_number(row, row.value)}{spread}"


def format_goal(row: Row) -> str:
    """Format the goal; empty if there is none."""
    if row.goal is None:
        return ""
    return f"{'' if row.exact else '≤ '}{_format_number(row, row.goal)}"


def _format_number(row: Row, value: float) -> str:
    text = f"{value:.2f}" if row.unit.startswith("×") else f"{value:,.1f}".removesuffix(".0")
    return f"{text} {row.unit}".strip()
