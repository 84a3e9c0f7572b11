"""The same for many, some at a time: in order, with the caller's context, and never more than was asked for."""

from __future__ import annotations

import threading
import time

import pytest

from relayq_core.jobs.lineage import current_job
from relayq_core.process.concurrency import THREADS, Spreading, spread_in_threads, spread_serially
from tests.support.factories import a_job


@pytest.mark.parametrize("spreading", [spread_serially, spread_in_threads])
def test_the_answers_are_in_the_order_of_the_items(spreading: Spreading) -> None:
    """Whichever item is ready first."""

    def slow(number: int) -> int:
        time.sleep((5 - number) * 0.001)
        return number * 2

    with spreading() as spread:
        assert spread(slow, range(5)) == [0, 2, 4, 6, 8]
        assert spread(slow, []) == []


def test_threads_have_the_callers_context() -> None:
    """What a handler dispatches in them is a child of its job."""
    token = current_job.set(a_job(id="parent"))
    try:
        with spread_in_threads() as spread:
            found = spread(lambda _: current_job.get(), range(3))
    finally:
        current_job.reset(token)
    assert [job.id if job else None for job in found] == ["parent"] * 3


def test_no_more_than_eight_at_a_time() -> None:
    """Each has a connection of its own."""

    def who(_: int) -> int:
        time.sleep(0.001)
        return threading.get_ident()

    with spread_in_threads() as spread:
        found = {*spread(who, range(100)), *spread(who, range(100))}
    assert 1 < len(found) <= THREADS


def test_no_thread_outlives_the_block_or_begins_without_need() -> None:
    """A Lambda is frozen between two invocations; and an idle tick has nothing to spread."""
    before = set(threading.enumerate())
    with spread_in_threads() as spread:
        assert spread(str, [1]) == ["1"]
        assert set(threading.enumerate()) == before
        assert spread(str, [1, 2]) == ["1", "2"]
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_what_has_not_begun_when_one_fails_is_not_begun_any_more() -> None:
    """A handler that has to stop cannot wait for all that was queued."""
    began: list[int] = []

    def fail(number: int) -> None:
        began.append(number)
        if number == 0:
            raise TimeoutError
        time.sleep(0.05)

    with pytest.raises(TimeoutError), spread_in_threads() as spread:
        spread(fail, range(1000))
    assert len(began) < 100


@pytest.mark.parametrize("error", [IndexError, KeyError])
def test_an_error_in_any_thread_is_raised(error: type[Exception]) -> None:
    """Of any type: when nothing is left to take, the words are the same."""

    def fail(number: int) -> None:
        if number == 7:
            raise error("its own")
        time.sleep(0.01)

    with pytest.raises(error, match="its own"), spread_in_threads() as spread:
        spread(fail, range(20))
