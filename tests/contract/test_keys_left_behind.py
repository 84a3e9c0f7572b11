"""A job ends also where its role may not delete its key with it, and the next dispatch may take the key.

What AWS takes for the keys of a transaction when it judges `dynamodb:LeadingKeys` cannot be tried here: it may refuse a
grant that allows each member by itself.
"""

from __future__ import annotations

import pytest

from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Added, JobStore, Settled
from relayq_core.testing import ManualClock, MemoryStore
from relayq_core.testing.memory import _Key
from tests.contract.engines import Engine, Tables
from tests.contract.faults import Refusal, recorded, refusing
from tests.support.factories import NOW, a_burial, a_cancellation, a_deletion, a_job, a_lease, a_redrive, completion

KEY = "unique#send_email#welcome:7"
#: DynamoDB may say so of the whole, or of a member.
DENIALS = [Refusal("AccessDeniedException"), Refusal("TransactionCanceledException", reasons=("None", "AccessDenied"))]


def keyed(job_id: str = "job-1") -> JobRecord:
    return a_job(id=job_id, unique_pk=KEY)


def claimed(store: JobStore, job: JobRecord) -> JobRecord:
    record = store.claim(job.id, a_lease()).record
    assert record is not None
    return record


@pytest.mark.parametrize("denial", DENIALS, ids=["whole", "member"])
@pytest.mark.parametrize("end", ["cancelled", "completed", "deleted", "buried"])
def test_a_job_whose_key_may_not_be_deleted_with_it_ends_all_the_same(
    tables: Tables, clock: ManualClock, denial: Refusal, end: str
) -> None:
    """First by itself, and then its key by itself, which is what the grant is for."""
    store, job = tables.store(clock), keyed()
    store.add(job)
    before = job if end == "cancelled" else claimed(store, job)
    with refusing(tables.client, "TransactWriteItems", denial, times=1):
        match end:
            case "cancelled":
                assert store.cancel_waiting(before, a_cancellation(before))
            case "completed":
                assert store.settle(before, completion(before)) is Settled.DONE
            case "deleted":
                assert store.settle(before, a_deletion(before)) is Settled.DONE
            case "buried":
                assert store.settle(before, a_burial(before)) is Settled.DONE
    found = store.get(job.id)
    assert found is None or found.status.is_ended
    assert (store.get_failed(job.id) is not None) == (end == "buried")
    assert tables.client.get_item(TableName=tables.jobs, Key={"pk": {"S": KEY}}).get("Item") is None
    assert store.add(keyed("job-2")) == Added()


@pytest.mark.parametrize("end", ["cancelled", "completed", "buried"])
def test_a_key_that_its_job_left_behind_is_taken_over(tables: Tables, clock: ManualClock, end: str) -> None:
    """Where it may not be deleted at all: it has no window, so it is its job's for as long as that lives."""
    store, job = tables.store(clock), keyed()
    store.add(job)
    before = job if end == "cancelled" else claimed(store, job)
    denied = Refusal("AccessDeniedException")
    with refusing(tables.client, "TransactWriteItems", denied, times=1), refusing(tables.client, "DeleteItem", denied):
        match end:
            case "cancelled":
                assert store.cancel_waiting(before, a_cancellation(before))
            case "completed":
                assert store.settle(before, completion(before)) is Settled.DONE
            case "buried":
                # its own row is deleted in the same transaction, which was let through the second time
                assert store.settle(before, a_burial(before)) is Settled.DONE
    assert "Item" in tables.client.get_item(TableName=tables.jobs, Key={"pk": {"S": KEY}})
    assert store.find_holder(KEY) is None
    assert store.add(keyed("job-2")) == Added()
    assert store.find_holder(KEY) == "job-2"


def leave(engine: Engine, key: str, job_id: str) -> None:
    """A key without a window, of a job that may or may not be there."""
    if isinstance(engine.store, MemoryStore):
        engine.store._keys[key] = _Key(job_id, None)
        return
    item = {"pk": {"S": key}, "job_id": {"S": job_id}, "taken_at": {"N": str(NOW)}}
    engine.store._call("PutItem", TableName=engine.store._jobs, Item=item)  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [None, *Status])
def test_a_key_without_a_window_is_held_for_as_long_as_its_job_lives(engine: Engine, status: Status | None) -> None:
    """It is held no longer, whether or not it was released; a job that is not there has ended."""
    if status is not None:
        engine.store.add(a_job(id="job-1", status=status))
    leave(engine, KEY, "job-1")
    lives = status is not None and not status.is_ended
    assert engine.store.find_holder(KEY) == ("job-1" if lives else None)
    assert engine.store.add(keyed("job-2")) == (Added(holder="job-1") if lives else Added())


def test_a_redrive_takes_over_what_was_left_behind_too(engine: Engine) -> None:
    """The other way in which a job comes by its key."""
    store, job = engine.store, keyed("job-2")
    store.add(job)
    before = claimed(store, job)
    store.settle(before, a_burial(before))
    leave(engine, KEY, "job-1")
    failed = store.get_failed("job-2")
    assert failed is not None
    assert store.redrive(failed, a_redrive(failed)) == Added()
    assert store.find_holder(KEY) == "job-2"


def test_a_key_that_was_taken_again_is_not_taken_over(tables: Tables, clock: ManualClock) -> None:
    """The job that had ended may have been redriven, and has its key again: the same id, and another moment."""
    store = tables.store(clock)
    item = {"pk": {"S": KEY}, "job_id": {"S": "job-1"}, "taken_at": {"N": str(NOW - 1)}}
    tables.client.put_item(TableName=tables.jobs, Item=item)
    looked: list[bool] = []

    def redriven(**_: object) -> None:
        if not looked:
            looked.append(True)
            newer = {**item, "taken_at": {"N": str(NOW)}}
            tables.client.put_item(TableName=tables.jobs, Item=newer)

    tables.client.meta.events.register("provide-client-params.dynamodb.GetItem", redriven)
    try:
        assert store.add(keyed("job-2")) == Added(holder="job-1")
    finally:
        tables.client.meta.events.unregister("provide-client-params.dynamodb.GetItem", redriven)


def test_a_duplicate_in_a_window_is_asked_about_once(tables: Tables, clock: ManualClock) -> None:
    """Only a key without a window needs a look at its job."""
    store = tables.store(clock)
    store.add(a_job(id="job-1", unique_pk=KEY, unique_for_ms=60_000))
    with recorded(tables.client) as calls:
        assert store.add(a_job(id="job-2", unique_pk=KEY, unique_for_ms=60_000)) == Added(holder="job-1")
    assert calls == ["TransactWriteItems"]
