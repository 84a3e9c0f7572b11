"""Rows as other programs may have written them: read, or refused in one way; and what can be read can be worked on."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayq_core import job
from relayq_core.adapters.dynamodb.items import (
    ATTRIBUTES,
    encode_failed,
    encode_job,
    read_failed,
    read_failed_head,
    read_job,
)
from relayq_core.errors import UnreadableRow
from relayq_core.model import bounds, leases, settling, sweeping
from relayq_core.model.backoff import Exponential, Linear
from relayq_core.model.leases import Lease
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, Status
from relayq_core.model.settling import AttemptOutcome, Failed, Snoozed, Succeeded
from relayq_core.model.sweeping import Leave, Nudge, Postpone
from relayq_core.testing import Bench, isolated_registry
from tests.support.factories import NOW, a_job

Item = dict[str, dict[str, Any]]

numbers = st.one_of(
    st.integers(-2, 5).map(str),
    st.integers(-(10**38), 10**38).map(str),
    st.sampled_from(
        ["0", "1.5", "-0", "-1", "9" * 38, "1E+125", "1E-130", "-9.9E+125", str(NOW), "253402300799999", "007"]
    ),
)
texts = st.one_of(
    st.text(st.characters(categories=None), max_size=20),
    st.sampled_from(
        [
            "",
            "os.system",
            "__class__",
            "pending",
            "processing",
            "failed",
            "exponential:10,cap=3600,jitter=0.1",
            "10,20",
            "emails#1",
            "{}",
            "[]",
            "[1]",
            '[{"at":1}]',
            '[{"attempt":1,"at":2,"error":"x"}]',
            "null",
            "NaN",
            '{"a":1,"a":2}',
            "[" * 12_000,
            "[" * 12_000 + "]" * 12_000,  # too deep for every Python
            "9" * 5_000,
            "x" * 10_000,
            "\ud800",
            "../../etc/passwd",
            "a\r\nb",
        ]
    ),
)
values: st.SearchStrategy[dict[str, Any]] = st.one_of(
    texts.map(lambda text: {"S": text}),
    numbers.map(lambda number: {"N": number}),
    st.sampled_from(
        [
            {"BOOL": True},
            {"NULL": True},
            {"B": b"x"},
            {"L": []},
            {"M": {}},
            {"SS": ["a"]},
            {"NS": ["1"]},
            {"L": [{"L": []}]},
        ]
    ),
)
wholes = {
    "waiting": a_job(),
    "running": a_job(status=Status.PROCESSING, attempt=1, lease_id="lease-1", lease_until=NOW - 60_000),
    "exhausted": a_job(status=Status.RETRYING, attempt=3, exhausted=True, error="JobCrashed: x"),
    "ended": a_job(status=Status.COMPLETED, due_at=None, expires_at=NOW // 1000),
}
POLICY = Policy(max_attempts=3, backoff=Exponential(10, cap=3600, jitter=0.1))


def _likely(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """What the attribute may hold, at and beyond its bounds."""
    kinds = dict(ATTRIBUTES.values())
    if kinds.get(name) == "N":
        found = st.one_of(st.integers(0, 5), st.integers(0, 10**15), st.sampled_from([NOW, 253402300799999, 10**15]))
        return found.map(lambda number: {"N": str(number)})
    words = {
        "status": [status.value for status in Status],
        "backoff": ["exponential:10,cap=3600,jitter=0.1", "10,20", "linear:5", "0"],
        "errors": ["[]", '[{"attempt":1,"at":2,"error":"x"}]'],
        "progress": ['{"fraction":0.5,"note":""}'],
        "queue": ["default", "emails"],
    }
    return (st.sampled_from(words[name]) if name in words else texts).map(lambda text: {"S": text})


@st.composite
def rows(draw: st.DrawFn) -> Item:
    """A row with some attributes changed, added or removed."""
    row: Item = {**encode_job(draw(st.sampled_from(list(wholes.values()))))}
    names = [*(name for name, _ in ATTRIBUTES.values()), "pk", "id", "failed_at"]
    for name in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)):
        value = draw(st.one_of(_likely(name), _likely(name), values, st.none()))
        row.pop(name, None)
        if value is not None:
            row[name] = value
    return row


def _read(row: Item) -> JobRecord | None:
    try:
        return read_job(row)
    except UnreadableRow:
        return None


@given(rows())
@settings(max_examples=600, deadline=None)
def test_a_row_is_read_or_refused(row: Item) -> None:
    """From both tables and from the index of the one: a JobRecord, or UnreadableRow, and nothing else."""
    for read, key in ((read_job, "pk"), (read_failed, "id"), (read_failed_head, "id")):
        with contextlib.suppress(UnreadableRow):
            assert isinstance(read({key: {"S": "job#job-1"}, **row}), JobRecord)


@given(rows(), st.floats(0, 1, exclude_max=True), st.sampled_from([1, NOW, 4 * NOW]))
@settings(max_examples=600, deadline=None)
def test_what_can_be_read_can_be_worked_on(row: Item, draw: float, now: int) -> None:
    """Every decision about it can be made, and what comes of it can be written and read again."""
    record = _read(row)
    if record is None:
        return
    effective = bounds.resolve_bounds(record, None, POLICY)
    made: list[JobRecord] = []
    match sweeping.decide(record, record.due_at or 0, POLICY, token="sweep-1", now=now, draw=draw):
        case Settlement(after=after):
            made.append(after)
        case Nudge(due_at) | Postpone(due_at):
            assert due_at > now
        case Leave():
            pass
    if leases.is_claimable(record, now=now):
        made.append(settling.cancel(record, POLICY, now=now).after)
        claimed = bounds.cap_attempts(leases.claim(record, Lease("l", now, 60_000, 10_000)), effective)
        made.append(claimed)
        leases.compute_handler_deadline(claimed, effective, POLICY, now=now, remaining_ms=900_000)
        bounds.explain_misfit(effective, 900_000)
        outcomes: list[AttemptOutcome] = [Succeeded(), Failed("no", "no"), Failed("no", "no", final=True), Snoozed(5)]
        made += [settling.settle(claimed, outcome, effective, POLICY, now=now, draw=draw).after for outcome in outcomes]
        if (given_back := settling.give_back(claimed, POLICY, now=now)) is not None:
            made.append(given_back.after)
    for after in made:
        if after.status is Status.FAILED:
            assert encode_failed(read_failed(encode_failed(after))) == encode_failed(after)
            assert settling.redrive(after, POLICY, now=now).after.status is Status.PENDING
        else:
            assert encode_job(read_job(encode_job(after))) == encode_job(after)


@given(rows())
@settings(max_examples=300, deadline=None)
def test_whatever_can_be_read_can_be_shown(row: Item) -> None:
    """Its errors and its progress are what their type says."""
    record = _read(row)
    if record is None:
        return
    assert all(isinstance(error["error"], str) for error in record.errors)
    assert record.progress is None or isinstance(record.progress, dict)


@pytest.mark.parametrize("name", ["../etc", "a#b", "", "x" * 1_000, "\udc80"])
def test_a_row_whose_name_cannot_be_one_cannot_be_read(name: str) -> None:
    """No dispatch wrote it."""
    with pytest.raises(UnreadableRow):
        read_job(encode_job(a_job(name=name)))


@pytest.mark.parametrize("name", ["os.system", "__class__", "builtins.exec"])
def test_no_name_found_in_data_is_ever_imported_or_built(name: str) -> None:
    """It is looked up among the jobs that are registered, and nowhere else; then given back, and buried some day."""
    bench = Bench()
    with isolated_registry():
        bench.store.jobs["job-1"] = a_job(name=name, payload_json='["id"]')
        ran = bench.run("job-1")
        assert ran.ended == "given back"
        bench.clock.advance(minutes=20)
        assert bench.run("job-1").ended == "failed"
    record = bench.relayq.get("job-1")
    assert record is not None
    assert read_failed(encode_failed(record)) == record


@pytest.mark.parametrize(
    "payload",
    ["", "{", "null", "[]", "7", '"text"', "NaN", '{"to":NaN}', '{"to":1}', '{"to":["x"]}', '{"to":"x","to":7}',
     "[" * 100_000, '{"to":' * 5_000 + "1" + "}" * 5_000, '{"to":"\\ud800"}', '{"to":"x","__class__":{"x":1}}',
     '{"to":' + "9" * 10_000 + "}", "\ud800", "\x00"],
    ids=lambda payload: payload[:12],
)  # fmt: skip
def test_a_payload_from_the_table_is_never_trusted(payload: str) -> None:
    """It is validated as any input: what does not fit is buried at once, what was put beside it is left out."""
    bench = Bench()
    with isolated_registry():

        @job
        def greet(to: str) -> str:
            return to

        bench.store.jobs["job-1"] = a_job(name="greet", payload_json=payload)
        ended = bench.run("job-1").ended
    fits = payload.endswith('"__class__":{"x":1}}')
    assert ended == ("completed" if fits else "failed")


@given(
    st.sampled_from([Linear, Exponential]),
    st.floats(0, 315_360_000),
    st.integers(-(10**15), 10**15),
    st.floats(0, 1, exclude_max=True),
)
def test_no_backoff_leaves_its_bounds(make: Any, base: float, retry: int, draw: float) -> None:
    """However often it was tried: a number from 0 to ten years."""
    assert 0 <= make(base, jitter=1.0).delay(max(1, retry), draw) <= 315_360_000
