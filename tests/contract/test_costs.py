"""What a job costs: the calls, counted where botocore sends them, and the units, as Amazon's own engine counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from relayq_core import RelayQ, RetryAfter, Settings, job
from relayq_core.model.leases import Lease
from relayq_core.ports import Due, JobStore
from relayq_core.testing import ManualClock, RecordingHandoff, isolated_registry
from tests.contract.engines import Tables
from tests.contract.faults import recorded
from tests.support.factories import NOW, a_cancellation, a_job, a_lease, completion


@pytest.fixture(autouse=True)
def jobs() -> Iterator[None]:
    """Three jobs that need nothing."""
    with isolated_registry():

        @job
        def succeed() -> None: ...

        @job(backoff=[10], max_attempts=2)
        def fail_once() -> None:
            raise RetryAfter(0)

        yield


def relayq_on(tables: Tables, clock: ManualClock) -> RelayQ:
    """On real expressions, with a handoff that starts no runner."""
    settings = Settings(jobs_table="j", failed_table="f", runner_function="r")
    return RelayQ(settings, store=tables.store(clock), handoff=RecordingHandoff(), clock=clock)


@pytest.fixture
def relayq(tables: Tables, clock: ManualClock) -> RelayQ:
    """The same on either engine."""
    return relayq_on(tables, clock)


def run(relayq: RelayQ, job_id: str) -> str:
    """One invocation of the runner."""
    return relayq.runner.run(job_id, None, lambda: 900_000).ended.value


def test_a_plain_job_is_one_put_and_two_updates_and_no_read(relayq: RelayQ, tables: Tables) -> None:
    """Only a queue's first dispatch ever makes two calls more, and the first by a process one: a read."""
    with recorded(tables.client) as calls:
        relayq.dispatch("succeed")
        second = relayq.dispatch("succeed").job_id
        assert calls == ["GetItem", "UpdateItem", "PutItem", "PutItem"]
        calls.clear()
        relayq_on(tables, relayq.clock).dispatch("succeed")  # type: ignore[arg-type]
        assert calls == ["GetItem", "PutItem"]
        calls.clear()
        assert run(relayq, second) == "completed"
        assert calls == ["UpdateItem", "UpdateItem"]


def test_a_job_with_a_window_is_one_transaction_and_two_updates(relayq: RelayQ, tables: Tables) -> None:
    """A window outlasts the job, so there is nothing to release."""
    relayq.dispatch("succeed")
    with recorded(tables.client) as calls:
        job_id = relayq.dispatch("succeed", unique="k", unique_for=60).job_id
        assert relayq.dispatch("succeed", unique="k").duplicate
        assert run(relayq, job_id) == "completed"
    assert calls == ["TransactWriteItems", "TransactWriteItems", "UpdateItem", "UpdateItem"]


def test_a_first_nudge_is_made_unread(relayq: RelayQ, tables: Tables, clock: ManualClock) -> None:
    """What is due is handed off with one query for each shard, one update for each row, and one for the tick."""
    relayq.dispatch("succeed")
    clock.advance(minutes=1)
    with recorded(tables.client) as calls:
        relayq.sweeper.sweep(clock.countdown(seconds=150))
    assert sorted(calls) == ["GetItem", *["Query"] * 8, *["UpdateItem"] * 2]


def test_reads_of_a_job_are_consistent(tables: Tables, clock: ManualClock) -> None:
    """A stale read would call an accepted job unknown."""
    store = tables.store(clock)
    seen: list[dict[str, Any]] = []
    tables.client.meta.events.register("provide-client-params.dynamodb", lambda params, **_: seen.append(params))
    store.get("job-1")
    store.get_failed("job-1")
    store.list_queues()
    assert [params["ConsistentRead"] for params in seen] == [True, True, True]
    seen.clear()
    store.get_many(["job-1"])
    assert [params["RequestItems"][tables.jobs]["ConsistentRead"] for params in seen] == [True]


def test_an_ended_row_has_left_the_index_with_both_its_keys(tables: Tables, clock: ManualClock) -> None:
    """Nothing of the index stays in the row: it would be paid for until the row expires."""
    store: JobStore = tables.store(clock)
    store.add(a_job())
    running = store.claim("job-1", a_lease()).record
    assert running is not None
    store.settle(running, completion(running))
    store.add(a_job(id="job-2"))
    store.cancel_waiting(a_job(id="job-2"), a_cancellation(a_job(id="job-2")))
    for job_id in ("job-1", "job-2"):
        assert {"due_shard", "due_at", "lease_id", "lease_until"}.isdisjoint(tables.item(job_id))


@contextmanager
def units(client: Any) -> Iterator[Callable[[], tuple[float, float]]]:
    """Write units since the last time one asked: of the table, and of the index."""
    spent = [0.0, 0.0]

    def ask(params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "INDEXES"

    def note(parsed: dict[str, Any], **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity", {})
        spent[0] += consumed.get("Table", {}).get("CapacityUnits", 0)
        spent[1] += sum(index["CapacityUnits"] for index in consumed.get("GlobalSecondaryIndexes", {}).values())

    def since() -> tuple[float, float]:
        found = (spent[0], spent[1])
        spent[:] = [0.0, 0.0]
        return found

    for operation in ("PutItem", "UpdateItem"):
        client.meta.events.register(f"provide-client-params.dynamodb.{operation}", ask)
        client.meta.events.register(f"after-call.dynamodb.{operation}", note)
    yield since


@pytest.mark.dynamodb_local
def test_a_plain_job_costs_five_write_units(local_tables: Tables, clock: ManualClock) -> None:
    """Three of the table and two of the index: put, claim, complete; the claim leaves the index alone."""
    relayq = relayq_on(local_tables, clock)
    relayq.dispatch("succeed")
    with units(local_tables.client) as spent:
        job_id = relayq.dispatch("succeed").job_id
        assert spent() == (1, 1)
        run(relayq, job_id)
        assert spent() == (2, 1)


@pytest.mark.dynamodb_local
def test_a_short_retry_costs_four_more(local_tables: Tables, clock: ManualClock) -> None:
    """Claim and retry write the table; the index forgets the old key and learns the new one."""
    relayq = relayq_on(local_tables, clock)
    job_id = relayq.dispatch("fail_once").job_id
    clock.advance(seconds=1)
    with units(local_tables.client) as spent:
        run(relayq, job_id)
        assert spent() == (2, 2)


@pytest.mark.dynamodb_local
def test_a_start_by_the_sweeper_costs_three_more(local_tables: Tables, clock: ManualClock) -> None:
    """The nudge writes the table, and moves the key of the index."""
    relayq = relayq_on(local_tables, clock)
    relayq.dispatch("succeed")
    clock.advance(minutes=1)
    with units(local_tables.client) as spent:
        relayq.sweeper.sweep(clock.countdown(seconds=150))
        table, index = spent()
        assert (table - 1, index) == (1, 2)  # the tick itself writes one


def test_a_workers_claim_and_look_move_the_index_entry(local_tables: Tables, clock: ManualClock) -> None:
    """One unit for the row and two for the index, as for any change of an index key."""
    store = local_tables.store(clock)
    store.add(a_job())
    with units(local_tables.client) as spent:
        claimed = store.claim("job-1", Lease("mine", NOW, 60_000, 10_000, renewed=True)).record
        assert claimed is not None
        assert spent() == (1, 2)
        assert store.postpone(Due(claimed.due_at or 0, "job-1", claimed.queue), NOW + 100_000)
        assert spent() == (1, 2)


def test_a_heartbeat_costs_one_write_unit(local_tables: Tables, clock: ManualClock) -> None:
    """The lease is not indexed."""
    store = local_tables.store(clock)
    store.add(a_job())
    before = store.claim("job-1", a_lease("mine")).record
    assert before is not None
    with units(local_tables.client) as spent:
        assert store.renew_lease(before, 2_000_000_000_000)
        assert spent() == (1, 0)
