"""Contract of JobStore.claim: of many runners one gets the lease, and it may ask twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, Status, compute_shard
from relayq_core.ports import Answer, JobStore, Settled
from relayq_core.testing import ManualClock
from tests.support.factories import (
    NOW,
    a_burial,
    a_cancellation,
    a_job,
    a_lease,
    a_release,
    a_retry,
    a_return,
    a_snooze,
    completion,
)

Claimed = Callable[..., JobRecord]


def test_a_waiting_job_goes_to_the_one_who_asks(store: JobStore) -> None:
    """The claim counts the attempt and takes the lease in one write, so nothing can come between."""
    job = a_job(nudges=3)
    store.add(job)
    taken = job.evolve(
        status=Status.PROCESSING,
        attempt=1,
        lease_id="mine",
        lease_until=NOW + 10_000 + 60_000,
        nudges=0,
        started_at=NOW,
    )
    assert store.claim(job.id, a_lease("mine")) == Answer(True, taken)
    assert store.get(job.id) == taken


def test_the_claim_leaves_the_index_alone(store: JobStore) -> None:
    """Writing due_at at the claim would cost two more index writes for every job."""
    store.add(a_job(due_at=NOW + 30_000))
    answer = store.claim("job-1", a_lease())
    assert answer.record is not None
    assert answer.record.due_at == NOW + 30_000


@pytest.mark.parametrize(("timeout_ms", "budget_ms", "until"), [(None, 60_000, 70_000), (5_000, 60_000, 15_000)])
def test_a_lease_ends_after_the_timeout_or_else_the_budget(
    store: JobStore, timeout_ms: int | None, budget_ms: int, until: int
) -> None:
    """The crash of a short job is noticed soon, that of a job without a timeout when its runner must be gone."""
    store.add(a_job(timeout_ms=timeout_ms))
    answer = store.claim("job-1", Lease("mine", NOW, budget_ms, 10_000))
    assert answer.record is not None
    assert answer.record.lease_until == NOW + until


def test_a_lease_that_is_for_one_name_is_refused_to_a_job_of_another(store: JobStore) -> None:
    """Its time is that of one type: a job of another is to be asked for with its own. The refusal shows the row."""
    job = a_job(name="send_email")
    store.add(job)
    assert store.claim("job-1", Lease("mine", NOW, 5_000, 10_000, name="greet")) == Answer(False, job)
    answer = store.claim("job-1", Lease("mine", NOW, 60_000, 10_000, name="send_email"))
    assert answer.done
    assert answer.record is not None
    assert answer.record.lease_until == NOW + 70_000
    assert store.claim("job-1", Lease("mine", NOW, 60_000, 10_000, name="send_email")) == answer


def test_a_lease_that_is_mine_already_counts_as_taken(store: JobStore) -> None:
    """The SDK asks again when an answer is lost; the second try must not be turned away, nor counted."""
    store.add(a_job())
    first = store.claim("job-1", a_lease("mine"))
    assert store.claim("job-1", a_lease("mine")) == first
    assert first.record is not None
    assert first.record.attempt == 1


def test_a_job_that_is_taken_is_refused_to_others(store: JobStore, claimed: Claimed) -> None:
    """A doubled or late handoff finds the job taken."""
    holder = claimed(lease="first")
    assert store.claim("job-1", a_lease("second")) == Answer(False, holder)


def test_a_job_is_never_taken_before_its_time(store: JobStore, clock: ManualClock) -> None:
    """The refusal shows the row, so that the runner knows how long to sleep."""
    job = a_job(available_at=NOW + 5_000, due_at=NOW + 35_000)
    store.add(job)
    assert store.claim("job-1", a_lease(now=NOW + 4_999)) == Answer(False, job)
    assert store.claim("job-1", a_lease(now=NOW + 5_000)).done


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_job_without_a_delay_is_taken_whatever_its_callers_clock_said(store: JobStore, attempt: int) -> None:
    """Callers are laptops too. From its first attempt on its moments are a runner's."""
    moment = NOW + 30_000
    store.add(a_job(attempt=attempt, created_at=moment, available_at=moment))
    assert store.claim("job-1", a_lease()).done is (attempt == 0)


def test_a_job_that_is_not_there_is_refused_without_a_row(store: JobStore) -> None:
    """The handoff of a job that was deleted since ends quietly."""
    assert store.claim("nobody", a_lease()) == Answer(False, None)


@pytest.mark.parametrize("make", [completion, a_cancellation])
def test_a_job_that_has_ended_is_never_taken_again(
    store: JobStore, claimed: Claimed, make: Callable[[JobRecord], Settlement]
) -> None:
    """No handler starts after its job's success was written."""
    before = claimed()
    assert store.settle(before, make(before)) is Settled.DONE
    answer = store.claim("job-1", a_lease("late"))
    assert not answer.done
    assert answer.record is not None
    assert answer.record.status.is_ended


def test_a_buried_job_is_not_there_to_be_taken(store: JobStore, claimed: Claimed) -> None:
    """It has moved to the failed table."""
    before = claimed()
    assert store.settle(before, a_burial(before)) is Settled.DONE
    assert store.claim("job-1", a_lease("late")) == Answer(False, None)


@pytest.mark.parametrize(("make", "attempt"), [(a_retry, 2), (a_snooze, 1), (a_return, 1), (a_release, 2)])
def test_each_counted_start_raises_the_attempt_by_one(
    store: JobStore, claimed: Claimed, make: Callable[[JobRecord], Settlement], attempt: int
) -> None:
    """A snooze and an unknown name give their count back, a failure and a crash do not."""
    before = claimed()
    settlement = make(before)
    store.settle(before, settlement)
    answer = store.claim("job-1", a_lease("next", now=settlement.after.available_at))
    assert answer.record is not None
    assert answer.record.attempt == attempt


def test_the_claim_of_an_exhausted_job_is_not_counted(store: JobStore, claimed: Claimed) -> None:
    """It starts no handler: it only lets failed() run, so attempts never exceed max_attempts."""
    before = claimed(max_attempts=1)
    settlement = a_release(before)
    assert settlement.after.exhausted
    store.settle(before, settlement)
    answer = store.claim("job-1", a_lease("next"))
    assert answer.record is not None
    assert (answer.record.attempt, answer.record.exhausted) == (1, True)


# --- leases that are renewed ---


@pytest.mark.parametrize("timeout_ms", [None, 5_000, 7_200_000])
def test_a_renewed_lease_is_short_whatever_the_job_may_take(store: JobStore, timeout_ms: int | None) -> None:
    """The death of its worker is noticed within a minute or so; and the index shows the row no earlier than that."""
    store.add(a_job(timeout_ms=timeout_ms, due_at=NOW))
    answer = store.claim("job-1", Lease("mine", NOW, 60_000, 10_000, renewed=True))
    assert answer.record is not None
    assert (answer.record.lease_until, answer.record.due_at) == (NOW + 70_000, NOW + 72_000)
    shard = compute_shard(answer.record.queue, "job-1")
    assert store.list_due(shard, NOW + 71_999, 10).rows == ()
    assert [row.due_at for row in store.list_due(shard, NOW + 72_000, 10).rows] == [NOW + 72_000]
    assert store.claim("job-1", Lease("mine", NOW, 60_000, 10_000, renewed=True)).done


def test_a_heartbeat_renews_the_lease_and_nothing_else(store: JobStore) -> None:
    """One write unit: the index does not hold the lease."""
    store.add(a_job())
    before = store.claim("job-1", a_lease("mine")).record
    assert before is not None
    assert store.renew_lease(before, NOW + 90_000)
    assert store.get("job-1") == before.evolve(lease_until=NOW + 90_000)


def test_only_the_holder_renews_its_lease(store: JobStore) -> None:
    """A runner that lost it hears so, and must end what it runs."""
    store.add(a_job())
    before = store.claim("job-1", a_lease("mine")).record
    assert before is not None
    assert not store.renew_lease(before.evolve(lease_id="another's"), NOW + 90_000)
    store.settle(before, a_retry(before))
    assert not store.renew_lease(before, NOW + 90_000)
    assert not store.renew_lease(before.evolve(id="job-2"), NOW + 90_000)
    again = store.get("job-1")
    assert again is not None
    assert again.lease_until is None
