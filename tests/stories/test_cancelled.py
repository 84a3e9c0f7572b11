"""Cancelled: whichever part of RelayQ ends a job as cancelled, listeners hear it once and one log line says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from relayq_core import job
from relayq_core.engine.sweeper import Scope
from relayq_core.errors import JobCrashed
from relayq_core.model.record import JobRecord, Status
from relayq_core.testing import Bench

Crash = Callable[[str], JobRecord]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What RelayQ logs, INFO included."""
    caplog.set_level(logging.INFO, logger="relayq")
    return caplog


def assert_announced(bench: Bench, told: list[str], lines: pytest.LogCaptureFixture) -> None:
    """Job `a` is cancelled, and that is announced once."""
    record = bench.relayq.get("a")
    assert record is not None
    assert record.status is Status.CANCELLED
    assert told.count("cancelled") == 1
    announced = [line for line in lines.records if line.getMessage() == "job cancelled"]
    assert [vars(line)["job_id"] for line in announced] == ["a"]


def cancel_before(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancel job `a` right before the store's next call of this name."""
    original = getattr(bench.store, name)

    def call(*args: Any) -> Any:
        monkeypatch.undo()
        bench.relayq.cancel("a")
        return original(*args)

    monkeypatch.setattr(bench.store, name, call)


def test_a_waiting_job_that_is_cancelled_is_announced(
    bench: Bench, told: list[str], lines: pytest.LogCaptureFixture
) -> None:
    """cancel() itself ends it."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.relayq.cancel("a")
    assert_announced(bench, told, lines)


def test_a_waiting_job_that_is_cleared_is_announced(
    bench: Bench, told: list[str], lines: pytest.LogCaptureFixture
) -> None:
    """clear() cancels each job of a queue."""
    bench.relayq.dispatch("greet", job_id="a")
    bench.relayq.clear("default")
    assert_announced(bench, told, lines)


def test_a_marked_job_that_fails_in_its_runner_is_announced(
    bench: Bench, told: list[str], lines: pytest.LogCaptureFixture
) -> None:
    """The runner ends it in place of its retry."""

    @job
    def greet() -> None:
        bench.relayq.cancel("a")
        raise ValueError

    bench.relayq.dispatch(greet, job_id="a")
    bench.run("a")
    assert_announced(bench, told, lines)


def test_a_marked_job_whose_lease_ran_out_is_announced(
    bench: Bench, crash: Crash, told: list[str], lines: pytest.LogCaptureFixture
) -> None:
    """The sweeper finds the mark on the row."""
    bench.relayq.dispatch("greet", job_id="a")
    crash("a")
    bench.relayq.cancel("a")
    bench.clock.advance(minutes=3)
    assert bench.sweep(Scope()).counts == {"cancelled": 1}
    assert_announced(bench, told, lines)


def test_a_job_that_is_cancelled_as_its_lease_is_released_is_announced(
    bench: Bench, crash: Crash, told: list[str], lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark comes between the sweeper's look and its write."""
    bench.relayq.dispatch("greet", job_id="a")
    crash("a")
    bench.clock.advance(minutes=3)
    cancel_before(bench, "settle", monkeypatch)
    assert bench.sweep(Scope()).counts == {"cancelled": 1}
    assert_announced(bench, told, lines)


@pytest.mark.parametrize("marked_before", [True, False])
def test_a_marked_job_whose_process_died_is_announced(
    bench: Bench,
    crash: Crash,
    told: list[str],
    lines: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    marked_before: bool,
) -> None:
    """A worker ends the lease of a process that it saw end, and knows the job as it was claimed."""
    bench.relayq.dispatch("greet", job_id="a")
    claimed = crash("a")
    if marked_before:
        bench.relayq.cancel("a")
    else:
        cancel_before(bench, "settle", monkeypatch)
    assert bench.relayq.sweeper.rows.end_crashed(claimed, JobCrashed(1)) == "cancelled"
    assert_announced(bench, told, lines)
