"""Measure ratios that hold on a busy machine: a variant runs between two batches of the base it is compared with."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.aws import ROOT

#: The name under which the base is measured against itself.
CONTROL = "the base again"


@dataclass(frozen=True)
class Ratio:
    """Medians of the ratios of CPU and of wall time, the middle half of the CPU ratios, and microseconds per call."""

    cpu: float
    wall: float
    cpu_from: float
    cpu_to: float
    cpu_us: float
    wall_us: float


@dataclass(frozen=True)
class Spent:
    """CPU and wall time of one call, in microseconds."""

    cpu: float
    wall: float


def compare(
    base: Callable[[], object], variants: Mapping[str, Callable[[], object]], *, rounds: int, batch: int
) -> dict[str, Ratio]:
    """Return the ratio to the base for each variant, and for the base itself as CONTROL.

    The CPU time is that of this whole process with its threads. The first batches warm up and are not counted.
    """
    every = {CONTROL: base, **variants}
    for call in every.values():
        _run_batch(call, max(2, batch // 2))
    pairs: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in every}
    before = _run_batch(base, batch)
    for _ in range(rounds):
        for name, variant in every.items():
            mine = _run_batch(variant, batch)
            after = _run_batch(base, batch)
            around = Spent((before.cpu + after.cpu) / 2, (before.wall + after.wall) / 2)
            pairs[name].append((mine, around))
            before = after
    return {name: _calculate_ratio(of_one) for name, of_one in pairs.items()}


def _run_batch(call: Callable[[], object], times: int) -> Spent:
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(times):
        call()
    return Spent((time.process_time_ns() - cpu) / times / 1000, (time.perf_counter_ns() - wall) / times / 1000)


def _calculate_ratio(pairs: list[tuple[Spent, Spent]]) -> Ratio:
    ratios = [mine.cpu / base.cpu for mine, base in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Ratio(
        cpu=middle,
        wall=statistics.median(mine.wall / base.wall for mine, base in pairs),
        cpu_from=low,
        cpu_to=high,
        cpu_us=statistics.median(mine.cpu for mine, _ in pairs),
        wall_us=statistics.median(mine.wall for mine, _ in pairs),
    )


@dataclass(frozen=True)
class Program:
    """A Python program to run in a fresh process."""

    code: str
    environ: Mapping[str, str]
    python: str = sys.executable


def time_starts(programs: Mapping[str, Program], *, rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of each program, in fresh processes in turn. A first round fills the disk cache."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    names = list(programs)
    for turn in range(rounds + 1):
        for name in names if turn % 2 else reversed(names):
            spent = _run(name, programs[name])
            if turn:
                times[name].append(spent)
    return times


def calculate_net_ratio(spent: Mapping[str, list[float]], over: str, under: str, bare: str | None) -> float:
    """Return the median ratio of `over` to `under`, turn by turn, less the time of the bare interpreter, if named."""
    less = statistics.median(spent[bare]) if bare is not None else 0.0
    return statistics.median(
        (mine - less) / (base - less) for mine, base in zip(spent[over], spent[under], strict=True)
    )


def _run(name: str, program: Program) -> float:
    base = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}}
    command = [program.python, "-c", program.code]
    with subprocess.Popen(command, cwd=ROOT, env={**base, **program.environ}, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{name!r} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000
