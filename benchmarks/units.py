"""DynamoDB's units, step by step, as Amazon's own engine counts them. docs/units.json says what each step has to take,
and docs/cost.py makes money of it. No step here is a transaction: of those the engine counts double.
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
    """What something takes: write units of the table and of the index, and read units of both."""

    table: float = 0
    index: float = 0
    read: float = 0

    def __add__(self, other: Units) -> Units:
        return Units(self.table + other.table, self.index + other.index, self.read + other.read)

    def __sub__(self, other: Units) -> Units:
        return Units(self.table - other.table, self.index - other.index, self.read - other.read)


def promised() -> dict[str, Units]:
    """Of each step."""
    return {step: Units(**units) for step, units in json.loads(FILE.read_text()).items()}


class Meter:
    """Reads what a client is told of the capacity that each of its calls has used."""

    def __init__(self, client: Any) -> None:
        self._calls: list[Units] = []
        for operation in _COUNTED:
            client.meta.events.register(f"provide-client-params.dynamodb.{operation}", self._ask)
            client.meta.events.register(f"after-call.dynamodb.{operation}", self._note)

    def calls(self) -> list[Units]:
        """Call by call, since the last time one asked."""
        calls, self._calls = self._calls, []
        return calls

    def total(self) -> Units:
        """The same, in all."""
        return sum(self.calls(), Units())

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
    """RelayQ on two empty tables, a clock that is moved by hand, and a meter."""

    relayq: RelayQ
    clock: ManualClock
    meter: Meter

    def dispatch(self, name: str, **more: Any) -> str:
        """Dispatch a job of that name."""
        return self.relayq.dispatch(name, **more).job_id

    def run(self, job_id: str) -> None:
        """One invocation of the runner."""
        self.clock.advance(seconds=1)
        self.relayq.runner.run(job_id, None, self.clock.countdown(seconds=900))

    def sweep(self) -> None:
        """One tick."""
        self.relayq.sweeper.sweep(self.clock.countdown(seconds=150))

    def swept(self) -> Units:
        """What a sweep writes for the one row that is due, its record of the tick left out."""
        self.meter.calls()
        self.sweep()
        return Units(table=-1) + Units(*_writes(self.meter.total()))


def _writes(units: Units) -> tuple[float, float]:
    return units.table, units.index


def measured(tables: dynamo.Tables) -> dict[str, Units]:
    """Each step, once."""
    clock = ManualClock()
    lab = Lab(tables.relayq(clock=clock, handoff=RecordingHandoff()), clock, Meter(tables.client))
    with isolated_registry():
        _define_jobs()
        lab.run(lab.dispatch("succeed"))  # makes the queue known
        lab.meter.calls()
        return {**_steps(lab), **_detours(lab)}


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


def _steps(lab: Lab) -> dict[str, Units]:
    """Of a job that meets no trouble."""
    job_id = lab.dispatch("succeed")
    lab.run(job_id)
    dispatch, claim, complete = lab.meter.calls()
    lab.run(lab.dispatch("report"))
    _, _, report, _ = lab.meter.calls()
    lab.run(lab.dispatch("succeed", args={"text": "x" * 3072}))
    return {
        "dispatch": dispatch,
        "claim": claim,
        "complete": complete,
        "a job that succeeds at once": dispatch + claim + complete,
        "progress(), each": report,
        "a job with 3 KB of payload that succeeds at once": lab.meter.total(),
    }


def _detours(lab: Lab) -> dict[str, Units]:
    """What a retry and a start by the sweeper add, and a tick that finds nothing."""
    short = lab.dispatch("fail_shortly")
    lab.meter.calls()
    lab.run(short)
    short_retry = lab.meter.total()
    lab.clock.advance(seconds=11)
    lab.run(short)  # buries it

    long = lab.dispatch("fail_for_long")
    lab.meter.calls()
    lab.run(long)
    long_retry = lab.meter.total()
    lab.clock.advance(minutes=10)
    long_retry += lab.swept()
    lab.run(long)

    late = lab.dispatch("succeed", delay=600)
    lab.clock.advance(minutes=10)
    start = lab.swept()
    lab.run(late)

    lab.meter.calls()
    lab.sweep()
    return {
        "a short retry, more": short_retry,
        "a long retry, more": long_retry,
        "a start by the sweeper, more": start,
        "an idle tick of one queue": lab.meter.total(),
    }


def swept_reads(tables: dynamo.Tables, *, due: int, waiting: int) -> float:
    """The read units of one sweep that finds so many rows due, while so many others wait for later."""
    clock = ManualClock()
    made = tables.relayq(clock=clock, handoff=RecordingHandoff())
    made.store.register_queue(_QUEUE)
    _fill(tables, "due", due, clock.now() - 1000)
    _fill(tables, "waits", waiting, clock.now() + 3_600_000)
    meter = Meter(tables.client)
    swept = made.sweeper.sweep(lambda: 900_000)
    assert swept.counts["nudged"] == due, swept.counts
    return meter.total().read


def _fill(tables: dynamo.Tables, prefix: str, count: int, due_at: int) -> None:
    """Rows as a dispatch by name leaves them, so many in all, spread over the shards."""
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


def rows(scale: Scale) -> Iterator[Row]:
    """Every step against what was promised, and a sweep's reads beside few and many rows that wait."""
    if (problem := engines.missing()) is not None:
        yield Row(GROUP, "units of every step", "docs/units.json", None, note=problem)
        return
    with engines.dynamodb_local() as endpoint, dynamo.clients(endpoint, 3) as (client, few, many):
        with dynamo.tables(client) as tables:
            found = measured(tables)
        for step, wanted in promised().items():
            yield _row(step, found[step], wanted)
        with dynamo.tables(few) as tables:
            least = swept_reads(tables, due=1000, waiting=1000)
        with dynamo.tables(many) as tables:
            most = swept_reads(tables, due=1000, waiting=scale.waiting)
    name = "a sweep of 1,000 due rows in one queue"
    yield Row(GROUP, f"{name}, 1,000 waiting: reads", "", least, 12, unit="units")
    yield Row(GROUP, f"{name}, {scale.waiting:,} waiting: reads", "the same", most, least, exact=True, unit="units")


def _row(step: str, found: Units, wanted: Units) -> Row:
    """The writes in all; the split between table and index has to be right as well."""
    split = f"{wanted.table:g} table + {wanted.index:g} index" + (f", {wanted.read:g} read" if wanted.read else "")
    return Row(
        GROUP,
        step,
        split,
        sum(asdict(found).values()),
        sum(asdict(wanted).values()),
        exact=True,
        unit="units",
        note="" if found == wanted else f"found {found.table:g} + {found.index:g}, {found.read:g} read",
    )
