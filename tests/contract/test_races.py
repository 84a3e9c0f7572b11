"""Contract under threads: of many who ask at once, one gets it. Not on moto, which is not atomic under threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest

from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Added, Due, JobStore, Settled
from relayq_core.testing import ManualClock, MemoryStore
from tests.contract.engines import LOCAL, Tables
from tests.support.factories import (
    NOW,
    a_burial,
    a_cancellation,
    a_job,
    a_lease,
    a_redrive,
    a_release,
    a_retry,
    completion,
)

T = TypeVar("T")
THREADS = 12
#: A race that could be lost is lost within a few of these.
ROUNDS = 8
KEY = "unique#send_email#welcome:7"


@pytest.fixture(params=["memory", LOCAL])
def store(request: pytest.FixtureRequest, clock: ManualClock) -> JobStore:
    """Every store that promises something under threads."""
    if request.param == "memory":
        return MemoryStore(clock)
    tables: Tables = request.getfixturevalue("local_tables")
    return tables.store(clock)


def all_at_once(ask: Callable[[int], T]) -> list[T]:
    """What each of the threads was answered, all having asked at the same moment."""
    start = Barrier(THREADS)

    def go(n: int) -> T:
        start.wait()
        return ask(n)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(go, range(THREADS)))


def waiting(store: JobStore, n: int) -> JobRecord:
    """A job of its own for each round."""
    job = a_job(id=f"job-{n}", unique_pk=f"{KEY}-{n}")
    assert store.add(job) == Added()
    return job


def running(store: JobStore, n: int) -> JobRecord:
    """The same, claimed."""
    record = store.claim(waiting(store, n).id, a_lease()).record
    assert record is not None
    return record


def test_of_many_runners_one_claims(store: JobStore) -> None:
    """A handoff that is doubled, late and nudged at once starts the job once."""

    def race(job: JobRecord) -> None:
        answers = all_at_once(lambda k: store.claim(job.id, a_lease(f"lease-{k}")))
        (won,) = [answer.record for answer in answers if answer.done]
        assert won is not None
        assert won.attempt == 1
        assert store.get(job.id) == won

    for n in range(ROUNDS):
        race(waiting(store, n))


def test_of_many_dispatches_with_one_key_one_is_accepted(store: JobStore) -> None:
    """All other callers get its id, and leave nothing behind."""

    def race(n: int) -> None:
        ids = [f"job-{n}-{k}" for k in range(THREADS)]
        answers = all_at_once(lambda k: store.add(a_job(id=ids[k], unique_pk=f"{KEY}-{n}")))
        (winner,) = [ids[k] for k, answer in enumerate(answers) if answer == Added()]
        assert {answer.holder for answer in answers} == {None, winner}
        assert [record.id for record in store.get_many(ids)] == [winner]

    for n in range(ROUNDS):
        race(n)


@pytest.mark.parametrize("make", [completion, a_retry, a_burial, a_cancellation])
def test_of_a_runner_and_the_sweepers_one_ends_the_attempt(
    store: JobStore, make: Callable[[JobRecord], Settlement]
) -> None:
    """The lease ran out in the very moment in which its runner settles."""

    def race(before: JobRecord) -> None:
        def settle(k: int) -> Settled:
            settlement = make(before) if k == 0 else a_release(before, f"sweep-{k}")
            return store.settle(before, settlement)

        answers = all_at_once(settle)
        assert answers.count(Settled.DONE) == 1
        assert answers.count(Settled.LOST) == THREADS - 1
        assert (store.get(before.id) is None) != (store.get_failed(before.id) is None)

    for n in range(ROUNDS):
        race(running(store, n))


def test_of_many_sweepers_one_nudges(store: JobStore) -> None:
    """Ticks that overlap invoke a runner once."""

    def race(job: JobRecord) -> None:
        row = Due(NOW + 30_000, job.id, job.queue)
        answers = all_at_once(lambda _: store.nudge(row, 0, NOW + 60_000))
        assert [answer.done for answer in answers].count(True) == 1

    for n in range(ROUNDS):
        race(waiting(store, n))


def test_of_many_operators_one_brings_a_failure_back(store: JobStore) -> None:
    """It is there once, however many press the button."""

    def race(before: JobRecord) -> None:
        failed = a_burial(before).after
        assert store.settle(before, a_burial(before)) is Settled.DONE
        answers = all_at_once(lambda k: store.redrive(failed, a_redrive(failed, now=NOW + k)))
        assert answers.count(Added()) == 1
        row = store.get(before.id)
        assert all(answer is not None and answer.found in (None, row) for answer in answers)
        assert store.get_failed(before.id) is None

    for n in range(ROUNDS):
        race(running(store, n))


def test_of_a_cancel_and_a_claim_one_comes_first(store: JobStore) -> None:
    """A job that is said to be cancelled is never started."""

    def race(job: JobRecord) -> None:
        def ask(k: int) -> bool:
            if k % 2:
                return store.cancel_waiting(job, a_cancellation(job))
            return store.claim(job.id, a_lease(f"lease-{k}")).done

        answers = all_at_once(ask)
        claims, cancels = answers[::2].count(True), answers[1::2].count(True)
        row = store.get(job.id)
        assert row is not None
        assert (claims, cancels) == ((0, 1) if row.status is Status.CANCELLED else (1, 0))

    for n in range(ROUNDS):
        race(waiting(store, n))


def test_a_mark_beside_a_failure_is_either_heeded_or_refused(store: JobStore) -> None:
    """A caller who hears that the cancel is noted can rely on it."""

    def race(before: JobRecord) -> None:
        def write(k: int) -> object:
            if k == 0:
                return store.settle(before, a_retry(before))
            return store.mark_cancelled(before, NOW).done

        settled, *marks = all_at_once(write)
        assert settled is (Settled.CANCEL_REQUESTED if any(marks) else Settled.DONE)

    for n in range(ROUNDS):
        race(running(store, n))
