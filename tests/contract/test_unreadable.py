"""Rows that were edited by hand: nothing is run on a guess, nothing is deleted, and no other job has to wait."""

from __future__ import annotations

from typing import Any

import pytest

from relayq_core import RelayQ, Settings
from relayq_core.errors import UnreadableRow
from relayq_core.model.record import compute_shard
from relayq_core.ports import Due
from relayq_core.testing import ManualClock, Offer, RecordingHandoff
from tests.contract.engines import Tables
from tests.support.factories import NOW, a_job, a_lease

HOUR = 3_600_000
EDITS: dict[str, dict[str, Any]] = {
    "an attempt that is text": {"attempt": {"S": "many"}},
    "an attempt that is a fraction": {"attempt": {"N": "1.5"}},
    "a status that is none": {"status": {"S": "Dancing, 3 times"}},
    "a status that is a number": {"status": {"N": "7"}},
    "a payload that is a list": {"payload": {"L": [{"S": "x"}]}},
    "a backoff that says nothing": {"backoff": {"S": "as you like"}},
    "a backoff that is a number": {"backoff": {"N": "5"}},
    "errors that are no JSON": {"errors": {"S": "oops"}},
    "errors that are no list": {"errors": {"S": "{}"}},
    "a time that is text": {"created_at": {"S": "yesterday"}},
    "a time that is a fraction": {"created_at": {"N": "1.5"}},
    "a time that is tremendous": {"created_at": {"N": "1E+99"}},
    "a timeout that is text": {"timeout_ms": {"S": "long"}},
    "a name that is nothing": {"name": {"NULL": True}},
    "a look that is due at a fraction": {"due_at": {"N": f"{NOW}.5"}, "attempt": {"S": "many"}},
}


@pytest.fixture(params=EDITS, ids=[name.replace(" ", "-") for name in EDITS])
def edited(request: pytest.FixtureRequest, tables: Tables, clock: ManualClock) -> Tables:
    """A job that waits, edited; and a good one behind it."""
    tables.store(clock).add(a_job(due_at=NOW))
    tables.store(clock).add(a_job(id="good", due_at=NOW + 1))
    tables.edit("job-1", **EDITS[request.param])
    return tables


def test_it_is_refused_in_plain_words_wherever_it_is_read(edited: Tables, clock: ManualClock) -> None:
    """An exception of another kind would end the process that met it."""
    store = edited.store(clock)
    with pytest.raises(UnreadableRow, match="'job-1' cannot be read"):
        store.get("job-1")
    with pytest.raises(UnreadableRow, match="'job-1' cannot be read"):
        store.claim("job-1", a_lease())
    assert [record.id for record in store.get_many(["job-1", "good"])] == ["good"]


def test_the_index_shows_it_all_the_same(edited: Tables, clock: ManualClock) -> None:
    """The sweeper is to come across it and say so."""
    rows = edited.store(clock).list_due(compute_shard("emails", "job-1"), NOW + HOUR, 10).rows
    assert "job-1" in [row.job_id for row in rows]


def test_the_sweeper_sets_it_aside_and_goes_on(edited: Tables, clock: ManualClock) -> None:
    """It is looked at again in an hour; the job behind it is handed off now."""
    store, handoff = edited.store(clock), RecordingHandoff()
    store.register_queue("emails")
    relayq = RelayQ(Settings(jobs_table="j", failed_table="f"), store=store, handoff=handoff, clock=clock)
    clock.advance(seconds=1)
    swept = relayq.sweeper.sweep(clock.countdown(seconds=150))
    assert swept.counts == {"unreadable": 1, "nudged": 1}
    assert handoff.offers == [Offer("good", "emails", 0)]
    (row,) = (r for r in store.list_due(compute_shard("emails", "job-1"), 10**15, 10).rows if r.job_id == "job-1")
    assert row == Due(clock.now() + HOUR, "job-1", "emails")
    assert relayq.sweeper.sweep(clock.countdown(seconds=150)).counts == {}
    assert edited.item("job-1")["pk"]


def test_a_time_to_start_that_is_text_never_comes(local_tables: Tables, clock: ManualClock) -> None:
    """Text is not before a number. (moto fails on the comparison, so it is asked of DynamoDB Local alone.)"""
    store = local_tables.store(clock)
    store.add(a_job())
    local_tables.edit("job-1", available_at={"S": "soon"})
    with pytest.raises(UnreadableRow, match="'job-1' cannot be read"):
        store.claim("job-1", a_lease())


def test_a_runner_leaves_it_alone(edited: Tables, clock: ManualClock) -> None:
    """It does not raise: Lambda would count that as its own failure."""
    relayq = RelayQ(
        Settings(jobs_table="j", failed_table="f"), store=edited.store(clock), handoff=RecordingHandoff(), clock=clock
    )
    assert relayq.runner.run("job-1", None, clock.countdown(seconds=900)).ended == "not claimed"
