"""Measure the peers, which are installed in an environment of their own."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator

from benchmarks.aws import ROOT
from benchmarks.measuring import CONTROL
from benchmarks.rows import Row
from benchmarks.scale import Scale

GROUP = "Peers: to take one job"
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
AGAINST = "RelayQ's dispatch by name"

#: What each number leaves out.
LEAVES_OUT = {
    "SQS SendMessage, boto3": "no status, no unique key; polling is paid elsewhere",
    "Lambda invoke(Event), boto3, the body read": "no status, no own retries, no delay; may be lost",
    "put_item and invoke, boto3, the body unread": "the calls of a dispatch, as usually written",
    "Celery + SQS": "no status; workers that always run and poll",
    "Celery + Redis": "a Redis and workers that always run",
    "RQ": "a Redis and workers that always run",
    "dramatiq + Redis": "a Redis and workers that always run",
    "Huey + Redis": "a Redis and workers that always run",
    "Huey + SQLite": "one machine's disk, and a worker on it",
    "procrastinate + PostgreSQL": "a PostgreSQL and workers that always run",
}


STARTS = "Peers: until the job begins"
WARM = "RelayQ, a warm runner"
#: What each time from the dispatch to the first line of the handler leaves out; the worker is idle.
LEFT_OUT = {
    "RelayQ, relayq work": "it polls, less and less often, down to once a second",
    "Celery + Redis": "a worker that always runs",
    "RQ": "a worker that always runs; forks for each job",
    "dramatiq + Redis": "a worker that always runs",
    "Huey + Redis": "a worker that always runs",
    "procrastinate + PostgreSQL": "a worker that always runs",
}


def measure(scale: Scale) -> Iterator[Row]:
    """Yield what it costs to accept a job, and how long until it begins."""
    yield from _measure_dispatch(scale)
    yield from _measure_start(scale)


def _measure_start(scale: Scale) -> Iterator[Row]:
    """Yield medians of wall time, as multiples of RelayQ's with a runner that is notified through a pipe."""
    if not PYTHON.exists():
        return
    command = [str(PYTHON), "-m", "benchmarks.starts", "--jobs", str(scale.rounds)]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    medians = {name: statistics.median(times) for name, times in json.loads(output.splitlines()[-1]).items()}
    for name, left_out in LEFT_OUT.items():
        is_measured = name in medians and WARM in medians
        yield Row(
            STARTS,
            name,
            f"{WARM} on DynamoDB Local",
            medians[name] / medians[WARM] if is_measured else None,
            unit="× wall",
            note=left_out if is_measured else "its server is not on this machine",
        )


def _measure_dispatch(scale: Scale) -> Iterator[Row]:
    """Yield the client's CPU time, as a multiple of RelayQ's; the note has the wall time."""
    if not PYTHON.exists():
        yield Row(GROUP, "all of them", AGAINST, None, note="make .venv-bench/.ready installs them")
        return
    command = [str(PYTHON), "-m", "benchmarks.peers", "--rounds", str(scale.rounds), "--batch", str(scale.batch)]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    ratios = json.loads(output.splitlines()[-1])
    for name, leaves_out in LEAVES_OUT.items():
        if name not in ratios:
            yield Row(GROUP, name, AGAINST, None, note="its server is not on this machine")
            continue
        ratio = ratios[name]
        yield Row(
            GROUP,
            name,
            AGAINST,
            ratio["cpu"],
            unit="× CPU",
            spread=(ratio["cpu_from"], ratio["cpu_to"]),
            control=ratios[CONTROL]["cpu"],
            note=f"{ratio['wall']:.2f} × wall; {leaves_out}",
        )
