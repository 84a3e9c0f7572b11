"""The trace in which a job was dispatched is there again where it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from relayq_core import JobContext, dispatch, job
from relayq_core.jobs.context import log_fields
from relayq_core.operations.serialize import serialize_job
from relayq_core.testing import Bench

REQUEST = "1-67891233-aaaaaaaaaaaaaaaaaaaaaaaa"
RUN = "1-67891234-bbbbbbbbbbbbbbbbbbbbbbbb"

Inside = Callable[[str | None], None]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """From here on Lambda says that this invocation is of that trace."""

    def invoked(trace: str | None) -> None:
        monkeypatch.setenv("_X_AMZN_TRACE_ID", "" if trace is None else f"Root={trace};Parent=0123456789abcdef")

    return invoked


@contextmanager
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    with caplog.at_level(logging.INFO):
        yield caplog.records


def test_a_run_knows_the_trace_of_its_dispatch(bench: Bench, inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """In the row, in the context, in the lines of the run and of the job itself, and in JSON."""
    seen: list[str | None] = []

    @job
    def work(context: JobContext) -> None:
        context.logger.info("working")
        seen.append(context.trace_id)

    inside(REQUEST)
    job_id = bench.relayq.dispatch("work", {}).job_id
    inside(RUN)
    with lines(caplog) as logged:
        bench.run(job_id)
    record = bench.store.jobs[job_id]
    assert seen == [REQUEST]
    assert record.trace_id == REQUEST
    assert serialize_job(record, whole=True)["trace_id"] == REQUEST
    assert [(line.getMessage(), getattr(line, "dispatch_trace_id", None)) for line in logged] == [
        ("working", REQUEST),
        ("job completed", REQUEST),
    ]


def test_a_retry_and_a_redrive_keep_it(bench: Bench, inside: Inside) -> None:
    """Those are what the trace of the run itself cannot be followed through."""

    @job(max_attempts=2, backoff=1)
    def work() -> None:
        raise ValueError

    inside(REQUEST)
    job_id = bench.relayq.dispatch("work", {}).job_id
    inside(RUN)
    bench.run(job_id)
    bench.clock.advance(seconds=1)
    bench.run(job_id)
    assert bench.store.failures[job_id].trace_id == REQUEST
    redriven = bench.relayq.redrive(job_id)
    assert redriven is not None
    assert redriven.trace_id == REQUEST


def test_a_job_that_a_handler_dispatches_has_the_trace_of_the_first(bench: Bench, inside: Inside) -> None:
    """One search finds all that a request caused, however deep."""

    @job
    def parent(depth: int) -> None:
        if depth:
            dispatch("parent", {"depth": depth - 1}, job_id=f"child-{depth}")

    inside(REQUEST)
    first = bench.relayq.dispatch("parent", {"depth": 2}).job_id
    inside(RUN)
    for job_id in (first, "child-2", "child-1"):
        bench.run(job_id)
    assert {record.trace_id for record in bench.store.jobs.values()} == {REQUEST}


def test_a_child_of_a_job_without_a_trace_has_that_of_the_run(bench: Bench, inside: Inside) -> None:
    """The parent came from a laptop; the child comes from a Lambda."""

    @job
    def parent() -> None:
        dispatch("child", {}, job_id="child")

    inside(None)
    first = bench.relayq.dispatch("parent", {}).job_id
    inside(RUN)
    bench.run(first)
    assert (bench.store.jobs[first].trace_id, bench.store.jobs["child"].trace_id) == (None, RUN)


def test_a_line_of_a_job_without_a_trace_does_not_name_one(bench: Bench, inside: Inside) -> None:
    """Outside Lambda the lines are as short as ever."""
    inside(None)
    record = bench.store.jobs[bench.relayq.dispatch("work", {}).job_id]
    assert sorted(log_fields(record)) == ["attempt", "job_id", "job_name", "queue"]
