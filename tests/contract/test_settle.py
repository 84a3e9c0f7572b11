"""Contract of settle and progress: only the holder of the lease writes, and only once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core.model import settling
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, Status, compute_shard
from relayq_core.ports import Added, JobStore, Settled
from relayq_core.testing import ManualClock
from tests.support.factories import (
    NOW,
    POLICY,
    a_burial,
    a_cancellation,
    a_deletion,
    a_job,
    a_lease,
    a_release,
    a_retry,
    a_return,
    a_snooze,
    completion,
)

Claimed = Callable[..., JobRecord]
Make = Callable[[JobRecord], Settlement]

KEY = "unique#send_email#welcome:7"
SETTLES: list[Make] = [completion, a_retry, a_snooze, a_return, a_release, a_cancellation]
ENDS: list[Make] = [completion, a_cancellation]
YIELDING: list[Make] = [a_retry, a_snooze, a_return, a_release]


def index_of(store: JobStore, record: JobRecord) -> list[int]:
    """Where the index shows this job."""
    shard = compute_shard(record.queue, record.id)
    return [row.due_at for row in store.list_due(shard, 10**15, 100).rows if row.job_id == record.id]


def take_over(store: JobStore, before: JobRecord) -> JobRecord:
    """The sweeper releases the lease, and another runner claims the job."""
    released = a_release(before, "sweep-0")
    assert store.settle(before, released) is Settled.DONE
    answer = store.claim(before.id, a_lease("another", now=released.after.available_at))
    assert answer.record is not None
    return answer.record


# --- the holder settles ---


@pytest.mark.parametrize("make", SETTLES)
def test_a_settle_writes_the_job_as_decided(store: JobStore, claimed: Claimed, make: Make) -> None:
    """The row is the decision, field by field; nothing of the lease stays behind."""
    before = claimed(payload_json='{"to":"a@b.c"}', backoff=None)
    settlement = make(before)
    assert store.settle(before, settlement) is Settled.DONE
    assert store.get(before.id) == settlement.after


@pytest.mark.parametrize("make", [a_retry, a_snooze, a_return, a_release])
def test_a_job_that_goes_on_is_in_the_index_at_its_next_look(store: JobStore, claimed: Claimed, make: Make) -> None:
    """Whatever dies from here on, the sweeper finds it."""
    before = claimed()
    settlement = make(before)
    store.settle(before, settlement)
    assert index_of(store, before) == [settlement.after.due_at]


@pytest.mark.parametrize("make", [*ENDS, a_burial])
def test_a_job_that_ended_is_out_of_the_index(store: JobStore, claimed: Claimed, make: Make) -> None:
    """The sweeper reads what lives, never what was."""
    before = claimed()
    store.settle(before, make(before))
    assert index_of(store, before) == []


def test_a_settle_keeps_what_others_wrote_during_the_run(store: JobStore, claimed: Claimed) -> None:
    """Progress and a cancel mark came after the claim; writing the whole row back would erase them."""
    before = claimed()
    store.save_progress(before, '{"fraction":0.5,"note":""}')
    store.mark_cancelled(before, NOW)
    store.settle(before, completion(before, '"done"'))
    after = store.get(before.id)
    assert after is not None
    assert (after.status, after.result, after.cancel_requested_at) == (Status.COMPLETED, "done", NOW)
    assert after.progress == {"fraction": 0.5, "note": ""}


def test_a_settle_keeps_why_there_is_no_result(store: JobStore, claimed: Claimed) -> None:
    """A caller who asks for the job sees the reason."""
    before = claimed()
    store.settle(before, completion(before, problem="40000 bytes, the limit is 32768"))
    after = store.get(before.id)
    assert after is not None
    assert (after.status, after.result) == (Status.COMPLETED, None)
    assert after.result_problem == "40000 bytes, the limit is 32768"


def test_a_settle_overwrites_what_the_sweeper_moved_during_the_run(store: JobStore, claimed: Claimed) -> None:
    """The sweeper postponed a live lease; the retry's own time must stand in the index all the same."""
    before = claimed()
    rows = store.list_due(compute_shard(before.queue, before.id), 10**15, 10).rows
    assert store.postpone(rows[0], NOW + 500_000)
    settlement = a_retry(before, wait=0)
    assert settlement.after.due_at == before.due_at  # what did not change by the decision has changed in the row
    store.settle(before, settlement)
    assert index_of(store, before) == [settlement.after.due_at]


def test_a_success_takes_the_error_of_the_earlier_try_away(store: JobStore, claimed: Claimed) -> None:
    """A completed job shows no error; its history keeps it."""
    before = claimed()
    retry = a_retry(before)
    store.settle(before, retry)
    again = store.claim(before.id, a_lease("next", now=retry.after.available_at)).record
    assert again is not None
    store.settle(again, completion(again))
    after = store.get(before.id)
    assert after is not None
    assert after.error is None
    assert [error["attempt"] for error in after.errors] == [1]


def test_a_completed_job_may_be_deleted_at_once(store: JobStore, claimed: Claimed) -> None:
    """RETENTION_SECONDS=0 keeps nothing."""
    before = claimed()
    assert store.settle(before, a_deletion(before)) is Settled.DONE
    assert store.get(before.id) is None
    assert index_of(store, before) == []


def test_a_buried_job_moves_to_the_failed_table(store: JobStore, claimed: Claimed) -> None:
    """One transaction: it is always in one of the tables, and never in both."""
    before = claimed(payload_json='{"to":"a@b.c"}')
    burial = a_burial(before, "ValueError: \u2603")
    assert store.settle(before, burial) is Settled.DONE
    assert store.get(before.id) is None
    assert store.get_failed(before.id) == burial.after


# --- the fence ---


@pytest.mark.parametrize("make", [*SETTLES, a_burial])
def test_a_stale_runner_cannot_settle_a_job_claimed_again(store: JobStore, claimed: Claimed, make: Make) -> None:
    """Its lease ran out and another holds the job: whatever it brings is late."""
    before = claimed()
    now_running = take_over(store, before)
    assert store.settle(before, make(before)) is Settled.LOST
    assert store.get(before.id) == now_running
    assert store.get_failed(before.id) is None


@pytest.mark.parametrize("make", [*SETTLES, a_burial])
def test_a_stale_runner_cannot_settle_a_job_that_waits_again(store: JobStore, claimed: Claimed, make: Make) -> None:
    """The sweeper released it, and no runner has claimed it yet."""
    before = claimed()
    store.settle(before, a_release(before, "sweep-0"))
    waiting = store.get(before.id)
    assert store.settle(before, make(before)) is Settled.LOST
    assert store.get(before.id) == waiting


@pytest.mark.parametrize("end", [*ENDS, a_burial])
@pytest.mark.parametrize("make", [completion, a_retry, a_burial])
def test_a_stale_runner_cannot_settle_a_job_that_another_ended(
    store: JobStore, claimed: Claimed, make: Make, end: Make
) -> None:
    """Each job ends once."""
    before = claimed()
    other = take_over(store, before)
    store.settle(other, end(other))
    ended = store.get(before.id) or store.get_failed(before.id)
    assert store.settle(before, make(before)) is Settled.LOST
    assert (store.get(before.id) or store.get_failed(before.id)) == ended


def test_a_stale_runner_cannot_delete_a_job_claimed_again(store: JobStore, claimed: Claimed) -> None:
    """The same fence holds where success means deletion."""
    before = claimed()
    other = take_over(store, before)
    assert store.settle(before, a_deletion(before)) is Settled.LOST
    assert store.get(before.id) == other


def test_a_job_that_is_gone_cannot_be_settled(store: JobStore, claimed: Claimed) -> None:
    """Another runner completed it and nothing was kept: a failure that comes late has no row to go to."""
    before = claimed()
    store.settle(before, a_deletion(before))
    assert store.settle(before, a_retry(before)) is Settled.LOST
    assert store.settle(before, a_burial(before)) is Settled.LOST
    assert store.get_failed(before.id) is None


# --- a second try of the same write ---


@pytest.mark.parametrize("make", [*SETTLES, a_burial])
def test_a_settle_recognises_its_own_first_try(store: JobStore, claimed: Claimed, make: Make) -> None:
    """The answer was lost and the SDK sent it again: that is no lost lease, and it changes nothing."""
    before = claimed(unique_pk=KEY)
    settlement = make(before)
    assert store.settle(before, settlement) is Settled.DONE
    assert store.settle(before, settlement) is Settled.DONE
    assert (store.get(before.id) or store.get_failed(before.id)) == settlement.after


def test_a_deletion_recognises_its_own_first_try(store: JobStore, claimed: Claimed) -> None:
    """The row is gone: that is what was asked for."""
    before = claimed(unique_pk=KEY)
    assert store.settle(before, a_deletion(before)) is Settled.DONE
    assert store.settle(before, a_deletion(before)) is Settled.DONE


def test_two_sweepers_that_release_one_lease_release_it_once(store: JobStore, claimed: Claimed) -> None:
    """Ticks may overlap: each has a token of its own, and the second finds the lease gone."""
    before = claimed()
    assert store.settle(before, a_release(before, "sweep-1")) is Settled.DONE
    assert store.settle(before, a_release(before, "sweep-2")) is Settled.LOST


# --- a cancel that came while it ran ---


@pytest.mark.parametrize("make", [*YIELDING, a_burial])
def test_a_failure_gives_way_to_a_cancel_that_came_while_it_ran(store: JobStore, claimed: Claimed, make: Make) -> None:
    """The job is not wanted any more, so it is not tried again, nor called failed."""
    before = claimed()
    marked = store.mark_cancelled(before, NOW).record
    assert store.settle(before, make(before)) is Settled.CANCEL_REQUESTED
    assert store.get(before.id) == marked
    assert store.get_failed(before.id) is None
    assert store.settle(before, a_cancellation(before)) is Settled.DONE
    after = store.get(before.id)
    assert after is not None
    assert (after.status, after.cancel_requested_at) == (Status.CANCELLED, NOW)


def test_a_success_counts_though_a_cancel_came_while_it_ran(store: JobStore, claimed: Claimed) -> None:
    """The work is done; calling it cancelled would be a lie."""
    before = claimed()
    store.mark_cancelled(before, NOW)
    assert store.settle(before, completion(before)) is Settled.DONE


def test_a_success_deletes_though_a_cancel_came_while_it_ran(store: JobStore, claimed: Claimed) -> None:
    """The same where nothing is kept."""
    before = claimed()
    store.mark_cancelled(before, NOW)
    assert store.settle(before, a_deletion(before)) is Settled.DONE


def test_a_lost_lease_is_lost_whether_or_not_a_cancel_came(store: JobStore, claimed: Claimed) -> None:
    """The mark is for the runner that holds the job now."""
    before = claimed()
    other = take_over(store, before)
    store.mark_cancelled(other, NOW)
    assert store.settle(before, a_retry(before)) is Settled.LOST


# --- the unique key ---


@pytest.mark.parametrize("make", [*ENDS, a_burial])
def test_whatever_ends_a_job_releases_the_key_it_held(store: JobStore, claimed: Claimed, make: Make) -> None:
    """Until done means until done: the next dispatch with this key is a new job."""
    before = claimed(unique_pk=KEY)
    assert store.settle(before, make(before)) is Settled.DONE
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added()


def test_a_deletion_releases_the_key(store: JobStore, claimed: Claimed) -> None:
    """RETENTION_SECONDS=0 is no reason to keep a key forever."""
    before = claimed(unique_pk=KEY)
    store.settle(before, a_deletion(before))
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added()


@pytest.mark.parametrize("make", YIELDING)
def test_a_job_that_goes_on_keeps_its_key(store: JobStore, claimed: Claimed, make: Make) -> None:
    """A retry is still the same job."""
    before = claimed(unique_pk=KEY)
    store.settle(before, make(before))
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added(holder=before.id)


@pytest.mark.parametrize("make", [*ENDS, a_burial])
def test_a_window_is_not_released_by_the_end_of_its_job(store: JobStore, claimed: Claimed, make: Make) -> None:
    """unique_for promises a time in which there is no second job."""
    before = claimed(unique_pk=KEY, unique_for_ms=300_000)
    store.settle(before, make(before))
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added(holder=before.id)


@pytest.mark.parametrize("make", [*ENDS, a_burial])
def test_a_key_that_another_job_took_never_blocks_settling(
    store: JobStore, claimed: Claimed, clock: ManualClock, make: Make
) -> None:
    """A redrive under a window that ran out, an edit by hand: the job must still end, and the key is left alone."""
    # the row says: until done; the item says: for a second. Another job takes the key in between
    before = claimed(unique_pk=KEY, unique_for_ms=1_000).evolve(unique_for_ms=None)
    clock.advance(minutes=1)
    assert store.add(a_job(id="other", unique_pk=KEY)) == Added()
    assert store.settle(before, make(before)) is Settled.DONE
    assert store.add(a_job(id="third", unique_pk=KEY)) == Added(holder="other")


def test_a_deletion_is_not_blocked_by_a_key_that_another_job_took(
    store: JobStore, claimed: Claimed, clock: ManualClock
) -> None:
    """The same where nothing is kept."""
    before = claimed(unique_pk=KEY, unique_for_ms=1_000).evolve(unique_for_ms=None)
    clock.advance(minutes=1)
    store.add(a_job(id="other", unique_pk=KEY))
    assert store.settle(before, a_deletion(before)) is Settled.DONE
    assert store.get(before.id) is None


@pytest.mark.parametrize("make", [completion, a_burial])
def test_a_stale_runner_does_not_release_the_key(store: JobStore, claimed: Claimed, make: Make) -> None:
    """All or nothing: a refused settle releases nothing."""
    before = claimed(unique_pk=KEY)
    take_over(store, before)
    assert store.settle(before, make(before)) is Settled.LOST
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added(holder=before.id)


# --- progress ---


def test_progress_is_kept_while_the_lease_holds(store: JobStore, claimed: Claimed, clock: ManualClock) -> None:
    """A caller who asks for the job sees how far it is."""
    before = claimed()
    clock.advance(seconds=3)
    assert store.save_progress(before, '{"fraction":0.25,"note":"a"}')
    after = store.get(before.id)
    assert after == before.evolve(progress_json='{"fraction":0.25,"note":"a"}', updated_at=NOW + 3_000)


def test_progress_of_a_stale_runner_is_refused(store: JobStore, claimed: Claimed) -> None:
    """It would overwrite what the job's present runner says."""
    before = claimed()
    other = take_over(store, before)
    assert not store.save_progress(before, '{"fraction":0.9,"note":""}')
    assert store.get(before.id) == other


def test_progress_of_a_job_that_is_gone_is_refused(store: JobStore, claimed: Claimed) -> None:
    """It must not make a row of its own."""
    before = claimed()
    store.settle(before, a_deletion(before))
    assert not store.save_progress(before, '{"fraction":0.9,"note":""}')
    assert store.get(before.id) is None


# --- what stands in the tables ---


def test_only_ended_rows_expire(store: JobStore, claimed: Claimed) -> None:
    """A time to live on a live row is a loss with a date."""
    before = claimed()
    for make in YIELDING:
        assert make(before).after.expires_at is None
    store.settle(before, completion(before))
    after = store.get(before.id)
    assert after is not None
    assert after.expires_at == settling.compute_expiry(NOW + POLICY.retention_ms)
