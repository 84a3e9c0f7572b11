"""Contract of JobStore.add_many: jobs written in one call, none over a row that is there, and no error but False."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core.errors import JobTimeout
from relayq_core.model.backoff import Exponential
from relayq_core.model.record import JobRecord, Status, compute_shard
from relayq_core.ports import Added, JobStore
from relayq_core.testing import ManualClock
from tests.contract.engines import Tables
from tests.contract.faults import Refusal, answers_lost, never_sent, recorded, refusing
from tests.support.factories import NOW, a_job, completion

Claimed = Callable[..., JobRecord]


def some(count: int, **changes: object) -> list[JobRecord]:
    """Make `count` jobs."""
    return [a_job(**{"id": f"job-{number}", **changes}) for number in range(1, count + 1)]


def all_written(store: JobStore, records: list[JobRecord]) -> None:
    """By the batch, or alone where the engine knows no batch: that is what a dispatcher does with a False."""
    answers = store.add_many(records)
    assert [done or store.add(record) == Added() for done, record in zip(answers, records, strict=True)] == [
        True
    ] * len(records)


def test_jobs_read_back_as_they_were_given(store: JobStore) -> None:
    """Whatever a row can hold, the index included."""
    records = some(
        25,
        max_attempts=7,
        backoff=Exponential(10, cap=3600, jitter=0.1),
        timeout_ms=60_000,
        payload_json='{"to":"a@b.c","text":"ünïcödé \\u0000"}',
        parent_id="job-0",
        root_id="job-0",
        depth=1,
    )
    all_written(store, records)
    assert sorted(store.get_many(record.id for record in records), key=lambda record: record.id) == sorted(
        records, key=lambda record: record.id
    )
    assert [
        row.job_id for row in store.list_due(compute_shard("emails", "job-1"), NOW + 60_000, 30).rows if row.job_id
    ] != []


def test_a_row_that_is_there_is_left_as_it_is(store: JobStore, claimed: Claimed) -> None:
    """A batch that is sent again when its jobs have run must not put them back to their beginning."""
    before = claimed()
    store.settle(before, completion(before))
    assert store.add_many([a_job()]) == [False]
    found = store.get("job-1")
    assert found is not None
    assert found.status is Status.COMPLETED


def test_one_that_is_refused_keeps_no_other_from_being_written(store: JobStore) -> None:
    """Each has an answer of its own."""
    first, *others = some(3)
    store.add(first)
    answers = store.add_many([first, *others])
    assert answers[0] is False
    for done, record in zip(answers[1:], others, strict=True):
        assert done == (store.get(record.id) is not None)


# --- on Amazon's own engine, which knows PartiQL ---


def test_it_is_one_call_for_twenty_five(local_tables: Tables, clock: ManualClock) -> None:
    """It reads nothing."""
    store = local_tables.store(clock)
    with recorded(local_tables.client) as calls:
        assert store.add_many(some(25)) == [True] * 25
    assert calls == ["BatchExecuteStatement"]


def test_large_payloads_fit_into_one_call(local_tables: Tables, clock: ManualClock) -> None:
    """Twenty-five of the largest."""
    store = local_tables.store(clock)
    assert store.add_many(some(25, payload_json='{"text":"' + "x" * 299_000 + '"}')) == [True] * 25


@pytest.mark.parametrize("times", [1, 4])
def test_an_answer_that_was_lost_is_no_certainty_and_no_harm(
    local_tables: Tables, clock: ManualClock, times: int
) -> None:
    """The SDK sends it again, and every row is refused by itself; alone, each recognises its own first try."""
    store = local_tables.store(clock)
    with answers_lost(local_tables.client, "BatchExecuteStatement", times):
        assert store.add_many(some(3)) == [False] * 3
    assert store.add(some(3)[0]) == Added(found=some(3)[0])
    assert store.add_many(some(5)[3:]) == [True] * 2


def test_a_call_that_never_arrived_writes_nothing(local_tables: Tables, clock: ManualClock) -> None:
    """The caller tries the next one again."""
    store = local_tables.store(clock)
    with never_sent(local_tables.client, "BatchExecuteStatement", 4):
        assert store.add_many(some(3)) == [False] * 3
    assert store.get("job-1") is None
    assert store.add_many(some(3)) == [True] * 3


def test_without_the_right_to_it_jobs_go_alone_and_it_is_not_asked_again(
    local_tables: Tables, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A DispatchPolicy of an earlier version does not grant it: that costs speed, and no job."""
    store = local_tables.store(clock)
    with refusing(local_tables.client, "BatchExecuteStatement", Refusal("AccessDeniedException")):
        assert store.add_many(some(2)) == [False] * 2
    assert "one by one" in caplog.text
    with recorded(local_tables.client) as calls:
        assert store.add_many(some(2)) == [False] * 2
    assert calls == []


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ValidationException", "ThrottlingException"])
def test_what_may_pass_is_asked_for_again(local_tables: Tables, clock: ManualClock, code: str) -> None:
    """One bad moment, or one batch that is too much, must not slow a process down for as long as it lives."""
    store = local_tables.store(clock)
    with refusing(local_tables.client, "BatchExecuteStatement", Refusal(code)):
        assert store.add_many(some(2)) == [False] * 2
    assert store.add_many(some(2)) == [True] * 2


def test_a_deadline_in_the_middle_of_it_is_the_handlers(
    local_tables: Tables, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JobTimeout is no failure of a batch: it goes through, and the next batch is tried."""
    store = local_tables.store(clock)

    def timed_out(**request: object) -> None:
        raise JobTimeout(1)

    with monkeypatch.context() as patch:
        patch.setattr(local_tables.client, "batch_execute_statement", timed_out)
        with pytest.raises(JobTimeout):
            store.add_many(some(2))
    assert store.add_many(some(2)) == [True] * 2
