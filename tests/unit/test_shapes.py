"""What programs are given of a job: one shape, wherever they ask."""

from __future__ import annotations

import json

import pytest

from relayq_core.model.backoff import Fixed
from relayq_core.model.record import unique_pk
from relayq_core.operations.serialize import job_shape, times
from tests.support.factories import NOW, a_job


def test_a_job_is_shown_with_its_times_in_both_forms() -> None:
    """For people's tools and for arithmetic."""
    shape = job_shape(a_job(errors_json=json.dumps([{"attempt": 1, "at": NOW, "error": "no"}])))
    assert shape["created_at_ms"] == NOW
    assert shape["created_at"].endswith("Z")
    assert (shape["started_at"], shape["started_at_ms"]) == (None, None)
    assert shape["errors"] == [{"attempt": 1, "at": shape["created_at"], "at_ms": NOW, "error": "no"}]


def test_payload_and_options_are_shown_only_of_a_whole_job() -> None:
    """A list of jobs holds nobody's data."""
    job = a_job(
        payload_json='{"to": "ada"}', backoff=Fixed(5), timeout_ms=1_500, unique_pk=unique_pk("send_email", "welcome")
    )
    whole = job_shape(job, whole=True)
    assert (whole["payload"], whole["backoff"], whole["timeout"]) == ({"to": "ada"}, "fixed:5", 1.5)
    assert whole["unique"] == "welcome"
    assert "ada" not in json.dumps(job_shape(job))


@pytest.mark.parametrize("at", ["yesterday", 10**30, -(10**30), [], {}])
def test_a_time_that_was_edited_by_hand_is_shown_as_it_stands(at: object) -> None:
    """Whoever looks for what is wrong with a row must not meet an error."""
    assert times(at=at) == {"at": None, "at_ms": at}  # type: ignore[arg-type]


def test_json_that_was_edited_by_hand_is_shown_as_it_stands() -> None:
    """The same for what was JSON."""
    assert job_shape(a_job(payload_json="{oops"), whole=True)["payload"] == "{oops"
