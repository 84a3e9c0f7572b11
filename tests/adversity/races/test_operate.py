"""Operators and sweepers against each other."""

from __future__ import annotations

from functools import partial

import pytest

from relayq_core.client import RelayQ
from relayq_core.engine.dispatcher import Dispatched
from relayq_core.engine.sweeper import Scope
from relayq_core.errors import KeyTaken
from relayq_core.model.record import JobRecord, Status
from tests.adversity.races.track import Track
from tests.support.factories import a_burial, a_lease
from tests.support.figures import tell

pytestmark = [pytest.mark.dynamodb_local, pytest.mark.timeout(300)]

ROUNDS = 25


def _failed_job(relayq: RelayQ, unique: str | None = None) -> str:
    """A job that has failed for good; its key is free again."""
    job_id = relayq.dispatch("work", unique=unique).job_id
    running = relayq.store.claim(job_id, a_lease(now=relayq.clock.now())).record
    assert running is not None
    relayq.store.settle(running, a_burial(running, now=relayq.clock.now()))
    return job_id


def test_a_failure_is_brought_back_or_forgotten_never_both(track: Track) -> None:
    """The caller who hears that it lives finds it, and the one who hears that it is gone does not."""
    brought_back = 0
    for _ in range(2 * ROUNDS):
        relayqs = track.relayqs(8, "redrive", "forget")
        job_id = _failed_job(relayqs[0])
        redrives = [partial(relayq.redrive, job_id) for relayq in relayqs[:4]]
        forgets = [partial(relayq.forget, job_id) for relayq in relayqs[4:]]
        answers = track.at_once(*redrives, *forgets)
        records, forgotten = answers[:4], answers[4:]
        found = relayqs[0].get(job_id)
        assert relayqs[0].store.get_failed(job_id) is None
        if found is None:
            assert (records, forgotten.count(True)) == ([None] * 4, 1)
        else:
            brought_back += 1
            assert not any(forgotten)
            assert (found.status, found.attempt) == (Status.PENDING, 0)
            assert {record for record in records if record} == {found}
            relayqs[0].cancel(job_id)
    tell(f"{2 * ROUNDS} rounds of 4 redrives and 4 forgets of one failure: brought back {brought_back} times")


def test_of_16_redrives_one_brings_the_job_back(track: Track) -> None:
    """It is there once; the others are shown the job that lives, or that there is no failure.

    Under one frozen clock a doubled redrive looks like one that the SDK sent again, so it may be handed off more than
    once: the claim decides.
    """
    for n in range(ROUNDS):
        relayqs = track.relayqs(16, "redrive")
        job_id = _failed_job(relayqs[0], unique=f"order:{n}")
        track.handoff.offers.clear()
        records = track.at_once(*(partial(relayq.redrive, job_id) for relayq in relayqs))
        found = relayqs[0].get(job_id)
        assert found is not None
        assert {record for record in records if record} == {found}
        assert {offer.job_id for offer in track.handoff.offers} == {job_id}
        assert relayqs[0].store.get_failed(job_id) is None
        assert relayqs[0].dispatch("work", unique=f"order:{n}") == Dispatched(job_id, duplicate=True, handed_off=False)
    tell(f"{ROUNDS} rounds of 16 redrives of one failure: brought back once in each")


def test_a_key_goes_to_the_redriven_job_or_to_a_new_one(track: Track) -> None:
    """Whichever job gets it, the failed job is not lost, and no second job of that key lives."""

    def redrive(relayq: RelayQ, job_id: str) -> str:
        try:
            return "gone" if (record := relayq.redrive(job_id)) is None else record.id
        except KeyTaken as taken:
            return f"held by {taken.holder}"

    brought_back = 0
    for n in range(ROUNDS):
        key = f"order:{n}"
        job_id = _failed_job(track.relayq(0), unique=key)
        relayqs = track.relayqs(16, "redrive", "add")
        redrives = [partial(redrive, relayq, job_id) for relayq in relayqs[:8]]
        dispatches = [partial(relayq.dispatch, "work", unique=key) for relayq in relayqs[8:]]
        answers = track.at_once(*redrives, *dispatches)
        (holder,) = {answer.job_id for answer in answers if isinstance(answer, Dispatched)}
        told = {answer for answer in answers if isinstance(answer, str)}
        if holder == job_id:
            brought_back += 1
            assert told <= {job_id, "gone"}
            assert relayqs[0].store.get_failed(job_id) is None
        else:
            assert told == {f"held by {holder}"}
            assert relayqs[0].store.get(job_id) is None
            assert relayqs[0].store.get_failed(job_id) is not None
    tell(f"{ROUNDS} rounds of 8 redrives and 8 dispatches for one key: brought back {brought_back} times")


def test_overlapping_sweeps_hand_each_job_off_once(track: Track) -> None:
    """Ticks are missed and doubled; a waiting job is handed off once all the same."""
    relayqs = track.relayqs(4)
    jobs = {relayqs[0].dispatch("work", {"n": n}).job_id for n in range(40)}
    track.clock.advance(seconds=31)
    track.handoff.offers.clear()
    swept = track.at_once(*(partial(relayq.sweeper.sweep, lambda: 150_000, Scope()) for relayq in relayqs))
    assert sorted(offer.job_id for offer in track.handoff.offers) == sorted(jobs)
    assert sum(each.counts["nudged"] for each in swept) == 40


def test_overlapping_sweeps_release_each_lease_once(track: Track) -> None:
    """Each crash spends one attempt, however many sweepers see it."""
    relayqs = track.relayqs(4)
    store = relayqs[0].store
    jobs = [relayqs[0].dispatch("work", {"n": n}, max_attempts=1 + n % 2).job_id for n in range(40)]
    for job_id in jobs:
        assert store.claim(job_id, a_lease(now=track.clock.now())).done
    track.clock.advance(hours=1)
    track.handoff.offers.clear()
    swept = track.at_once(*(partial(relayq.sweeper.sweep, lambda: 150_000, Scope()) for relayq in relayqs))
    assert sum(each.counts["released"] for each in swept) == 40
    found = {job_id: store.get(job_id) for job_id in jobs}
    assert all(_released(record) for record in found.values())
    assert sorted(offer.job_id for offer in track.handoff.offers) == sorted(jobs)


def _released(record: JobRecord | None) -> bool:
    return record is not None and (record.status, record.attempt, len(record.errors)) == (Status.RETRYING, 1, 1)
