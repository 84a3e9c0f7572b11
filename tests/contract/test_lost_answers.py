"""DynamoDB did what it was asked and the answer was lost: each write recognises its own first try."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core.errors import StoreUnavailable
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Added, Answer, Due, JobStore, Settled
from relayq_core.testing import ManualClock
from tests.contract.engines import Tables
from tests.contract.faults import answers_lost, never_sent
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

KEY = "unique#send_email#welcome:7"
#: A client tries four times.
TRIES = 4

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def store(tables: Tables, clock: ManualClock) -> JobStore:
    """Only DynamoDB can lose an answer."""
    return tables.store(clock)


@pytest.fixture
def running(store: JobStore) -> Callable[..., JobRecord]:
    """A job that has been claimed."""

    def claim(**changes: object) -> JobRecord:
        store.add(a_job(**changes))
        record = store.claim("job-1", a_lease()).record
        assert record is not None
        return record

    return claim


def test_a_dispatch_meets_its_own_row(store: JobStore, tables: Tables) -> None:
    """The second try is refused by the first one's row, which is equal to what was sent: accepted."""
    with answers_lost(tables.client, "PutItem") as sent:
        assert store.add(a_job()) == Added(found=a_job())
    assert len(sent) == 2


@pytest.mark.parametrize("window", [None, 300_000])
def test_a_dispatch_with_a_key_is_never_a_duplicate_of_itself(
    store: JobStore, tables: Tables, window: int | None
) -> None:
    """Its own key stands in its way; its own row is judged first. (With its token known, the engine says yes.)"""
    mine = a_job(unique_pk=KEY, unique_for_ms=window)
    with answers_lost(tables.client, "TransactWriteItems") as sent:
        assert store.add(mine) in (Added(), Added(found=mine))
    assert len(sent) == 2
    assert sent.bodies[0] == sent.bodies[1]  # one token, one frozen body
    assert store.get(mine.id) == mine


def test_a_duplicate_stays_a_duplicate(store: JobStore, tables: Tables) -> None:
    """Its refusal was lost; asking again gives the same answer."""
    store.add(a_job(id="holder", unique_pk=KEY))
    with answers_lost(tables.client, "TransactWriteItems"):
        assert store.add(a_job(unique_pk=KEY)) == Added(holder="holder")


def test_a_claim_recognises_its_lease(store: JobStore, tables: Tables) -> None:
    """An unconditional count would make two of one start."""
    store.add(a_job())
    with answers_lost(tables.client, "UpdateItem") as sent:
        answer = store.claim("job-1", a_lease("mine"))
    assert len(sent) == 2
    assert answer.done
    assert answer.record is not None
    assert (answer.record.attempt, answer.record.lease_id) == (1, "mine")
    assert answer == Answer(True, store.get("job-1"))


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("make", [completion, a_retry, a_snooze, a_return, a_release, a_cancellation])
def test_a_settle_recognises_its_own_write(
    store: JobStore,
    tables: Tables,
    running: Callable[..., JobRecord],
    make: Callable[[JobRecord], Settlement],
    key: str | None,
) -> None:
    """It is no lost lease: the job is as this runner left it."""
    before = running(unique_pk=key)
    settlement = make(before)
    operation = "TransactWriteItems" if key and settlement.after.status.is_ended else "UpdateItem"
    with answers_lost(tables.client, operation) as sent:
        assert store.settle(before, settlement) is Settled.DONE
    assert len(sent) == 2
    assert store.get(before.id) == settlement.after


@pytest.mark.parametrize("key", [None, KEY])
def test_a_burial_recognises_its_own_write(
    store: JobStore, tables: Tables, running: Callable[..., JobRecord], key: str | None
) -> None:
    """The job is gone from the one table and in the other, settled by this very lease."""
    before = running(unique_pk=key)
    burial = a_burial(before)
    with answers_lost(tables.client, "TransactWriteItems") as sent:
        assert store.settle(before, burial) is Settled.DONE
    assert len(sent) == 2
    assert store.get_failed(before.id) == burial.after


@pytest.mark.parametrize(("key", "operation"), [(None, "DeleteItem"), (KEY, "TransactWriteItems")])
def test_a_deletion_recognises_its_own_write(
    store: JobStore, tables: Tables, running: Callable[..., JobRecord], key: str | None, operation: str
) -> None:
    """The row is gone, as the settle asked."""
    before = running(unique_pk=key)
    with answers_lost(tables.client, operation):
        assert store.settle(before, a_deletion(before)) is Settled.DONE
    assert store.get(before.id) is None


@pytest.mark.parametrize("key", [None, KEY])
def test_a_redrive_recognises_its_own_write(
    store: JobStore, tables: Tables, running: Callable[..., JobRecord], key: str | None
) -> None:
    """The failed row is gone because it was brought back."""
    before = running(unique_pk=key)
    burial = a_burial(before)
    store.settle(before, burial)
    settlement = a_redrive(burial.after)
    with answers_lost(tables.client, "TransactWriteItems"):
        assert store.redrive(burial.after, settlement) in (Added(), Added(found=settlement.after))
    assert store.get(before.id) == settlement.after
    assert store.get_failed(before.id) is None


def test_a_cancel_has_cancelled(store: JobStore, tables: Tables) -> None:
    """The second try is refused; a caller who looks finds the job cancelled."""
    store.add(a_job())
    with answers_lost(tables.client, "UpdateItem"):
        store.cancel_waiting(a_job(), a_cancellation(a_job()))
    found = store.get("job-1")
    assert found is not None
    assert found.status is Status.CANCELLED


def test_a_mark_is_set_once_or_twice_alike(store: JobStore, tables: Tables, running: Callable[..., JobRecord]) -> None:
    """The same mark twice is the same mark."""
    before = running()
    with answers_lost(tables.client, "UpdateItem"):
        assert store.mark_cancelled(before, NOW).done


def test_a_nudge_is_not_counted_twice(store: JobStore, tables: Tables) -> None:
    """The second try is refused: the handoff is left to the next tick, which is later, never lost."""
    store.add(a_job())
    with answers_lost(tables.client, "UpdateItem"):
        answer = store.nudge(Due(NOW + 30_000, "job-1", "emails"), 0, NOW + 60_000)
    assert answer == Answer(False, a_job(nudges=1, due_at=NOW + 60_000))


def test_a_queue_is_registered_once_or_twice_alike(store: JobStore, tables: Tables) -> None:
    """A name added to a set twice is in it once."""
    with answers_lost(tables.client, "UpdateItem"):
        store.register_queue("emails")
    assert store.list_queues() == ["emails"]


# --- no answer ever comes ---


@pytest.mark.parametrize("lose", [answers_lost, never_sent])
def test_a_write_without_an_answer_says_so(store: JobStore, tables: Tables, lose: Callable[..., object]) -> None:
    """Whether it took effect is unknown, and that is neither yes nor no."""
    with lose(tables.client, "PutItem", TRIES), pytest.raises(StoreUnavailable, match="PutItem was not answered"):  # type: ignore[attr-defined]
        store.add(a_job())
    assert (store.get("job-1") is not None) == (lose is answers_lost)
