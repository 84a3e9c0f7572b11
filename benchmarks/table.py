"""The results as JSON, and as a table for people: on the screen, and in docs/explanation/performance.md."""

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
    Verdict.TOLD: "",
    Verdict.VOID: "void",
    Verdict.SKIPPED: "skipped",
}


@dataclass(frozen=True)
class Run:
    """All rows of one run, and on what it was made."""

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
        """A base was not equal to itself: the machine was too busy for any of it to be told."""
        return any(row.verdict is Verdict.VOID for row in self.rows)


def write(run: Run) -> None:
    """Results and page; the page's own words stay."""
    RESULTS.write_text(json.dumps(asdict(run), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), run))


def read() -> Run:
    """The last run that was written."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text())
    rows = [{**row, "spread": tuple(row["spread"]) if row["spread"] else None} for row in kept.pop("rows")]
    return Run(**kept, rows=tuple(Row(**row) for row in rows))


def with_table(page: str, run: Run) -> str:
    """The page with this run's table between its marks."""
    return _MARKED.sub(lambda marks: f"{marks[1]}\n{markdown(run)}\n{marks[2]}", page)


def markdown(run: Run) -> str:
    """The table of each group, under a sentence about the run."""
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
            f"| {row.name} | {row.against} | {measured(row)} | {goal(row)} | {_WORDS[row.verdict]} | {row.note} |"
            for row in rows
        ),
    ]
    return "\n".join(lines)


def measured(row: Row) -> str:
    """The value, and the middle half of the measurements it is the median of."""
    if row.value is None:
        return ""
    spread = f" ({row.spread[0]:.2f} to {row.spread[1]:.2f})" if row.spread else ""
    return f"{_number(row, row.value)}{spread}"


def goal(row: Row) -> str:
    """What was to be reached."""
    if row.goal is None:
        return ""
    return f"{'' if row.exact else '≤ '}{_number(row, row.goal)}"


def _number(row: Row, value: float) -> str:
    text = f"{value:.2f}" if row.unit.startswith("×") else f"{value:,.1f}".removesuffix(".0")
    return f"{text} {row.unit}".strip()
