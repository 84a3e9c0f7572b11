"""`python -m tests.parts`: what CI runs, part by part, each with the time it took beside its budget.

All parts are run, also after one that failed. A part that is over its budget gets a warning and fails nothing: a
slow machine is no defect. The last line counts the tests of all parts, and those that failed. Exits with 1 if a part
failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from tests.support import pythons

#: The Python that the template deploys, on which the whole suite runs.
DEPLOYED = "3.13"
#: What depends most on the Python it runs on; tried on the oldest and the newest.
CORE = "tests/unit tests/stories tests/contract"


@dataclass(frozen=True)
class Part:
    """A target of the Makefile, the seconds it should take at most on two cores, and its size."""

    name: str
    budget: int
    arguments: Sequence[str] = ()
    shown: str = ""

    @property
    def command(self) -> list[str]:
        """As one would type it."""
        return ["make", "--no-print-directory", self.name, *self.arguments]


@dataclass
class Outcome:
    """What became of a part."""

    part: Part
    status: int
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """One line of the table."""
        verdict = "ok" if self.status == 0 else f"FAILED ({self.status})"
        late = "  WARNING: over its budget" if self.seconds > self.part.budget else ""
        name = self.part.shown or self.part.name
        return f"{name:20} {_minutes(self.seconds):>6} of {_minutes(self.part.budget):>6}  {verdict}{late}"


#: Small enough for each change; `make prove` runs the last four at full size.
SIZES = {"simulate": "N=4000 PAIRS=10", "differential": "N=1500", "chaos": "JOBS=80"}


def parts() -> Iterator[Part]:
    """All of them, in order: what fails soonest comes first."""
    yield Part("engines", 90)
    yield Part("check", 90)
    yield Part("pythons", 240)
    usable = [version for version in pythons.VERSIONS if pythons.is_ready(version)]
    if DEPLOYED in usable:
        yield Part("test", 720, [f"ON={DEPLOYED}"], f"test on {DEPLOYED}")
        yield Part("test", 130, [f"ARGS={CORE}"], "core on .venv's")
    else:
        print(f"Python {DEPLOYED}, which the template deploys, is not to be had here: all runs on .venv's Python.")
        yield Part("test", 480)
    for version in usable:
        if version != DEPLOYED:
            yield Part("test", 130, [f"ON={version}", f"ARGS={CORE}"], f"core on {version}")
    yield Part("browser", 100)
    yield Part("simulate", 100, SIZES["simulate"].split())
    yield Part("differential", 150, [SIZES["differential"]])
    yield Part("e2e", 400)
    yield Part("chaos", 210, [SIZES["chaos"], "SEED=7"])


def run(part: Part, out: TextIO) -> Outcome:
    """Run it, print what it prints, and count its tests."""
    print(f"\n=== {' '.join(part.command)}", file=out, flush=True)
    began = time.monotonic()
    counts: Counter[str] = Counter()
    with subprocess.Popen(
        part.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=out, flush=True)
            counts.update(counted(line))
    return Outcome(part, process.returncode, time.monotonic() - began, counts)


def counted(line: str) -> Counter[str]:
    """What the closing line of a test runner counts; nothing for any other line."""
    if not re.match(r"=*\s*\d+ (passed|failed|error|skipped|deselected)", line):
        return Counter()
    found = re.findall(r"(\d+) (passed|failed|errors?|skipped)", line)
    return Counter({"failed" if kind.startswith("error") else kind: int(number) for number, kind in found})


def closing(outcomes: Sequence[Outcome]) -> str:
    """The line that counts everything; a part that failed without a failed test counts as one."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.counts)
        if outcome.status != 0 and outcome.counts["failed"] == 0:
            total["failed"] += 1
    return f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def main() -> int:
    """Run the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(prog=".ci/run", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these parts, as make names them")
    names = parser.parse_args().names
    outcomes = []
    for part in parts():
        if not names or part.name in names:
            outcomes.append(run(part, sys.stdout))
            print(f"--- {outcomes[-1]}", flush=True)
    print("\n=== time taken, and budget")
    for outcome in outcomes:
        print(outcome)
    spent, budget = sum(each.seconds for each in outcomes), sum(each.part.budget for each in outcomes)
    print(f"{'in all':20} {_minutes(spent):>6} of {_minutes(budget):>6}\n")
    print(closing(outcomes))
    return 1 if any(outcome.status != 0 for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
