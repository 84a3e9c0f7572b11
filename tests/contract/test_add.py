"""Contract of JobStore.add: a job is written once, and a unique key goes to one job at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core.model.backoff import Exponential
from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Added, JobStore, Settled
from relayq_core.testing import ManualClock
from tests.support.factories import NOW, a_cancellation, a_job, completion

MINUTE = 60_000
Claimed = Callable[..., JobRecord]


def keyed(**changes: object) -> JobRecord:
    """A job with a unique key that is held until it ends."""
    return a_job(**{"unique_pk": "unique#send_email#welcome:7", **changes})


def test_a_new_job_reads_back_as_it_was_given(store: JobStore) -> None:
    """What is lost on the way into the table is lost for the runner."""
    record = a_job(
        max_attempts=7,
        backoff=Exponential(10, cap=3600, jitter=0.1),
        timeout_ms=60_000,
        payload_json='{"to":"a@b.c","text":"ünïcödé \\u0000"}',
        parent_id="job-0",
        root_id="job-0",
        depth=1,
        trace_id="1-67891233-abcdef012345678912345678",
    )
    assert store.add(record) == Added()
    assert store.get(record.id) == record


def test_an_id_that_is_taken_answers_with_the_row_that_has_it(store: JobStore) -> None:
    """A dispatch whose answer was lost meets its own row, and must be able to distinguish it from another's."""
    first = a_job(payload_json='{"n":1}')
    store.add(first)
    assert store.add(a_job(payload_json='{"n":2}')) == Added(found=first)
    assert store.get(first.id) == first


def test_an_id_whose_job_has_ended_stays_taken(store: JobStore, claimed: Claimed) -> None:
    """Dispatching again with the same id is safe while the row is kept: it must not run twice."""
    before = claimed()
    store.settle(before, completion(before))
    found = store.add(a_job()).found
    assert found is not None
    assert found.status is Status.COMPLETED


def test_an_id_whose_row_has_expired_is_free(store: JobStore, claimed: Claimed, clock: ManualClock) -> None:
    """TTL deletes days late; until then an expired row counts as absent."""
    before = claimed()
    done = completion(before)
    store.settle(before, done)
    assert done.after.expires_at is not None
    clock.advance(seconds=done.after.expires_at - NOW // 1000 - 1)
    assert store.add(a_job()).found is not None
    clock.advance(seconds=1)
    assert store.add(a_job()) == Added()
    assert store.get("job-1") == a_job()


def test_a_unique_key_that_is_taken_answers_with_its_holder(store: JobStore) -> None:
    """The duplicate's caller gets the first job's id, and nothing is written."""
    store.add(keyed(id="first"))
    assert store.add(keyed(id="second")) == Added(holder="first")
    assert store.get("second") is None


@pytest.mark.parametrize("window", [None, MINUTE])
def test_a_unique_key_is_mine_for_a_second_try(store: JobStore, window: int | None) -> None:
    """My own row is judged before the key: an accepted dispatch is never called a duplicate of itself."""
    mine = keyed(unique_for_ms=window)
    store.add(mine)
    assert store.add(mine) == Added(found=mine)


def test_keys_of_different_jobs_do_not_meet(store: JobStore) -> None:
    """Each key has an item of its own."""
    assert store.add(keyed(id="first")) == Added()
    assert store.add(keyed(id="second", unique_pk="unique#send_email#welcome:8")) == Added()


def test_a_window_ends_by_the_clock_though_its_item_still_stands(store: JobStore, clock: ManualClock) -> None:
    """An expired unique item counts as absent: TTL may take days to delete it."""
    store.add(keyed(id="first", unique_for_ms=5 * MINUTE))
    clock.advance(minutes=5, milliseconds=-1)
    assert store.add(keyed(id="second", unique_for_ms=5 * MINUTE)) == Added(holder="first")
    clock.advance(seconds=1)
    assert store.add(keyed(id="second", unique_for_ms=5 * MINUTE)) == Added()
    assert store.add(keyed(id="third")) == Added(holder="second")


def test_a_window_holds_although_its_job_has_ended(store: JobStore, claimed: Claimed, clock: ManualClock) -> None:
    """A window is a promise about time, not about the job."""
    before = claimed(id="first", unique_pk="unique#send_email#welcome:7", unique_for_ms=5 * MINUTE)
    assert store.settle(before, completion(before)) is Settled.DONE
    assert store.add(keyed(id="second")) == Added(holder="first")
    clock.advance(minutes=6)
    assert store.add(keyed(id="second")) == Added()


def test_a_key_without_a_window_outlasts_any_time(store: JobStore, clock: ManualClock) -> None:
    """It is held until its job ends, however long that takes."""
    store.add(keyed(id="first"))
    clock.advance(days=400)
    assert store.add(keyed(id="second")) == Added(holder="first")


def test_a_duplicate_whose_id_is_taken_by_another_job_learns_of_the_row(store: JobStore) -> None:
    """Both conditions fail; the row under my id is judged first."""
    store.add(keyed(id="holder"))
    other = a_job(id="mine", payload_json='{"other":1}')
    store.add(other)
    assert store.add(keyed(id="mine")) == Added(found=other)


def test_a_cancelled_job_frees_its_key(store: JobStore) -> None:
    """Whatever ends a job releases the key it held."""
    first = keyed(id="first")
    store.add(first)
    assert store.cancel_waiting(first, a_cancellation(first))
    assert store.add(keyed(id="second")) == Added()
