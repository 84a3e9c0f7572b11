"""Contract of JobStore.find_holder: who has a unique key, by the same rule as the transaction that takes it."""

from __future__ import annotations

import pytest

from relayq_core.ports import Added, JobStore
from relayq_core.testing import ManualClock
from tests.contract.engines import Tables
from tests.contract.faults import Refusal, recorded, refusing
from tests.support.factories import NOW, a_cancellation, a_job

KEY = "unique#send_email#welcome:7"
MINUTE = 60_000


def test_a_key_that_was_never_taken_has_no_holder(store: JobStore) -> None:
    """A key of another job has none either."""
    store.add(a_job(unique_pk="unique#send_email#welcome:8"))
    assert store.find_holder(KEY) is None


@pytest.mark.parametrize("window", [None, MINUTE])
def test_a_key_is_its_jobs(store: JobStore, window: int | None) -> None:
    """What a hint names is compared with this."""
    store.add(a_job(unique_pk=KEY, unique_for_ms=window))
    assert store.find_holder(KEY) == "job-1"


def test_a_window_that_is_over_has_no_holder(store: JobStore, clock: ManualClock) -> None:
    """Its item still stands, but at each moment `holder` says what `add` would say."""
    store.add(a_job(unique_pk=KEY, unique_for_ms=1_500))
    later = a_job(id="job-2", unique_pk=KEY, unique_for_ms=1_500)
    while (holder := store.find_holder(KEY)) is not None:
        assert store.add(later) == Added(holder=holder)
        clock.advance(milliseconds=500)
    assert clock.now() == NOW + 2_000  # in whole seconds, rounded up
    assert store.add(later) == Added()
    assert store.find_holder(KEY) == "job-2"


def test_a_key_that_was_released_has_no_holder(store: JobStore) -> None:
    """A key without a window ends with its job."""
    job = a_job(unique_pk=KEY)
    store.add(job)
    assert store.cancel_waiting(job, a_cancellation(job))
    assert store.find_holder(KEY) is None


@pytest.mark.parametrize(("window", "reads"), [(MINUTE, 1), (None, 2)])
def test_asking_is_a_consistent_read(tables: Tables, clock: ManualClock, window: int | None, reads: int) -> None:
    """An eventually consistent one could miss the write of a moment ago. A key without a window is held for as long
    as its job lives, which a second one says."""
    store = tables.store(clock)
    store.add(a_job(unique_pk=KEY, unique_for_ms=window))
    with recorded(tables.client) as calls, refusing(tables.client, "GetItem", Refusal("None"), times=0) as sent:
        assert store.find_holder(KEY) == "job-1"
    assert calls == ["GetItem"] * reads
    assert [body["ConsistentRead"] for body in sent.bodies] == [True] * reads


def test_an_item_that_was_edited_by_hand_is_read_as_the_transaction_reads_it(
    tables: Tables, clock: ManualClock
) -> None:
    """It is taken, and its holder is unknown."""
    store = tables.store(clock)
    tables.client.put_item(TableName=tables.jobs, Item={"pk": {"S": KEY}})
    assert store.find_holder(KEY) == "unknown"
    assert store.add(a_job(unique_pk=KEY)) == Added(holder="unknown")
