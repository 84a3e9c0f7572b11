"""Settling never fails on size: the largest job that dispatch accepts still has room for all that may come to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relayq_core.model import bounds, budgets, settling
from relayq_core.model.backoff import build_backoff
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import Failed, Succeeded
from relayq_core.ports import JobStore, Settled
from relayq_core.testing import ManualClock
from tests.contract.engines import Tables
from tests.support.factories import LIMITS, NOW, POLICY, a_job, a_lease, a_redrive

#: DynamoDB's limit for an item, names and values together.
ITEM_BYTES = 400 * 1024
#: Three bytes each, so that limits in characters would show.
SNOWMAN = "\N{SNOWMAN}"


def size(item: dict[str, Any]) -> int:
    """An item as DynamoDB counts it; a number is at most 21 bytes."""
    return sum(len(name) + (len(value["S"].encode()) if "S" in value else 21) for name, value in item.items())


def the_largest_job(**changes: object) -> JobRecord:
    """Every field as long as dispatch lets it be."""
    payload = json.dumps({"text": SNOWMAN * 99_000}, ensure_ascii=False)
    payload += " " * (budgets.PAYLOAD_BYTES - len(payload.encode()))
    return a_job(
        **{
            "id": "j" * 64,
            "name": "n" * 128,
            "queue": "q" * 64,
            "max_attempts": 1000,
            "backoff": build_backoff([123_456.789] * 50),
            "timeout_ms": 900_000,
            "payload_json": payload,
            "parent_id": "p" * 64,
            "root_id": "r" * 64,
            "depth": 100,
            "trace_id": f"1-{'a' * 8}-{'b' * 24}",
            "unique_pk": "unique#".ljust(1024, "u"),
            **changes,
        }
    )


def a_long_failure(claimed: JobRecord, *, final: bool = False) -> Settlement:
    """An error of the greatest length that is kept."""
    failed = Failed(SNOWMAN * 10_000, SNOWMAN * 500, 1, final)
    limits = bounds.resolve_bounds(claimed, None, POLICY)
    return settling.settle(claimed, failed, limits, POLICY, now=claimed.updated_at, draw=0.5)


@pytest.fixture
def store(tables: Tables, clock: ManualClock) -> JobStore:
    """Only DynamoDB has a limit; moto's is not enforced on updates, DynamoDB Local's is."""
    return tables.store(clock)


def claim(store: JobStore, job_id: str, now: int) -> JobRecord:
    """The next attempt."""
    record = store.claim(job_id, a_lease(f"lease-{now}", now=now)).record
    assert record is not None
    return record


def test_the_largest_job_can_fail_until_it_is_buried_and_be_brought_back(store: JobStore, tables: Tables) -> None:
    """Dispatch, six failures at the greatest length, the longest note, burial, redrive, success with a result."""
    job = the_largest_job()
    assert len(job.payload_json.encode()) == budgets.PAYLOAD_BYTES
    store.add(job)
    now = NOW
    for _ in range(6):
        running = claim(store, job.id, now)
        store.save_progress(running, json.dumps({"fraction": 0.1234, "note": SNOWMAN * 66}))
        retry = a_long_failure(running)
        assert store.settle(running, retry) is Settled.DONE
        now = retry.after.available_at
    assert size(tables.item(job.id)) < ITEM_BYTES
    running = claim(store, job.id, now)
    burial = a_long_failure(running, final=True)
    assert store.settle(running, burial) is Settled.DONE
    failed = store.get_failed(job.id)
    assert failed == burial.after
    assert failed.error is not None
    assert len(failed.error.encode()) <= budgets.ERROR_BYTES
    assert store.redrive(failed, a_redrive(failed, now=now)) is not None
    running = claim(store, job.id, now)
    result = json.dumps("x" * (budgets.RESULT_BYTES - 2))
    done = settling.settle(running, Succeeded(result), LIMITS, POLICY, now=now, draw=0.5)
    assert store.settle(running, done) is Settled.DONE
    assert size(tables.item(job.id)) < ITEM_BYTES


def test_a_plain_job_costs_one_write_unit_each_time(store: JobStore, tables: Tables) -> None:
    """Each KB is a write unit, three times per job: the plain row stays below one."""
    job = a_job(id="01KAM3ZJ5Y8W4T9Q2N6R7B1C0D", payload_json=json.dumps({"to": "a@b.c", "text": "x" * 200}))
    store.add(job)
    running = claim(store, job.id, NOW)
    assert size(tables.item(job.id)) < 1024
    done = settling.settle(running, Succeeded('{"message_id":"0102018"}'), LIMITS, POLICY, now=NOW, draw=0.5)
    store.settle(running, done)
    assert size(tables.item(job.id)) < 1024
