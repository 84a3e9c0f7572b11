"""What takes several takes no single thing: a text, a mapping or a job would be taken apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relayq_core import InvalidOption, Job, dispatch_many, job, relayq
from relayq_core.jobs.registry import import_jobs
from relayq_core.testing import fake, isolated_registry
from relayq_core.testing.kit import Kit


@pytest.fixture
def kit() -> Iterator[Kit]:
    """Tables in memory."""
    with isolated_registry(), fake() as made:
        yield made


def _job() -> Any:
    class Greet(Job):
        name: str = "Ada"

        def handle(self) -> None: ...

    return Greet


def _function() -> Any:
    @job
    def greet(name: str = "Ada") -> None: ...

    return greet


SINGLE: dict[str, Callable[[], Any]] = {
    "a text": lambda: "greet",
    "bytes": lambda: b"greet",
    "a mapping": lambda: {"greet": {"name": "Ada"}},
    "a job": lambda: _job()(name="Bob"),
    "a job class": _job,
    "a job function": _function,
    "a request": lambda: _function().job(),
    "nothing": lambda: None,
    "a number": lambda: 7,
}
TAKERS: dict[str, Callable[[Any], object]] = {
    "dispatch_many": dispatch_many,
    "redrive_many": lambda given: relayq().redrive_many(given),
    "forget_many": lambda given: relayq().forget_many(given),
    "bulk.redrive": lambda given: list(relayq().bulk.redrive(given)),
    "bulk.forget": lambda given: list(relayq().bulk.forget(given)),
    "import_jobs": import_jobs,
}


@pytest.mark.parametrize("single", SINGLE.values(), ids=SINGLE)
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_a_single_thing_is_refused_where_several_are_taken(
    kit: Kit, take: Callable[[Any], object], single: Callable[[], Any]
) -> None:
    """`dispatch_many("greet")` would be jobs g, r, e, e and t."""
    with pytest.raises(InvalidOption, match="in a list for example, got a single"):
        take(single())
    assert kit.all_dispatched() == []


def test_anything_else_that_can_be_iterated_over_is_taken(kit: Kit) -> None:
    """Lists, tuples, sets, generators, views of a mapping."""
    request = _function().job()
    for jobs in ([request], (request,), {request}, (request for _ in range(1)), {1: request}.values(), iter(["greet"])):
        assert len(dispatch_many(jobs)) == 1


def test_failed_jobs_may_be_given_as_they_were_answered(kit: Kit) -> None:
    """`redrive_many(failed())` is what one writes first."""

    @job(max_attempts=1)
    def fail() -> None:
        raise ValueError

    dispatch_many([fail.job()] * 3)
    kit.drain()
    assert relayq().redrive_many(relayq().failed()).counts == {"redriven": 3}
    kit.drain()
    assert relayq().forget_many(relayq().failed()).counts == {"forgotten": 3}
