"""What Lambda says of the trace of an invocation, and what is taken of it."""

import pytest

from relayq_core.adapters.dynamodb.items import encode_job, read_job
from relayq_core.events.tracing import is_trace, read_trace
from tests.support.factories import a_job

TRACE = "1-67891233-abcdef012345678912345678"


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"Root={TRACE};Parent=0123456789abcdef;Sampled=1;Lineage=1:0123abcd:0", TRACE),
        (f"Root={TRACE}", TRACE),
        (f"Self=1-0-0; Root={TRACE} ;Sampled=0", TRACE),
        ("", None),
        ("Root=", None),
        ("Parent=0123456789abcdef", None),
        (f"Root={TRACE}9", None),
        (f"NotRoot={TRACE}", None),
        (f"Root={TRACE.upper()}", None),
        (f"Root={TRACE[:-1]}\N{ARABIC-INDIC DIGIT ONE}", None),
        ("Root=1-67891233-<script>", None),
        ("x" * 1_000_000 + f";Root={TRACE}", None),
    ],
)
def test_the_root_of_the_header_is_taken_and_nothing_that_only_looks_like_it(
    header: str, trace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into rows and logs as it is: its form is known, and so is its length."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", header)
    assert read_trace() == trace
    assert trace is None or is_trace(trace)


def test_outside_lambda_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is stored."""
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    assert read_trace() is None
    assert "trace_id" not in encode_job(a_job())


@pytest.mark.parametrize("written", ["", "none of ours", f"{TRACE}\n", "x" * 300_000])
def test_a_trace_that_makes_no_sense_is_none_and_the_job_runs(written: str) -> None:
    """The row may have been edited by hand; nothing rests on it."""
    item = encode_job(a_job(trace_id=TRACE)) | {"trace_id": {"S": written}}
    assert read_job(item) == a_job()
