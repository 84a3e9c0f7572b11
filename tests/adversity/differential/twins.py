"""Two stores that are asked the same: the one in memory, and the one on DynamoDB Local. They must answer alike."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from relayq_core.adapters.dynamodb.items import Item, encode_job_id, read_failed, read_job
from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.errors import RelayQError, UnreadableRow
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.record import JobRecord, compute_shard
from relayq_core.ports import Added, Answer, Due, Page, Settled
from relayq_core.testing import ManualClock, MemoryStore
from tests.support import dynamo


@dataclass
class Report:
    """How much was compared: calls by verb and answer, and sequences."""

    sequences: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Count in what another process has done."""
        self.sequences += other.sequences
        self.answers.update(other.answers)


class Engine:
    """DynamoDB Local with one pair of tables, in which every sequence has ids, keys and queues of its own."""

    def __init__(self, tables: dynamo.Tables) -> None:
        self.client = tables.client
        self.jobs = tables.jobs
        self.failed = tables.failed
        self.report = Report()
        self._numbers = itertools.count(1)

    def next_prefix(self) -> str:
        """What the ids of the next sequence begin with."""
        return f"s{next(self._numbers)}"


@contextmanager
def engine_at(endpoint: str) -> Iterator[Engine]:
    """Tables on the DynamoDB Local at this endpoint."""
    with dynamo.clients(endpoint, 1) as (client,), dynamo.tables(client) as tables:
        yield Engine(tables)


class Twins:
    """The two stores, on one clock, and what one sequence has in them."""

    def __init__(self, engine: Engine) -> None:
        self.clock = ManualClock()
        self.memory = MemoryStore(self.clock)
        self.dynamo = DynamoStore(lambda: engine.client, engine.jobs, engine.failed, now=self.clock.now)
        self._engine = engine
        self._client = engine.client
        prefix = engine.next_prefix()
        self.ids = [f"{prefix}-{letter}" for letter in "abc"]
        self.queues = [f"{prefix}.one", f"{prefix}.two"]
        self.keys = [f"unique#send_email#{prefix}", f"unique#send_email#{prefix}#2"]
        self._shares = False

    def ask(self, verb: str, *args: Any) -> Any:
        """Ask both; their answers, or the exceptions they raise, must be the same. Raises what they raised."""
        expected, found = _answer(self.memory, verb, args), _answer(self.dynamo, verb, args)
        self._engine.report.answers[_name_call(verb, args), _kind(expected)] += 1
        assert _told(verb, found) == _told(verb, expected), (
            f"{verb}{args}: {found!r} on DynamoDB, {expected!r} in memory"
        )
        return expected

    def page(self, shard: str, until: int, limit: int, cursors: tuple[Any, Any] = (None, None)) -> tuple[Any, Any]:
        """One page of the index from both, and where each goes on; (None, None) where they may not be compared on.

        Rows that are due in the same millisecond come in any order, so a page that ends among them is not compared.
        """
        mine = self.memory.list_due(shard, until, limit, cursors[0])
        theirs = self.dynamo.list_due(shard, until, limit, cursors[1])
        self._engine.report.answers["list_due", "rows" if mine.rows else "none"] += 1
        assert [row.due_at for row in theirs.rows] == [row.due_at for row in mine.rows]
        if self._ends_among_equals(shard, mine):
            return None, None
        assert sorted(theirs.rows) == sorted(mine.rows)
        # where a page is exactly full DynamoDB does not know yet that nothing follows
        assert theirs.cursor is not None or mine.cursor is None
        return mine.cursor, theirs.cursor

    def _ends_among_equals(self, shard: str, page: Page) -> bool:
        whole = self.memory.list_due(shard, 10**15, 100).rows
        return bool(page.rows) and page.rows[-1].due_at in [row.due_at for row in whole if row not in page.rows]

    def share(self) -> None:
        """From here on this sequence writes what all have in one item, which is emptied afterwards."""
        self._shares = True

    # --- what the port has no verb for ---

    def crowd(self, count: int) -> None:
        """Register `count` queues at once."""
        names = [f"crowd-{n}" for n in range(count)]
        self.memory._queues.update(names)
        self._client.update_item(
            TableName=self._engine.jobs,
            Key={"pk": {"S": "queues"}},
            UpdateExpression="ADD queue_names :names",
            ExpressionAttributeValues={":names": {"SS": names}},
        )

    def spoil(self, job_id: str) -> None:
        """Make a row unreadable, as an edit by hand might."""
        if job_id in self.memory.jobs:
            self.memory.spoil(job_id)
            self._client.update_item(
                TableName=self._engine.jobs,
                Key=encode_job_id(job_id),
                UpdateExpression="SET attempt = :many",
                ExpressionAttributeValues={":many": {"S": "many"}},
            )

    def reap(self) -> None:
        """Delete what has expired, as TTL does some day."""
        now = self.clock.now() // 1000
        for pk, key in list(self.memory._keys.items()):
            if key.expires_at is not None and key.expires_at <= now:
                del self.memory._keys[pk]
                self._client.delete_item(TableName=self._engine.jobs, Key={"pk": {"S": pk}})
        for job_id, row in list(self.memory.jobs.items()):
            if row.expires_at is not None and row.expires_at <= now:
                del self.memory.jobs[job_id]
                self.memory._spoilt.discard(job_id)
                self._client.delete_item(TableName=self._engine.jobs, Key=encode_job_id(job_id))
        for job_id, row in list(self.memory.failures.items()):
            if row.expires_at is not None and row.expires_at <= now:
                del self.memory.failures[job_id]
                self._client.delete_item(TableName=self._engine.failed, Key={"id": {"S": job_id}})

    # --- the end ---

    def compare_whole(self) -> None:
        """Every row, key and index entry of this sequence is the same in both."""
        items = self._items()
        assert {pk for pk in items if pk.startswith("job#")} == {f"job#{job_id}" for job_id in self.memory.jobs}
        for job_id, row in self.memory.jobs.items():
            item = items[f"job#{job_id}"]
            if job_id in self.memory._spoilt:
                assert item["attempt"] == {"S": "many"}
            else:
                assert read_job(item) == row
            shard = {"S": compute_shard(row.queue, job_id)} if row.due_at is not None else None
            assert item.get("due_shard") == shard
        held = {pk: item for pk, item in items.items() if pk.startswith("unique#")}
        assert {pk: (item["job_id"]["S"], _seconds(item)) for pk, item in held.items()} == {
            pk: (key.job_id, key.expires_at) for pk, key in self.memory._keys.items()
        }
        failures = {item["id"]["S"]: read_failed(item) for pk, item in items.items() if pk.startswith("failed#")}
        assert failures == self.memory.failures
        for queue in self.queues:
            self.page(f"{queue}#0", 10**15, 100)
        if self._shares:
            self.ask("list_queues")
            self.ask("read_last_tick")

    def _items(self) -> dict[str, Item]:
        """All items of this sequence; those of the failed table under failed#<id>."""
        jobs = [*map(encode_job_id, self.ids), *({"pk": {"S": key}} for key in self.keys)]
        failed = [{"id": {"S": job_id}} for job_id in self.ids]
        wanted = {
            self._engine.jobs: {"Keys": jobs, "ConsistentRead": True},
            self._engine.failed: {"Keys": failed, "ConsistentRead": True},
        }
        answer = self._client.batch_get_item(RequestItems=wanted)
        assert not answer["UnprocessedKeys"]
        found: dict[str, Item] = {item["pk"]["S"]: item for item in answer["Responses"][self._engine.jobs]}
        found.update({f"failed#{item['id']['S']}": item for item in answer["Responses"][self._engine.failed]})
        return found

    def close(self) -> None:
        """Leave nothing that the next sequence would meet."""
        if self._shares:
            for pk in ("queues", "sweeper"):
                self._client.delete_item(TableName=self._engine.jobs, Key={"pk": {"S": pk}})


def _answer(store: MemoryStore | DynamoStore, verb: str, args: tuple[Any, ...]) -> Any:
    try:
        answer = getattr(store, verb)(*args)
        return list(answer) if verb == "list_failed" else answer
    except RelayQError as error:
        return error


def _told(verb: str, answer: Any) -> Any:
    """What of an answer is promised: its value; of an exception its type and its sentence; of few lists the order."""
    if isinstance(answer, UnreadableRow):
        return UnreadableRow, answer.job_id
    if isinstance(answer, RelayQError):
        return type(answer), str(answer)
    if isinstance(answer, list) and answer and isinstance(answer[0], JobRecord):
        order = [record.finished_at for record in answer] if verb == "list_failed" else None
        return sorted(answer, key=lambda record: record.id), order
    return answer


def _name_call(verb: str, args: tuple[Any, ...]) -> str:
    """Return the name under which a call is counted: a settle that buries or deletes has one of its own."""
    match args:
        case (_, Settlement(transition=Transition.BURY)):
            return f"{verb} (bury)"
        case (_, Settlement(keeps_row=False)):
            return f"{verb} (delete)"
        case _:
            return verb


def _kind(answer: Any) -> str:
    """An answer in a word, for the count."""
    match answer:
        case RelayQError():
            return type(answer).__name__
        case Settled():
            return answer.value
        case Answer(done=done, record=record):
            return "done" if done else "refused" if record else "not there"
        case Added(holder=holder, found=found):
            return "duplicate" if holder else "found" if found else "added"
        case None | False | []:
            return "none"
        case _:
            return "yes"


def _seconds(item: Item) -> int | None:
    return int(item["expires_at"]["N"]) if "expires_at" in item else None


def as_due(record: JobRecord, shift: int = 0) -> Due:
    """The row of the index that a record stood for when it was seen."""
    return Due((record.due_at or 0) + shift, record.id, record.queue)
