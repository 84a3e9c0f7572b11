"""A job as it is stored: its id, its keys, and the questions one can ask it."""

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Status
from relayq_core.engine.ids import generate_id
from relayq_core.model.record import SHARDS, build_unique_pk, compute_shard, list_shards
from tests.support.factories import NOW, a_job


def test_an_id_is_26_characters_that_a_person_can_read_out() -> None:
    """Ids stand in logs and are typed into command lines: no I, L, O or U."""
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", generate_id(NOW))


def test_ids_sort_by_the_time_of_dispatch() -> None:
    """A list of ids is a history."""
    ids = [generate_id(NOW + ms) for ms in (0, 1, 1000, 10**9)]
    assert ids == sorted(ids)
    assert generate_id(0).startswith("0000000000")


def test_ids_of_one_millisecond_differ() -> None:
    """80 random bits: the id is the only thing that keeps two dispatches apart."""
    assert len({generate_id(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("status", Status)
def test_a_job_waits_runs_or_has_ended(status: Status) -> None:
    """Exactly one of the three: what the sweeper may do hangs on it."""
    assert [status.is_waiting, status is Status.PROCESSING, status.is_ended].count(True) == 1


def test_a_job_is_frozen_and_evolves_into_another() -> None:
    """A decision must not change the job it decides about."""
    record = a_job()
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.attempt = 5  # type: ignore[misc]
    assert record.evolve(attempt=5) == a_job(attempt=5)
    assert record.attempt == 0


def test_json_is_decoded_when_it_is_asked_for() -> None:
    """A list of a thousand jobs decodes nothing that is not looked at."""
    record = a_job(
        payload_json='{"to":"a@b.c"}',
        result_json="[1,2]",
        progress_json='{"fraction":0.5,"note":"half"}',
        errors_json='[{"attempt":1,"at":1,"error":"E: no"}]',
    )
    assert record.payload == {"to": "a@b.c"}
    assert record.result == [1, 2]
    assert record.progress == {"fraction": 0.5, "note": "half"}
    assert record.errors == [{"attempt": 1, "at": 1, "error": "E: no"}]


def test_what_is_not_there_reads_as_nothing() -> None:
    """A new job has no result, no progress and no errors."""
    record = a_job()
    assert (record.payload, record.result, record.progress, record.errors) == ({}, None, None, [])


def test_a_key_without_a_window_is_held_until_the_job_ends() -> None:
    """The write that ends the job must then release it; a key with a window ends by itself."""
    assert a_job(unique_pk="unique#a#k").holds_key
    assert not a_job(unique_pk="unique#a#k", unique_for_ms=1000).holds_key
    assert not a_job().holds_key


def test_a_unique_key_belongs_to_a_job_name() -> None:
    """Two kinds of job may use the same key."""
    assert build_unique_pk("welcome", "user:7") == "unique#welcome#user:7"
    assert build_unique_pk("goodbye", "user:7") != build_unique_pk("welcome", "user:7")


@given(st.text(min_size=1, max_size=6000))
def test_a_unique_key_of_any_length_fits_a_dynamodb_key(key: str) -> None:
    """DynamoDB takes 2,048 bytes; anything longer would fail the dispatch."""
    assert len(build_unique_pk("n" * 128, key).encode()) <= 1024


def test_long_keys_are_distinguished_by_their_hash() -> None:
    """Cutting would make one key of two."""
    assert build_unique_pk("a", "k" * 5000 + "1") != build_unique_pk("a", "k" * 5000 + "2")


@given(st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=1, max_size=26))
def test_every_job_is_in_one_of_its_queues_shards(job_id: str) -> None:
    """The sweeper asks these shards and no other."""
    assert compute_shard("emails", job_id) in list_shards("emails")


def test_the_jobs_of_a_queue_spread_over_all_its_shards() -> None:
    """DynamoDB bounds what one partition key can take."""
    assert len({compute_shard("emails", generate_id(NOW)) for _ in range(1000)}) == SHARDS == 8


def test_a_shard_is_the_same_for_every_version_of_python() -> None:
    """Rows outlive deploys: the shard is crc32, not hash()."""
    assert compute_shard("emails", "01KAM3ZJ5Y8W4T9Q2N6R7B1C0D") == "emails#0"


def test_a_status_is_its_word() -> None:
    """It is stored, printed and compared as text."""
    assert json.dumps(Status.PENDING) == '"pending"'
    assert f"{Status.FAILED}" == "failed"
