"""Measure the sweeper's work for each due row, against the update and the invocation it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.aws import ROOT, build_relayq, make_tuned_client, record_calls, set_environment, start_stand
from benchmarks.measuring import CONTROL, Ratio, compare
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.server import ROWS_PER_SHARD
from relayq_core.process.concurrency import Spreading, spread_serially

GROUP = "Sweep"
SHARDS = 8
AGAINST = "update_item and invoke, tuned, the body read"
#: The timeout of the sweeper function in template.yaml.
TIMEOUT_MS = 150_000
_FEW_PER_SHARD, _MORE_PER_SHARD = 10, 50
#: Roughly how many seconds DynamoDB and Lambda take to answer a function in their region.
_AWS_TAKES = 0.005

#: A whole tick, as the sweeper function makes it; prints its counts, its time and its memory.
_TICK = """
import json, resource, sys, time
from benchmarks.aws import build_relayq
relayq = build_relayq(sys.argv[1])
relayq.connect()
began = time.monotonic()
left = lambda: int({timeout} - (time.monotonic() - began) * 1000)
swept = relayq.sweeper.sweep(left)
print(json.dumps({{
    "nudged": swept.counts["nudged"],
    "seconds": time.monotonic() - began,
    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""


def measure(scale: Scale) -> Iterator[Row]:
    """Yield the CPU time for each row, and a tick with very many rows."""
    with start_stand(takes=_AWS_TAKES) as aws, set_environment(aws.environ):
        waited = _compare_sweeps(scale, _FEW_PER_SHARD)
    with start_stand() as aws, set_environment(aws.environ):
        alone = _compare_sweeps(scale, _MORE_PER_SHARD, spreading=spread_serially)
        threads = _compare_sweeps(scale, _MORE_PER_SHARD)
        yield _build_row(alone, _MORE_PER_SHARD, "one after another", goal=1.20)
        yield _build_row(
            threads, _MORE_PER_SHARD, "in eight threads", "answered at once: they contend for Python's lock"
        )
        yield _build_row(waited, _FEW_PER_SHARD, "in eight threads", f"each answer takes {_AWS_TAKES * 1000:.0f} ms")
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                _TICK.format(timeout=TIMEOUT_MS),
                f"{ROWS_PER_SHARD}-{scale.due // SHARDS}",
            ],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    tick = json.loads(process.stdout)
    name = f"a tick that finds {scale.due:,} rows due"
    yield Row(GROUP, f"{name}: handed off", "all of them", tick["nudged"], scale.due, exact=True, unit="rows")
    yield Row(
        GROUP,
        f"{name}: time",
        "the sweeper function's timeout",
        tick["seconds"],
        TIMEOUT_MS / 1000,
        unit="s",
        note="against an instant answer on this machine, so for the work alone",
    )
    yield Row(GROUP, f"{name}: memory", "a sweeper of 256 MB", tick["mib"], 256, unit="MiB")


def _compare_sweeps(scale: Scale, per_shard: int, spreading: Spreading | None = None) -> dict[str, Ratio]:
    """Compare ticks, with their queries and the record of the tick, to the raw calls."""
    due = SHARDS * per_shard
    sweeper = build_relayq(f"{ROWS_PER_SHARD}-{per_shard}", spreading=spreading).sweeper

    def sweep() -> None:
        assert sweeper.sweep(lambda: TIMEOUT_MS).counts["nudged"] == due

    return compare(_make_raw_calls(due), {"sweep": sweep}, rounds=max(5, scale.rounds // 2), batch=1)


def _build_row(ratios: dict[str, Ratio], per_shard: int, how: str, note: str = "", goal: float | None = None) -> Row:
    ratio = ratios["sweep"]
    return Row(
        GROUP,
        f"a due row handed off, {how}",
        AGAINST,
        ratio.cpu,
        goal,
        unit="× CPU",
        spread=(ratio.cpu_from, ratio.cpu_to),
        # times with waits scatter, the base's too: they are for information
        control=None if goal is None else ratios[CONTROL].cpu,
        note=f"{ratio.wall:.2f} × wall; ticks of {SHARDS * per_shard} rows{'; ' if note else ''}{note}",
    )


def _make_raw_calls(times: int) -> Callable[[], None]:
    """Return a call that makes as many pairs of calls as a sweep, with nothing around them."""
    relayq = build_relayq(f"{ROWS_PER_SHARD}-1")
    with record_calls(relayq, "dynamodb", "lambda") as calls:
        relayq.sweeper.sweep(lambda: TIMEOUT_MS)
    nudged = next(sent for method, sent in calls if method == "update_item")
    invoked = next(sent for method, sent in calls if method == "invoke")
    dynamodb, functions = make_tuned_client("dynamodb"), make_tuned_client("lambda")

    def send() -> None:
        for _ in range(times):
            dynamodb.update_item(**nudged)
            functions.invoke(**invoked)["Payload"].read()

    return send
