"""The same for many, some at a time: in order, with the caller's context, and never more than was asked for."""

from __future__ import annotations

import threading
import time

import pytest

from relayq_core.context import current_job
from relayq_core.spreading import THREADS, in_threads, one_by_one
from tests.factories import a_job


@pytest.mark.parametrize("spread", [one_by_one, in_threads])
def test_the_answers_are_in_the_order_of_the_items(spread: object) -> None:
    """Whoever is ready first."""

    def slow(number: int) -> int:
        time.sleep((5 - number) * 0.001)
        return number * 2

    assert spread(slow, range(5)) == [0, 2, 4, 6, 8]  # type: ignore[operator]
    assert spread(slow, []) == []  # type: ignore[operator]


def test_threads_have_the_callers_context() -> None:
    """What a handler dispatches in them is a child of its job."""
    token = current_job.set(a_job(id="parent"))
    try:
        found = in_threads(lambda _: current_job.get(), range(3))
    finally:
        current_job.reset(token)
    assert [job.id if job else None for job in found] == ["parent"] * 3


def test_no_more_than_eight_at_a_time() -> None:
    """Each has a connection of its own."""

    def who(_: int) -> int:
        time.sleep(0.001)
        return threading.get_ident()

    assert len(set(in_threads(who, range(100)))) <= THREADS


def test_what_has_not_begun_when_one_fails_is_not_begun_any_more() -> None:
    """A handler that is told to stop cannot wait for all that was queued."""
    began: list[int] = []

    def fail(number: int) -> None:
        began.append(number)
        if number == 0:
            raise TimeoutError
        time.sleep(0.05)

    with pytest.raises(TimeoutError):
        in_threads(fail, range(1000))
    assert len(began) < 100
