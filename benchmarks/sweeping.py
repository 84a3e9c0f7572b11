"""The sweeper's work for each row that is due, against the update and the invocation it consists of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.aws import ROOT, environment, relayq, sent_by, stand, tuned
from benchmarks.measuring import CONTROL, Ratio, paired
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.server import ROWS_PER_SHARD
from relayq_core.process.concurrency import Spreading, spread_serially

GROUP = "Sweep"
SHARDS = 8
AGAINST = "update_item and invoke, tuned, the body read"
#: Of the sweeper function in template.yaml.
TIMEOUT_MS = 150_000
_FEW_PER_SHARD, _MORE_PER_SHARD = 10, 50
#: Seconds that DynamoDB and Lambda take to answer a function in their region, roughly.
_AWS_TAKES = 0.005

#: A whole tick, as the sweeper function makes it; tells what it did, how long it took and what it needed.
_TICK = """
import json, resource, sys, time
from benchmarks.aws import relayq
made = relayq(sys.argv[1])
made.connect()
began = time.monotonic()
left = lambda: int({timeout} - (time.monotonic() - began) * 1000)
swept = made.sweeper.sweep(left)
print(json.dumps({{
    "nudged": swept.counts["nudged"],
    "seconds": time.monotonic() - began,
    "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""


def rows(scale: Scale) -> Iterator[Row]:
    """CPU for each row, and one tick with very many."""
    with stand(takes=_AWS_TAKES) as aws, environment(aws.environ):
        waited = _handed_off(scale, _FEW_PER_SHARD)
    with stand() as aws, environment(aws.environ):
        alone = _handed_off(scale, _MORE_PER_SHARD, spreading=spread_serially)
        threads = _handed_off(scale, _MORE_PER_SHARD)
        yield _row(alone, _MORE_PER_SHARD, "one after another", goal=1.20)
        yield _row(threads, _MORE_PER_SHARD, "in eight threads", "answered at once: they contend for Python's lock")
        yield _row(waited, _FEW_PER_SHARD, "in eight threads", f"each answer takes {_AWS_TAKES * 1000:.0f} ms")
        told = subprocess.run(
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
    tick = json.loads(told.stdout)
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


def _handed_off(scale: Scale, per_shard: int, spreading: Spreading | None = None) -> dict[str, Ratio]:
    """Ticks of so many rows, their queries and the record of the tick included."""
    due = SHARDS * per_shard
    sweeper = relayq(f"{ROWS_PER_SHARD}-{per_shard}", spreading=spreading).sweeper

    def sweep() -> None:
        assert sweeper.sweep(lambda: TIMEOUT_MS).counts["nudged"] == due

    return paired(_raw(due), {"sweep": sweep}, rounds=max(5, scale.rounds // 2), batch=1)


def _row(found: dict[str, Ratio], per_shard: int, how: str, note: str = "", goal: float | None = None) -> Row:
    ratio = found["sweep"]
    return Row(
        GROUP,
        f"a due row handed off, {how}",
        AGAINST,
        ratio.cpu,
        goal,
        unit="× CPU",
        spread=(ratio.cpu_from, ratio.cpu_to),
        # times with waits scatter, the base's too; they are told, and judge nothing
        control=None if goal is None else found[CONTROL].cpu,
        note=f"{ratio.wall:.2f} × wall; ticks of {SHARDS * per_shard} rows{'; ' if note else ''}{note}",
    )


def _raw(times: int) -> Callable[[], None]:
    """As many pairs of calls as a sweep makes, with nothing around them."""
    made = relayq(f"{ROWS_PER_SHARD}-1")
    with sent_by(made, "dynamodb", "lambda") as seen:
        made.sweeper.sweep(lambda: TIMEOUT_MS)
    nudged = next(sent for method, sent in seen if method == "update_item")
    invoked = next(sent for method, sent in seen if method == "invoke")
    dynamodb, functions = tuned("dynamodb"), tuned("lambda")

    def send() -> None:
        for _ in range(times):
            dynamodb.update_item(**nudged)
            functions.invoke(**invoked)["Payload"].read()

    return send
