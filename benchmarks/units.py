"""Measure DynamoDB's units of each step, as Amazon's own engine counts them.

docs/units.json has the units that each step must take, and docs/cost.py multiplies them with prices. No step here is a
transaction: the engine counts those twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Row
from benchmarks.scale import Scale
from relayq_core import JobContext, RelayQ, RetryAfter, job
from relayq_core.model.record import list_shards
from relayq_core.testing import ManualClock, RecordingHandoff, isolated_registry
from tests.support import dynamo, engines

GROUP = "Units on DynamoDB Local"
FILE = Path(__file__).parents[1] / "docs" / "units.json"
_COUNTED = ("PutItem", "UpdateItem", "DeleteItem", "GetItem", "Query")
_QUEUE = "default"
_BATCH = 25


@dataclass(frozen=True)
class Units:
    """Write units of the table and of the index, and read units of both."""

    table: float = 0
    index: float = 0
    read: float = 0

    def __add__(self, other: Units) -> Units:
        return Units(self.table + other.table, self.index + other.index, self.read + other.read)

    def __sub__(self, other: Units) -> Units:
        return Units(self.table - other.table, self.index - other.index, self.read - other.read)


def read_promised() -> dict[str, Units]:
    """Return the units of each step in docs/units.json."""
    return {step: Units(**units) for step, units in json.loads(FILE.read_text()).items()}


class Meter:
    """Records the capacity that each call of a client uses, as DynamoDB reports it."""

    def __init__(self, client: Any) -> None:
        self._calls: list[Units] = []
        for operation in _COUNTED:
            client.meta.events.register(f"provide-client-params.dynamodb.{operation}", self._ask)
            client.meta.events.register(f"after-call.dynamodb.{operation}", self._note)

    def take_calls(self) -> list[Units]:
        """Return the units of each call since the last time, and forget them."""
        calls, self._calls = self._calls, []
        return calls

    def take_total(self) -> Units:
        """Return the sum of the units since the last time, and forget them."""
        return sum(self.take_calls(), Units())

    def _ask(self, params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "INDEXES"

    def _note(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity", {})
        table = consumed.get("Table", {}).get("CapacityUnits", 0)
        index = sum(each["CapacityUnits"] for each in consumed.get("GlobalSecondaryIndexes", {}).values())
        reads = model.name in {"GetItem", "Query"}
        self._calls.append(Units(read=table + index) if reads else Units(table, index))


@dataclass(frozen=True)
class Lab:
    """RelayQ on two empty tables, a manual clock, and a meter."""

    relayq: RelayQ
    clock: ManualClock
    meter: Meter

    def dispatch(self, name: str, **more: Any) -> str:
        """Dispatch a job and return its id."""
        return self.relayq.dispatch(name, **more).job_id

    def run(self, job_id: str) -> None:
        """Run the job in one invocation, a second later."""
        self.clock.advance(seconds=1)
        self.relayq.runner.run(job_id, None, self.clock.countdown(seconds=900))

    def sweep(self) -> None:
        """Sweep once."""
        self.relayq.sweeper.sweep(self.clock.countdown(seconds=150))

    def measure_sweep(self) -> Units:
        """Sweep, and return the write units for the one due row, without the record of the tick."""
        self.meter.take_calls()
        self.sweep()
        return Units(table=-1) + Units(*_pick_writes(self.meter.take_total()))


def _pick_writes(units: Units) -> tuple[float, float]:
    return units.table, units.index


def measure_steps(tables: dynamo.Tables) -> dict[str, Units]:
    """Run each step once and return its units."""
    clock = ManualClock()
    lab = Lab(tables.relayq(clock=clock, handoff=RecordingHandoff()), clock, Meter(tables.client))
    with isolated_registry():
        _define_jobs()
        lab.run(lab.dispatch("succeed"))  # registers the queue
        lab.meter.take_calls()
        return {**_measure_plain(lab), **_measure_detours(lab)}


def _define_jobs() -> None:
    @job
    def succeed(text: str = "") -> None: ...

    @job
    def report(context: JobContext) -> None:
        context.progress(0.5, "half")

    @job(backoff=[10], max_attempts=2)
    def fail_shortly() -> None:
        raise RetryAfter(10)

    @job(backoff=[600], max_attempts=2)
    def fail_for_long() -> None:
        raise RetryAfter(600)


def _measure_plain(lab: Lab) -> dict[str, Units]:
    """Return the units of the steps of a job that succeeds."""
    job_id = lab.dispatch("succeed")
    lab.run(job_id)
    dispatch, claim, complete = lab.meter.take_calls()
    lab.run(lab.dispatch("report"))
    _, _, report, _ = lab.meter.take_calls()
    lab.run(lab.dispatch("succeed", args={"text": "x" * 3072}))
    return {
        "dispatch": dispatch,
        "claim": claim,
        "complete": complete,
        "a job that succeeds at once": dispatch + claim + complete,
        "progress(), each": report,
        "a job with 3 KB of payload that succeeds at once": lab.meter.take_total(),
    }


def _measure_detours(lab: Lab) -> dict[str, Units]:
    """Return the units that a retry and a start by the sweeper add, and those of a tick that finds nothing."""
    short = lab.dispatch("fail_shortly")
    lab.meter.take_calls()
    lab.run(short)
    short_retry = lab.meter.take_total()
    lab.clock.advance(seconds=11)
    lab.run(short)  # buries it

    long = lab.dispatch("fail_for_long")
    lab.meter.take_calls()
    lab.run(long)
    long_retry = lab.meter.take_total()
    lab.clock.advance(minutes=10)
    long_retry += lab.measure_sweep()
    lab.run(long)

    late = lab.dispatch("succeed", delay=600)
    lab.clock.advance(minutes=10)
    start = lab.measure_sweep()
    lab.run(late)

    lab.meter.take_calls()
    lab.sweep()
    return {
        "a short retry, more": short_retry,
        "a long retry, more": long_retry,
        "a start by the sweeper, more": start,
        "an idle tick of one queue": lab.meter.take_total(),
    }


def measure_reads(tables: dynamo.Tables, *, due: int, waiting: int) -> float:
    """Return the read units of one sweep that finds `due` rows, while `waiting` others are due later."""
    clock = ManualClock()
    relayq = tables.relayq(clock=clock, handoff=RecordingHandoff())
    relayq.store.register_queue(_QUEUE)
    _fill(tables, "due", due, clock.now() - 1000)
    _fill(tables, "waits", waiting, clock.now() + 3_600_000)
    meter = Meter(tables.client)
    swept = relayq.sweeper.sweep(lambda: 900_000)
    assert swept.counts["nudged"] == due, swept.counts
    return meter.take_total().read


def _fill(tables: dynamo.Tables, prefix: str, count: int, due_at: int) -> None:
    """Write `count` rows as a dispatch by name leaves them, spread over the shards."""
    shards = list_shards(_QUEUE)
    now = {"N": str(due_at)}
    items = (
        {
            "pk": {"S": f"job#{prefix}{number:08d}"},
            "name": {"S": "succeed"},
            "queue": {"S": _QUEUE},
            "status": {"S": "pending"},
            "attempt": {"N": "0"},
            "payload": {"S": "{}"},
            **dict.fromkeys(("created_at", "updated_at", "available_at", "due_at"), now),
            "due_shard": {"S": shards[number % len(shards)]},
        }
        for number in range(count)
    )
    batch: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        batch.append({"PutRequest": {"Item": item}})
        if len(batch) == _BATCH or number == count:
            tables.client.batch_write_item(RequestItems={tables.jobs: batch})
            batch = []


def measure(scale: Scale) -> Iterator[Row]:
    """Yield every step against docs/units.json, and a sweep's reads with few and with many waiting rows."""
    if (problem := engines.missing()) is not None:
        yield Row(GROUP, "units of every step", "docs/units.json", None, note=problem)
        return
    with engines.dynamodb_local() as endpoint, dynamo.clients(endpoint, 3) as (client, few, many):
        with dynamo.tables(client) as tables:
            units = measure_steps(tables)
        for step, promised in read_promised().items():
            yield _build_row(step, units[step], promised)
        with dynamo.tables(few) as tables:
            least = measure_reads(tables, due=1000, waiting=1000)
        with dynamo.tables(many) as tables:
            most = measure_reads(tables, due=1000, waiting=scale.waiting)
    name = "a sweep of 1,000 due rows in one queue"
    yield Row(GROUP, f"{name}, 1,000 waiting: reads", "", least, 12, unit="units")
    yield Row(GROUP, f"{name}, {scale.waiting:,} waiting: reads", "the same", most, least, exact=True, unit="units")


def _build_row(step: str, units: Units, promised: Units) -> Row:
    """Return a row for the sum of the units; its note says if the split between table and index is wrong."""
    split = f"{promised.table:g} table + {promised.index:g} index" + (
        f", {promised.read:g} read" if promised.read else ""
    )
    return Row(
        GROUP,
        step,
        split,
        sum(asdict(units).values()),
        sum(asdict(promised).values()),
        exact=True,
        unit="units",
        note="" if units == promised else f"found {units.table:g} + {units.index:g}, {units.read:g} read",
    )
