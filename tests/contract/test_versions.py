"""Rows of a newer version: what this one does not know it keeps, and what it is not able to do it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relayq_core import RelayQ, Settings
from relayq_core.errors import StoreError, UnreadableRow
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import CAN, JobRecord, Status, compute_shard
from relayq_core.ports import Added, JobStore, Settled
from relayq_core.testing import ManualClock, MemoryStore, RecordingHandoff
from tests.contract.engines import Tables
from tests.support.factories import (
    NOW,
    a_burial,
    a_cancellation,
    a_deletion,
    a_job,
    a_lease,
    a_redrive,
    a_release,
    a_retry,
    a_return,
    a_snooze,
    completion,
)

Claimed = Callable[..., JobRecord]
Make = Callable[[JobRecord], Settlement]

#: Of every type that an attribute may have.
EXTRA: dict[str, Any] = {
    "batch_id": {"S": "b1"},
    "slots": {"L": [{"S": "a"}, {"N": "1"}]},
    "held": {"M": {"lease": {"S": "x"}}},
    "next_jobs": {"SS": ["a", "b"]},
    "is_paused": {"BOOL": True},
}
SETTLES: list[Make] = [completion, a_retry, a_snooze, a_return, a_release, a_cancellation]
KEY = "unique#send_email#welcome:7"


def relayq_on(store: JobStore, clock: ManualClock) -> RelayQ:
    """Everything above a store."""
    named = Settings(jobs_table="j", failed_table="f", runner_function="r")
    return RelayQ(named, store=store, handoff=RecordingHandoff(), clock=clock)


# --- attributes that are not known here ---


@pytest.mark.parametrize("make", SETTLES)
def test_what_is_not_known_here_survives_every_settle(store: JobStore, claimed: Claimed, make: Make) -> None:
    """A newer version wrote it, and will look for it."""
    before = claimed(extra=EXTRA)
    assert store.settle(before.evolve(extra=None), make(before.evolve(extra=None))) is Settled.DONE
    after = store.get(before.id)
    assert after is not None
    assert after.extra == EXTRA


@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_not_known_here_survives_burial_and_redrive(store: JobStore, claimed: Claimed, key: str | None) -> None:
    """Even where who buries has not seen it: the row is buried as it is."""
    before = claimed(extra=EXTRA, unique_pk=key)
    burial = a_burial(before.evolve(extra=None))
    assert store.settle(before.evolve(extra=None), burial) is Settled.DONE
    failed = store.get_failed(before.id)
    assert failed is not None
    assert failed.extra == EXTRA
    assert store.redrive(failed, a_redrive(failed)) == Added()
    again = store.get(before.id)
    assert again is not None
    assert (again.status, again.extra) == (Status.PENDING, EXTRA)


def test_what_is_not_known_here_survives_a_cancel_of_a_waiting_job(store: JobStore) -> None:
    """It survives a claim as well."""
    store.add(a_job(extra=EXTRA))
    waiting = store.get("job-1")
    assert waiting is not None
    assert store.cancel_waiting(waiting, a_cancellation(waiting))
    after = store.get("job-1")
    assert after is not None
    assert after.extra == EXTRA


def test_a_repr_shows_nothing_of_it() -> None:
    """It may be the user's data."""
    assert "b1" not in repr(a_job(extra=EXTRA))


# --- progress, which is written beside the claim ---


@pytest.mark.parametrize("make", [*SETTLES, a_burial])
@pytest.mark.parametrize("earlier", [None, '{"fraction":0.2,"note":"attempt 1"}'])
def test_every_settle_keeps_the_progress_of_its_attempt(
    store: JobStore, claimed: Claimed, make: Make, earlier: str | None
) -> None:
    """Who looks at a failed job wants to know where it stopped; the runner's record is as old as its claim."""
    before = claimed(progress_json=earlier)
    assert store.save_progress(before, '{"fraction":0.9,"note":"now"}')
    assert store.settle(before, make(before)) is Settled.DONE
    after = store.get(before.id) or store.get_failed(before.id)
    assert after is not None
    assert after.progress == {"fraction": 0.9, "note": "now"}


def test_a_row_that_became_unreadable_is_buried_with_what_can_be_read(
    store: JobStore, claimed: Claimed, spoil: Callable[[str], None]
) -> None:
    """Its runner knows the rest from the claim."""
    before = claimed(extra=EXTRA, progress_json='{"fraction":0.2,"note":"earlier"}')
    assert store.save_progress(before, '{"fraction":0.9,"note":"now"}')
    spoil(before.id)
    burial = a_burial(before.evolve(extra=None))
    assert store.settle(before.evolve(extra=None), burial) is Settled.DONE
    failed = store.get_failed(before.id)
    assert failed is not None
    assert (failed.progress, failed.extra) == ({"fraction": 0.9, "note": "now"}, EXTRA)
    assert failed.error == burial.after.error


# --- needs ---

ABLE = [None, CAN]


@pytest.mark.parametrize("needs", [*ABLE, CAN + 1, CAN + 7])
def test_a_job_is_claimed_only_by_who_is_able_to(store: JobStore, needs: int | None) -> None:
    """The refusal shows the row, so that it is left alone."""
    store.add(a_job(needs=needs))
    answer = store.claim("job-1", a_lease())
    assert answer.done is (needs in ABLE)
    assert answer.record is not None
    assert (answer.record.needs or 0) == (needs or 0)
    assert answer.record.is_newer is not answer.done


@pytest.mark.parametrize("make", [*SETTLES, a_burial])
def test_a_job_that_came_to_need_more_is_not_ended_here(clock: ManualClock, make: Make) -> None:
    """The sweeper, which finds its lease run out, does not end it either."""
    store = MemoryStore(clock)
    store.add(a_job(unique_pk=KEY))
    before = store.claim("job-1", a_lease()).record
    assert before is not None
    row = store.jobs["job-1"] = before.evolve(needs=CAN + 1)
    assert store.settle(before, make(before)) is Settled.LOST
    assert (store.get("job-1"), store.get_failed("job-1")) == (row, None)
    assert store.settle(before, a_deletion(before)) is Settled.LOST
    assert not store.mark_cancelled(before, NOW).done


@pytest.mark.parametrize("make", [*SETTLES, a_burial])
@pytest.mark.parametrize("key", [None, KEY])
def test_no_engine_ends_a_job_that_came_to_need_more(
    tables: Tables, clock: ManualClock, make: Make, key: str | None
) -> None:
    """The same where conditions are expressions."""
    store = tables.store(clock)
    store.add(a_job(unique_pk=key))
    before = store.claim("job-1", a_lease()).record
    assert before is not None
    tables.edit("job-1", needs={"N": str(CAN + 1)})
    row = tables.item("job-1")
    assert store.settle(before, make(before)) is Settled.LOST
    assert store.settle(before, a_deletion(before)) is Settled.LOST
    assert not store.mark_cancelled(before, NOW).done
    assert (tables.item("job-1"), store.get_failed("job-1")) == (row, None)


def test_a_waiting_job_that_needs_more_is_not_cancelled_here(store: JobStore, clock: ManualClock) -> None:
    """Who asks is shown the job as it is."""
    job = a_job(needs=CAN + 1)
    store.add(job)
    assert not store.cancel_waiting(job, a_cancellation(job))
    assert relayq_on(store, clock).cancel("job-1") == job
    assert store.get("job-1") == job


def test_a_failed_job_that_needs_more_is_not_brought_back_here(store: JobStore, clock: ManualClock) -> None:
    """It would begin without what it needs; the sentence says what to do."""
    store.add(a_job())
    before = store.claim("job-1", a_lease()).record
    assert before is not None
    burial = a_burial(before.evolve(needs=CAN + 1))
    assert store.settle(before, burial) is Settled.DONE
    failed = store.get_failed("job-1")
    assert failed is not None
    assert store.redrive(failed, a_redrive(failed)) is None
    with pytest.raises(StoreError, match="redrive it with a newer one"):
        relayq_on(store, clock).redrive("job-1")
    assert store.get_failed("job-1") == failed


def test_a_lease_that_ran_out_on_a_job_that_needs_more_is_looked_at_in_a_minute(
    tables: Tables, clock: ManualClock
) -> None:
    """It is not looked at at each tick, and not in an hour: a newer sweeper may come with the deploy under way."""
    store = tables.store(clock)
    store.register_queue("emails")
    store.add(a_job(due_at=NOW))
    store.claim("job-1", a_lease())
    tables.edit("job-1", needs={"N": str(CAN + 1)})
    clock.advance(minutes=10)
    relayq = relayq_on(store, clock)
    assert relayq.sweeper.sweep(clock.countdown(seconds=150)).counts == {"postponed": 1}
    after = store.get("job-1")
    assert after is not None
    assert after.due_at == clock.now() + 60_000


def test_a_worker_puts_a_job_that_needs_more_out_of_its_way(store: JobStore, clock: ManualClock) -> None:
    """It would meet the same row at each look, and never what is due after it."""
    store.add(a_job(needs=CAN + 1, due_at=NOW))
    (row,) = store.list_due(compute_shard("emails", "job-1"), NOW, 10).rows
    answer = store.claim("job-1", a_lease())
    assert relayq_on(store, clock).sweeper.rows.sweep_running(row, answer.record) == "postponed"
    assert store.list_due(compute_shard("emails", "job-1"), NOW, 10).rows == ()


# --- a status that is not known here ---


@pytest.fixture
def paused(tables: Tables, clock: ManualClock) -> RelayQ:
    """A job with a status of some newer version, and a good one."""
    store = tables.store(clock)
    store.register_queue("emails")
    store.add(a_job(due_at=NOW))
    store.add(a_job(id="good", due_at=NOW + 1))
    tables.edit("job-1", status={"S": "paused"})
    return relayq_on(store, clock)


def test_a_status_that_is_not_known_is_shown_as_it_is(paused: RelayQ) -> None:
    """By get, and in lists; and to cancel it changes nothing."""
    for record in (paused.get("job-1"), paused.cancel("job-1"), *paused.store.get_many(["job-1"])):
        assert record is not None
        assert (record.status, record.status.value) == ("paused", "paused")
        assert (record.status.is_waiting, record.status.is_ended, record.is_newer) == (False, False, True)
    assert "paused" not in [status.value for status in Status]
    assert {record.id for record in paused.live()} == {"job-1", "good"}


def test_a_status_that_is_not_known_keeps_the_sweeper_from_nothing(
    paused: RelayQ, tables: Tables, clock: ManualClock
) -> None:
    """It is looked at again in a minute, and is otherwise as it was."""
    clock.advance(seconds=1)
    assert paused.sweeper.sweep(clock.countdown(seconds=150)).counts == {"postponed": 1, "nudged": 1}
    assert tables.item("job-1")["due_at"] == {"N": str(clock.now() + 60_000)}
    assert tables.item("job-1")["status"] == {"S": "paused"}


def test_a_status_that_is_not_known_is_not_claimed(paused: RelayQ) -> None:
    """By a late handoff."""
    answer = paused.store.claim("job-1", a_lease())
    assert not answer.done
    assert answer.record is not None
    assert answer.record.status == "paused"


# --- rows that make no sense ---


def test_a_running_row_without_the_end_of_its_lease_is_unreadable(tables: Tables, clock: ManualClock) -> None:
    """Taken for over, a live lease would be ended at once, and a second handler begin."""
    store = tables.store(clock)
    store.add(a_job(due_at=NOW))
    store.claim("job-1", a_lease())
    for missing in ("lease_until", "lease_id"):
        value = tables.item("job-1")[missing]
        tables.remove("job-1", missing)
        with pytest.raises(UnreadableRow, match="has no lease"):
            store.get("job-1")
        store.register_queue("emails")
        clock.advance(minutes=1)
        assert relayq_on(store, clock).sweeper.sweep(clock.countdown(seconds=150)).counts == {"unreadable": 1}
        tables.edit("job-1", **{missing: value}, due_at={"N": str(NOW)})


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.FAILED] + ["paused"])
def test_a_row_among_the_failed_that_has_not_failed_is_unreadable(
    tables: Tables, clock: ManualClock, status: str
) -> None:
    """To redrive it would put a job beside itself."""
    store = tables.store(clock)
    store.add(a_job())
    before = store.claim("job-1", a_lease()).record
    assert before is not None
    store.settle(before, a_burial(before))
    tables.client.update_item(
        TableName=tables.failed,
        Key={"id": {"S": "job-1"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": str(status)}},
    )
    with pytest.raises(UnreadableRow, match="cannot be read: it"):
        store.get_failed("job-1")
    with pytest.raises(UnreadableRow):
        relayq_on(store, clock).redrive("job-1")
    assert store.get("job-1") is None


# --- a redrive that comes late ---


def test_a_redrive_brings_back_only_the_failure_that_was_seen(store: JobStore) -> None:
    """A late one would bring back what failed since, with the record of the earlier failure."""
    failures = []
    store.add(a_job())
    for attempt in range(2):
        running = store.claim("job-1", a_lease(f"lease-{attempt}")).record
        assert running is not None
        assert store.settle(running, a_burial(running, f"ValueError: {attempt}")) is Settled.DONE
        failed = store.get_failed("job-1")
        assert failed is not None
        failures.append(failed)
        if attempt == 0:
            assert store.redrive(failed, a_redrive(failed)) == Added()
    assert store.redrive(failures[0], a_redrive(failures[0])) is None
    assert store.get_failed("job-1") == failures[1]
    assert store.redrive(failures[1], a_redrive(failures[1])) == Added()
