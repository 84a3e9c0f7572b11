"""What programs are given of a job: one shape, wherever they ask."""

from __future__ import annotations

import json

import pytest

from relayq_core.model.backoff import Fixed
from relayq_core.model.record import INTERNAL, JobRecord, build_unique_pk
from relayq_core.operations.serialize import list_other_facts, serialize_job, serialize_times
from tests.support.factories import NOW, a_job


def test_a_job_is_shown_with_its_times_in_both_forms() -> None:
    """For people's tools and for arithmetic."""
    shape = serialize_job(a_job(errors_json=json.dumps([{"attempt": 1, "at": NOW, "error": "no"}])))
    assert shape["created_at_ms"] == NOW
    assert shape["created_at"].endswith("Z")
    assert (shape["started_at"], shape["started_at_ms"]) == (None, None)
    assert shape["errors"] == [{"attempt": 1, "at": shape["created_at"], "at_ms": NOW, "error": "no"}]


def test_payload_and_options_are_shown_only_of_a_whole_job() -> None:
    """A list of jobs holds no one's data."""
    job = a_job(
        payload_json='{"to": "ada"}',
        backoff=Fixed(5),
        timeout_ms=1_500,
        unique_pk=build_unique_pk("send_email", "welcome"),
    )
    whole = serialize_job(job, whole=True)
    assert (whole["payload"], whole["backoff"], whole["timeout"]) == ({"to": "ada"}, "fixed:5", 1.5)
    assert whole["unique"] == "welcome"
    assert "ada" not in json.dumps(serialize_job(job))


def test_every_field_that_is_not_internal_is_shown_of_a_whole_job() -> None:
    """A field that is added to the record reaches programs without another line of code."""
    shape = serialize_job(a_job(), whole=True)
    keys = {"unique" if name == "unique_pk" else name for name in JobRecord.get_fields() if name not in INTERNAL}
    assert shape.keys() - {f"{name}_ms" for name in shape} == {
        name.removesuffix("_json").removesuffix("_ms") for name in keys
    }


def test_a_field_without_a_place_on_a_page_is_one_of_its_facts() -> None:
    """The dashboard shows what a newer record holds before anyone has drawn a place for it."""
    shown = JobRecord.get_fields().keys() - {"trace_id", "timeout_ms", "started_at", "parent_id", "lease_id"}
    job = a_job(trace_id="1-2-3", timeout_ms=1_500, started_at=0, lease_id="internal")
    assert list_other_facts(job, shown) == [
        ("Timeout", 1.5),
        ("Started at", "1970-01-01T00:00:00.000Z"),
        ("Trace id", "1-2-3"),
    ]


@pytest.mark.parametrize("at", ["yesterday", 10**30, -(10**30), [], {}])
def test_a_time_that_was_edited_by_hand_is_shown_as_it_stands(at: object) -> None:
    """An operator who looks for what is wrong with a row must not meet an error."""
    assert serialize_times(at=at) == {"at": None, "at_ms": at}  # type: ignore[arg-type]


def test_json_that_was_edited_by_hand_is_shown_as_it_stands() -> None:
    """The same for what was JSON."""
    assert serialize_job(a_job(payload_json="{oops"), whole=True)["payload"] == "{oops"
