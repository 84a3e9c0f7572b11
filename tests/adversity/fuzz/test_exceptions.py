"""Exceptions that misbehave, wherever a job's code may raise them: the runner records them and goes on."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Bury, Job, JobContext, job
from relayq_core.engine.results import RunOutcome
from relayq_core.errors import InvalidOption
from relayq_core.events.listeners import KINDS, JobEvent, on
from relayq_core.model.budgets import ERROR_BYTES, ERROR_LINE_BYTES
from relayq_core.model.record import JobRecord, Status
from relayq_core.testing import Bench, isolated_registry
from relayq_core.text import cut, describe_error, summarize_error
from tests.adversity.fuzz.evil import EVIL, SECRET, EvilStr, unharmed
from tests.adversity.fuzz.watching import everything_seen
from tests.support.harmless import is_harmless

evil = pytest.mark.parametrize("make", EVIL.values(), ids=EVIL)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """What a test defines is forgotten after it."""
    with isolated_registry():
        yield


def _is_fit_to_be_stored(text: str | None, limit: int) -> bool:
    """Bounded, and without what a terminal, a log or an encoder would choke on."""
    assert type(text) is str
    assert 0 < len(text.encode()) <= limit
    return all(map(is_harmless, text))


# --- their text -------------------------------------------------------------------------------------------------


@evil
def test_every_exception_is_described_within_bounds(make: Callable[[], BaseException]) -> None:
    """It is about to be written to the table, and nothing else will be said about it."""
    error = make()
    assert _is_fit_to_be_stored(unharmed(lambda: describe_error(error, ERROR_BYTES)), ERROR_BYTES)
    assert _is_fit_to_be_stored(unharmed(lambda: summarize_error(error)), ERROR_LINE_BYTES)
    assert SECRET not in unharmed(lambda: describe_error(error, 10**6))


def test_a_message_of_50_mb_costs_little_more_than_itself() -> None:
    """A runner of 128 MB must survive it."""
    error = ValueError("ü" * 50_000_000)
    tracemalloc.start()
    describe_error(error, ERROR_BYTES)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


@given(st.text(st.characters(categories=None)), st.integers(60, 300))
def test_any_text_is_cut_to_its_limit_and_cleaned(text: str, limit: int) -> None:
    """Lone surrogates, controls and all."""
    found = cut(text, limit)
    assert len(found.encode()) <= limit
    assert all(map(is_harmless, found))
    assert cut(found, limit) == found


# --- where they are raised --------------------------------------------------------------------------------------


def _run(bench: Bench, job_id: str) -> RunOutcome:
    return unharmed(lambda: bench.run(job_id)).ended


def _ended_well(bench: Bench, job_id: str, ended: RunOutcome) -> JobRecord:
    """The runner neither raised nor left the job behind, and what it wrote can be read."""
    record = bench.relayq.get(job_id)
    assert record is not None
    assert ended not in {RunOutcome.UNSETTLED, RunOutcome.LEASE_LOST}
    assert record.status is not Status.PROCESSING
    for error in record.errors:
        assert _is_fit_to_be_stored(error["error"], ERROR_LINE_BYTES)
    return record


@evil
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_handler_may_raise_anything(make: Callable[[], BaseException], max_attempts: int) -> None:
    """It is an attempt that failed: recorded, and tried again or buried."""

    @job(max_attempts=max_attempts)
    def work() -> None:
        raise make()

    bench = Bench()
    with everything_seen() as seen:
        job_id = bench.relayq.dispatch(work).job_id
        ended = _run(bench, job_id)
    record = _ended_well(bench, job_id, ended)
    assert ended in {RunOutcome.RETRYING, RunOutcome.FAILED, RunOutcome.CANCELLED, RunOutcome.SNOOZED}
    assert _is_fit_to_be_stored(record.error, ERROR_BYTES)
    assert SECRET not in f"{record} {seen}"


@evil
def test_an_async_handler_may_raise_anything(make: Callable[[], BaseException]) -> None:
    """The event loop has its own ideas of what exits and interrupts."""

    @job
    async def work() -> None:
        raise make()

    @job(name="next")
    async def then() -> None:
        """Runs in the same process."""

    bench = Bench()
    job_id = bench.relayq.dispatch(work).job_id
    record = _ended_well(bench, job_id, _run(bench, job_id))
    assert _is_fit_to_be_stored(record.error, ERROR_BYTES)
    assert _run(bench, bench.relayq.dispatch(then).job_id) is RunOutcome.COMPLETED


@evil
def test_failed_may_raise_anything(make: Callable[[], BaseException]) -> None:
    """The job is buried all the same, with the error of its handler."""

    class Work(Job):
        def handle(self) -> None:
            raise Bury("no use")

        def failed(self, error: BaseException) -> None:
            raise make()

    bench = Bench()
    with everything_seen() as seen:
        job_id = bench.relayq.dispatch(Work()).job_id
        assert _run(bench, job_id) is RunOutcome.FAILED
    record = _ended_well(bench, job_id, RunOutcome.FAILED)
    assert record.error is not None
    assert record.error.startswith("Bury: no use")
    assert SECRET not in str(seen)


@evil
def test_failed_is_given_the_very_exception(make: Callable[[], BaseException]) -> None:
    """Whether it is true or false, long or odd."""
    told: list[BaseException] = []

    class Work(Job, max_attempts=1):
        def handle(self) -> None:
            raise error

        def failed(self, error: BaseException) -> None:
            told.append(error)

    error = make()
    bench = Bench()
    job_id = bench.relayq.dispatch(Work()).job_id
    ended = _run(bench, job_id)
    _ended_well(bench, job_id, ended)
    if ended is RunOutcome.FAILED:
        assert len(told) == 1
        # an exception that cannot be raised, or whose seconds are none, becomes another
        assert told[0] is error or _only_member(error) is told[0] or isinstance(told[0], AttributeError | InvalidOption)


def _only_member(error: BaseException) -> BaseException:
    """What is in a group of one, however deep: it speaks for the group."""
    while type(error) is ExceptionGroup and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@evil
@pytest.mark.parametrize("exhausted", [False, True])
def test_building_a_job_may_raise_anything(make: Callable[[], BaseException], exhausted: bool) -> None:
    """from_payload is the user's code, and may ask a database."""

    class Work(Job, max_attempts=1):
        def handle(self) -> None: ...

        def to_payload(self) -> dict[str, Any]:
            return {}

        @classmethod
        def from_payload(cls, data: Any) -> Work:
            raise make()

    bench = Bench()
    job_id = bench.relayq.dispatch(Work()).job_id
    if exhausted:
        bench.store.jobs[job_id] = bench.store.jobs[job_id].evolve(exhausted=True, error="JobCrashed: x")
    ended = _run(bench, job_id)
    record = _ended_well(bench, job_id, ended)
    assert _is_fit_to_be_stored(record.error, ERROR_BYTES)


@evil
@pytest.mark.parametrize("kind", KINDS)
def test_listeners_may_raise_anything(make: Callable[[], BaseException], kind: str) -> None:
    """The event they hear of has happened, and stays."""

    @on(kind)
    def listen(event: JobEvent) -> None:
        raise make()

    @job(max_attempts=2)
    def work(context: JobContext) -> None:
        if context.attempt == 1:
            raise ValueError("first")

    bench = Bench()
    with everything_seen() as seen:
        job_id = bench.relayq.dispatch(work).job_id
        assert _run(bench, job_id) is RunOutcome.RETRYING
        bench.clock.advance(minutes=1)
        assert _run(bench, job_id) is RunOutcome.COMPLETED
    assert SECRET not in str(seen)


@evil
def test_a_handoff_may_raise_anything(make: Callable[[], BaseException]) -> None:
    """It is a hint: the job is written, and the sweeper will come by."""
    bench = Bench()
    error = make()
    if not isinstance(error, Exception):
        pytest.skip("who is told to exit exits: a handoff is RelayQ's own code")
    bench.handoff.error = error
    assert bench.relayq.dispatch("work").handed_off is False


# --- what handlers return and do --------------------------------------------------------------------------------


class _EvilDict(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit("items")

    def __iter__(self) -> Any:
        raise KeyError("iter")


def _deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def _round() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        b"bytes",
        float("nan"),
        float("inf"),
        10**5_000,
        {("a", "b"): 1},
        {1: "a"},
        "\ud800",
        {"\ud800": "\udfff"},
        "x" * 50_000_000,
        _deep(900),
        _deep(100_000),
        _round(),
        _EvilDict(a=1),
        [_EvilDict(a=1)],
        EvilStr("evil"),
        {EvilStr("evil"): 1},
        ValueError("returned, not raised"),
        type,
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_handler_may_return_anything(value: object) -> None:
    """It has returned, so the job is done; what is no JSON, or too much, is not kept."""

    @job(name="work")
    def work() -> Any:
        return value

    bench = Bench()
    job_id = bench.relayq.dispatch(work).job_id
    assert _run(bench, job_id) is RunOutcome.COMPLETED
    record = bench.relayq.get(job_id)
    assert record is not None
    assert len(record.result_json or "") <= 32_768
    _ = record.result
