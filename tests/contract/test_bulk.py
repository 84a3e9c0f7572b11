"""What is done to many jobs, on every store: pages, batches and conditional writes as each of them has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core import RelayQ, Settings
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.jobs import Failures
from relayq_core.ports import JobStore
from relayq_core.testing import ManualClock, RecordingHandoff
from tests.support.factories import NOW, a_burial, a_job, a_lease

Claimed = Callable[..., JobRecord]


@pytest.fixture
def relayq(store: JobStore, clock: ManualClock) -> RelayQ:
    """RelayQ on the store under test."""
    settings = Settings(jobs_table="jobs", failed_table="failed", runner_function="runner")
    return RelayQ(settings, store=store, handoff=RecordingHandoff(), clock=clock)


def test_a_queue_longer_than_any_page_is_cleared(relayq: RelayQ, store: JobStore, clock: ManualClock) -> None:
    """Rows leave the index while it is read; the keys of those that had one are free; what runs is left."""
    store.register_queue("emails")
    for n in range(120):
        store.add(a_job(id=f"job-{n}", unique_pk=f"unique#send_email#{n}" if n % 40 == 0 else None))
    store.claim("job-7", a_lease(now=clock.now()))
    store.add(a_job(id="elsewhere", queue="reports"))
    assert relayq.clear("emails", dry_run=True).counts == {"cancelled": 119, "running": 1}
    assert relayq.clear("emails").counts == {"cancelled": 119, "running": 1}
    assert [job.id for job in relayq.live("emails")] == ["job-7"]
    cancelled = store.get("job-40")
    assert cancelled is not None
    assert (cancelled.status, cancelled.due_at) == (Status.CANCELLED, None)
    assert store.find_holder("unique#send_email#40") is None
    elsewhere = store.get("elsewhere")
    assert elsewhere is not None
    assert elsewhere.status is Status.PENDING


def test_a_status_is_looked_for_beyond_the_first_rows(relayq: RelayQ, store: JobStore, claimed: Claimed) -> None:
    """The index knows no status: page after page is read until enough are found."""
    store.register_queue("emails")
    for n in range(120):
        store.add(a_job(id=f"job-{n}", due_at=NOW + n))
    claimed(id="running", due_at=NOW + 1_000)
    claimed(id="running-too", due_at=NOW + 2_000, lease="lease-2")
    found = relayq.operations.find_live("emails", Status.PROCESSING, limit=1)
    assert ([job.id for job in found.jobs], found.looked_at, found.capped) == (["running"], 122, True)
    found = relayq.operations.find_live("emails", Status.RETRYING, limit=1)
    assert (found.jobs, found.looked_at, found.capped) == ((), 122, False)
    assert [job.id for job in relayq.live(limit=3)] == ["job-0", "job-1", "job-2"]


def test_a_row_that_cannot_be_read_does_not_keep_a_queue_from_being_cleared(
    relayq: RelayQ, store: JobStore, spoil: Callable[[str], None]
) -> None:
    """It stays, and the sweeper reports it."""
    for n in range(3):
        store.add(a_job(id=f"job-{n}"))
    spoil("job-1")
    assert relayq.clear("emails").counts == {"cancelled": 2}


def test_failures_are_chosen_over_queues_and_brought_back(relayq: RelayQ, store: JobStore, claimed: Claimed) -> None:
    """By what the list's index holds; newest first, whatever their queue; what has expired is not among them."""
    for n in range(6):
        queue = f"queue-{n % 2}"
        store.register_queue(queue)
        at = NOW if n else NOW - 91 * 86_400_000
        before = claimed(id=f"job-{n}", queue=queue, name="pay" if n < 5 else "post", lease=f"lease-{n}")
        store.settle(before, a_burial(before, f"ValueError: card {n}", now=at + n))
    chosen = [job.id for job in relayq.operations.failures(Failures(error="CARD", job="pay"), page=2)]
    assert chosen == ["job-4", "job-3", "job-2", "job-1"]
    assert [job.id for job in relayq.failed()] == ["job-5", *chosen]
    assert relayq.redrive_many(Failures(job="pay", since=NOW + 3)).counts == {"redriven": 2}
    assert relayq.forget_many(Failures()).counts == {"forgotten": 3}
    assert {job.id for job in relayq.live()} == {"job-3", "job-4"}
