"""Contract of what operators ask: get, lists, cancel, redrive, forget."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, Status, compute_shard
from relayq_core.ports import Added, Answer, JobStore, Settled
from relayq_core.testing import ManualClock
from tests.contract.engines import Tables
from tests.support.factories import (
    NOW,
    a_burial,
    a_cancellation,
    a_job,
    a_lease,
    a_redrive,
    a_retry,
    a_return,
    completion,
)

Claimed = Callable[..., JobRecord]
KEY = "unique#send_email#welcome:7"


@pytest.fixture
def buried(store: JobStore, claimed: Claimed) -> Callable[..., JobRecord]:
    """A job that has failed; keywords are the job's."""

    def bury(*, error: str = "ValueError: no", at: int = NOW, **changes: object) -> JobRecord:
        before = claimed(**changes)
        burial = a_burial(before, error, now=at)
        assert store.settle(before, burial) is Settled.DONE
        return burial.after

    return bury


# --- get ---


def test_a_job_that_is_not_there_is_none(store: JobStore) -> None:
    """A missing job is an everyday answer, no error."""
    assert store.get("nobody") is None
    assert store.get_failed("nobody") is None


@pytest.mark.parametrize("make", [completion, a_cancellation])
def test_an_expired_job_is_none_though_its_row_still_stands(
    store: JobStore, claimed: Claimed, clock: ManualClock, make: Callable[[JobRecord], Settlement]
) -> None:
    """TTL deletes days late; what one sees must not depend on that."""
    before = claimed()
    store.settle(before, make(before))
    clock.advance(days=7, seconds=-1)
    assert store.get(before.id) is not None
    clock.advance(seconds=1)
    assert store.get(before.id) is None
    assert store.get_many([before.id]) == []


def test_an_expired_failure_is_none(store: JobStore, buried: Claimed, clock: ManualClock) -> None:
    """The same holds in the failed table."""
    buried()
    clock.advance(days=90, seconds=-1)
    assert store.get_failed("job-1") is not None
    clock.advance(seconds=1)
    assert store.get_failed("job-1") is None


def test_more_than_a_hundred_jobs_are_read_at_once(store: JobStore) -> None:
    """DynamoDB answers a hundred at a time; callers do not have to know."""
    for n in range(105):
        store.add(a_job(id=f"job-{n}"))
    wanted = [f"job-{n}" for n in range(105)]
    assert sorted(record.id for record in store.get_many([*wanted, "nobody", "job-1"])) == sorted(wanted)
    assert store.get_many([]) == []


# --- failed ---


def test_failures_are_listed_newest_first_by_queue(store: JobStore, buried: Claimed) -> None:
    """What broke last is what one looks for."""
    for n in range(5):
        buried(id=f"job-{n}", at=NOW + n)
    buried(id="other", queue="reports")
    found = list(islice(store.list_failed("emails", 3), 3))
    assert [record.id for record in found] == ["job-4", "job-3", "job-2"]
    assert [record.id for record in store.list_failed("emails", 2)] == ["job-4", "job-3", "job-2", "job-1", "job-0"]
    assert [record.id for record in store.list_failed("reports", 10)] == ["other"]
    assert list(store.list_failed("nothing", 10)) == []


def test_failures_are_listed_from_a_moment_on(store: JobStore, buried: Claimed) -> None:
    """A caller that goes on where a list ended reads nothing from before; of that very moment all come again."""
    for n in range(6):
        buried(id=f"job-{n}", at=NOW + n // 2)
    buried(id="other", queue="reports")
    assert {record.id for record in store.list_failed("emails", 2, NOW + 1)} == {"job-0", "job-1", "job-2", "job-3"}
    assert [record.finished_at for record in store.list_failed("emails", 1, NOW + 1)] == [NOW + 1, NOW + 1, NOW, NOW]
    assert list(store.list_failed("emails", 10, NOW - 1)) == []


def test_what_is_newer_than_the_moment_is_not_read(tables: Tables, clock: ManualClock) -> None:
    """It is a condition of the key: a filter would read them all, and they are paid for."""
    store, counted = tables.store(clock), []
    for n in range(30):
        job = a_job(id=f"job-{n}")
        store.add(job)
        before = store.claim(job.id, a_lease(f"lease-{n}", now=NOW)).record
        assert before is not None
        store.settle(before, a_burial(before, now=NOW + n))
    tables.client.meta.events.register(
        "after-call.dynamodb.Query", lambda parsed, **_: counted.append(parsed["ScannedCount"])
    )
    assert [job.id for job in store.list_failed("emails", 100, NOW + 1)] == ["job-1", "job-0"]
    assert counted == [2]


def test_the_list_of_failures_shows_heads(store: JobStore, buried: Claimed) -> None:
    """A list of payloads would be megabytes: it shows name, attempt, time and the head of the error."""
    buried(error="ValueError: " + "x" * 5_000, payload_json='{"secret":"s"}', at=NOW + 5)
    (head,) = store.list_failed("emails", 10)
    assert (head.id, head.name, head.queue, head.attempt, head.status, head.finished_at) == (
        "job-1",
        "send_email",
        "emails",
        1,
        Status.FAILED,
        NOW + 5,
    )
    assert head.payload == {}
    assert head.error is not None
    assert head.error.startswith("ValueError: xxx")
    assert len(head.error) <= 200


def test_the_head_of_an_error_is_its_first_200_bytes(store: JobStore, buried: Claimed) -> None:
    """An operator who looks for a word among them finds it, though a traceback follows; no character is cut in half."""
    begins = "HTTPError: " + "x" * 120 + " answered 503 " + "x" * 53
    buried(error=begins + "\N{SNOWMAN} and more\n  at /var/task/jobs/billing.py:88 in charge" + "y" * 200)
    (head,) = store.list_failed("emails", 10)
    assert len(begins.encode()) == 198
    assert head.error == begins


# --- cancel ---


def test_a_waiting_job_is_cancelled_and_leaves_the_index(store: JobStore) -> None:
    """It is never started."""
    job = a_job()
    store.add(job)
    cancellation = a_cancellation(job)
    assert store.cancel_waiting(job, cancellation)
    assert store.get(job.id) == cancellation.after
    assert store.list_due(compute_shard(job.queue, job.id), 10**15, 10).rows == ()


def test_a_cancel_of_a_waiting_job_is_refused_once_it_runs(store: JobStore) -> None:
    """A runner came first: the cancel has to look again, and mark."""
    job = a_job()
    store.add(job)
    running = store.claim(job.id, a_lease()).record
    assert not store.cancel_waiting(job, a_cancellation(job))
    assert store.get(job.id) == running


def test_a_cancel_is_refused_where_another_attempt_has_passed(store: JobStore, claimed: Claimed) -> None:
    """It waits again, but not as it did: what the cancel would write is of yesterday."""
    job = a_job()
    before = claimed()
    retry = a_retry(before)
    store.settle(before, retry)
    assert not store.cancel_waiting(job, a_cancellation(job))
    assert store.get(job.id) == retry.after


def test_a_cancel_survives_a_nudge_that_came_between(store: JobStore) -> None:
    """The sweeper only moved its next look."""
    job = a_job()
    store.add(job)
    (row,) = store.list_due(compute_shard(job.queue, job.id), 10**15, 10).rows
    store.nudge(row, 0, NOW + 60_000)
    assert store.cancel_waiting(job, a_cancellation(job))
    assert store.list_due(compute_shard(job.queue, job.id), 10**15, 10).rows == ()


def test_a_cancel_of_a_job_that_is_not_there_makes_no_row(store: JobStore) -> None:
    """An update would."""
    assert not store.cancel_waiting(a_job(), a_cancellation(a_job()))
    assert store.get("job-1") is None


def test_a_running_job_is_marked(store: JobStore, claimed: Claimed) -> None:
    """It goes on, but its failure will end it."""
    before = claimed()
    marked = before.evolve(cancel_requested_at=NOW)
    assert store.mark_cancelled(before, NOW) == Answer(True, marked)
    assert store.get(before.id) == marked


def test_a_mark_for_an_earlier_attempt_is_refused(store: JobStore, claimed: Claimed) -> None:
    """The job has been settled since; the cancel looks again."""
    before = claimed()
    settlement = a_return(before)
    store.settle(before, settlement)
    assert store.mark_cancelled(before, NOW) == Answer(False, settlement.after)
    assert store.mark_cancelled(a_job(id="nobody"), NOW) == Answer(False, None)


# --- redrive and forget ---


def test_a_redriven_job_is_new_but_for_its_id(store: JobStore, buried: Claimed) -> None:
    """One transaction: it leaves the failed table and waits in the other."""
    failed = buried(payload_json='{"to":"a@b.c"}')
    settlement = a_redrive(failed, now=NOW + 60_000)
    assert store.redrive(failed, settlement) == Added()
    assert store.get(failed.id) == settlement.after
    assert store.get_failed(failed.id) is None
    assert store.list_due(compute_shard(failed.queue, failed.id), 10**15, 10).rows[0].due_at == settlement.after.due_at


def test_a_redriven_job_runs_and_fails_again(store: JobStore, buried: Claimed) -> None:
    """The second failure takes the first one's place."""
    failed = buried()
    store.redrive(failed, a_redrive(failed))
    again = store.claim(failed.id, a_lease("lease-2")).record
    assert again is not None
    assert again.attempt == 1
    burial = a_burial(again, "KeyError: still")
    assert store.settle(again, burial) is Settled.DONE
    assert store.get_failed(failed.id) == burial.after


def test_a_redrive_takes_its_key_again(store: JobStore, buried: Claimed) -> None:
    """While it lives again, a dispatch with the key is a duplicate of it."""
    failed = buried(unique_pk=KEY)
    assert store.redrive(failed, a_redrive(failed)) == Added()
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added(holder=failed.id)


def test_a_redrive_whose_key_is_taken_is_refused_with_the_holder(store: JobStore, buried: Claimed) -> None:
    """There is at most one job per key; the failure stays where it is."""
    failed = buried(unique_pk=KEY)
    store.add(a_job(id="next", unique_pk=KEY))
    assert store.redrive(failed, a_redrive(failed)) == Added(holder="next")
    assert store.get(failed.id) is None
    assert store.get_failed(failed.id) == failed


def test_a_redrive_renews_its_own_window(store: JobStore, buried: Claimed, clock: ManualClock) -> None:
    """The window is still its own: it may have it, counted from now."""
    failed = buried(unique_pk=KEY, unique_for_ms=300_000)
    clock.advance(minutes=4)
    assert store.redrive(failed, a_redrive(failed)) == Added()
    clock.advance(minutes=4)
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added(holder=failed.id)


def test_a_redrive_of_what_is_not_there_is_none(store: JobStore, buried: Claimed) -> None:
    """It was forgotten since the operator read it."""
    failed = buried(unique_pk=KEY)
    store.forget(failed.id)
    assert store.redrive(failed, a_redrive(failed)) is None
    assert store.get(failed.id) is None
    assert store.add(a_job(id="next", unique_pk=KEY)) == Added()


def test_a_repeated_redrive_answers_with_the_job_that_lives(store: JobStore, buried: Claimed) -> None:
    """Two operators, or one whose answer was lost: it is brought back once."""
    failed = buried(unique_pk=KEY)
    settlement = a_redrive(failed)
    store.redrive(failed, settlement)
    assert store.redrive(failed, settlement) == Added(found=settlement.after)


def test_a_forgotten_failure_is_gone(store: JobStore, buried: Claimed) -> None:
    """For good; a second time there is none."""
    failed = buried()
    assert store.forget(failed.id)
    assert store.get_failed(failed.id) is None
    assert list(store.list_failed("emails", 10)) == []
    assert not store.forget(failed.id)
