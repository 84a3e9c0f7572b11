"""`make bench`: measure, show, and write down."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator

import botocore

from benchmarks import beside, dispatching, layer, running, starting, sweeping, table, units
from benchmarks.rows import Row, Verdict
from benchmarks.scale import FULL, QUICK, Scale

GROUPS: dict[str, Callable[[Scale], Iterator[Row]]] = {
    "dispatch": dispatching.measure,
    "run": running.measure,
    "sweep": sweeping.measure,
    "start": starting.measure,
    "layer": layer.measure,
    "units": units.measure,
    "peers": beside.measure,
}
_COLOURS = {
    Verdict.MET: "32",
    Verdict.NEAR: "36",
    Verdict.MISSED: "31",
    Verdict.VOID: "33",
    Verdict.SKIPPED: "33",
    Verdict.NO_GOAL: "2",
}


def main() -> int:
    """Return 0 if everything was measured and nothing was void. A missed goal is a finding, not a failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], help="only these, and write nothing")
    parser.add_argument("--quick", action="store_true", help="small batches: to see that it works; write nothing")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    began = time.monotonic()
    rows: list[Row] = []
    for name in options.groups or GROUPS:
        print(f"\n{name}", flush=True)
        for row in GROUPS[name](scale):
            print(_format_row(row), flush=True)
            rows.append(row)
    run = table.Run(
        when=datetime.datetime.now(datetime.UTC).date().isoformat(),
        python=platform.python_version(),
        botocore=botocore.__version__,
        machine=f"{os.cpu_count()} cores of {platform.machine()}",
        full=not options.quick,
        minutes=(time.monotonic() - began) / 60,
        rows=tuple(rows),
    )
    print(f"\n{_sum_up(run)}")
    if not options.quick and not options.groups:
        table.write(run)
        print(f"Written to {table.RESULTS.relative_to(table.ROOT)} and {table.PAGE.relative_to(table.ROOT)}.")
    return 1 if run.void else 0


def _format_row(row: Row) -> str:
    verdict = f"{row.verdict:8}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        verdict = f"\033[{_COLOURS[row.verdict]}m{verdict}\033[0m"
    goal = table.format_goal(row)
    suffix = f"   goal {goal}" if goal else ""
    return f"  {verdict} {row.name:64} {table.format_measured(row)}{suffix}"


def _sum_up(run: table.Run) -> str:
    counts = {verdict: sum(row.verdict is verdict for row in run.rows) for verdict in Verdict}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    void = " VOID: a base was off from itself by more than 3 %; the machine was busy, run it again." if run.void else ""
    return f"{summary}, in {run.minutes:.1f} minutes.{void}"


if __name__ == "__main__":
    sys.exit(main())
