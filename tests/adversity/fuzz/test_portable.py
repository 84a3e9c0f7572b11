"""What RelayQ hands out goes to other processes: by pickle, by copy, through pools of workers."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import threading
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import relayq_core
from relayq_core import (
    Bury,
    Dispatched,
    DispatchIncomplete,
    Exponential,
    InvalidPayload,
    Job,
    JobEvent,
    JobRequest,
    RelayQ,
    RetryAfter,
    Settings,
    Snooze,
    StoreError,
    job,
)
from relayq_core.adapters.dynamodb.calls import ConditionFailed
from relayq_core.errors import Portable, RelayQError
from relayq_core.model.options import Options
from relayq_core.testing import isolated_registry
from tests.support.factories import a_job

#: Importing these starts something: a command, a function.
_STARTING = ("__main__", ".handlers.api", ".handlers.runner", ".handlers.sweeper")


def _modules() -> Iterable[str]:
    for found in pkgutil.walk_packages(relayq_core.__path__, "relayq_core."):
        if not found.name.endswith(_STARTING) and ".shipped" not in found.name:
            yield found.name


def _below(kind: type[BaseException]) -> Iterable[type[BaseException]]:
    for below in type.__subclasses__(kind):
        yield below
        yield from _below(below)


with isolated_registry():
    for _name in _modules():
        importlib.import_module(_name)
#: Every exception that any module of RelayQ defines.
ERRORS = sorted(
    {kind for kind in _below(BaseException) if kind.__module__.startswith("relayq_core")},
    key=lambda kind: (kind.__module__, kind.__qualname__),
)
_GIVEN = {
    "seconds": st.floats(0, 1000),
    "folder": st.just(Path("folder")),
    "file": st.just(Path("file")),
    "item": st.none() | st.just({"pk": {"S": "job#1"}}),
    "reasons": st.lists(st.none() | st.builds(ConditionFailed, st.none())),
    "outcomes": st.just([Dispatched("job-1", duplicate=False, handed_off=True), StoreError("what", "fix")]),
}


def _made(kind: type[BaseException]) -> st.SearchStrategy[BaseException]:
    if not inspect.isfunction(kind.__init__):
        return st.builds(kind, st.text())
    parameters = inspect.signature(kind).parameters
    return st.builds(kind, **{name: known for name, known in _GIVEN.items() if name in parameters})


def _by_pickle(protocol: int) -> Callable[[BaseException], BaseException]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": _by_pickle(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}
by_each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def _parts(error: BaseException | None) -> Any:
    """Everything that can be said of an exception, down its chain."""
    if error is None:
        return None
    return (
        type(error),
        str(error),
        [str(arg) for arg in error.args],
        {name: str(value) for name, value in vars(error).items()},
        error.__suppress_context__,
        _parts(error.__cause__),
    )


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)
@given(data=st.data())
def test_every_exception_of_relayq_comes_back_as_it_went(kind: type[BaseException], data: st.DataObject) -> None:
    """Its text, its attributes, its notes, what caused it: by each protocol of pickle and by copy."""
    error = data.draw(_made(kind))
    error.add_note("in march.csv, line 7")
    if issubclass(kind, Portable):  # the others are a kit's or a demo's, and Python's own way will do
        error.__cause__ = KeyError("customer_id")
    for way in WAYS.values():
        assert _parts(way(error)) == _parts(error)


def test_the_exceptions_are_found() -> None:
    """Those of the front door, of the command line, of the handlers: else nothing is tried."""
    assert len(ERRORS) >= 35
    assert {RetryAfter, Snooze, Bury, StoreError, InvalidPayload} <= set(ERRORS)


class RateLimited(RetryAfter):
    """A user's own, whose __init__ takes something else."""

    def __init__(self, answer: dict[str, int]) -> None:
        super().__init__(answer["retry_after"], "rate limited")
        self.answer = answer


@by_each_way
def test_a_users_own_subclass_comes_back_too(way: Callable[[Any], Any]) -> None:
    """No __init__ is called: what it takes need not be known."""
    back = way(RateLimited({"retry_after": 60}))
    assert (type(back), str(back), back.seconds, back.answer) == (RateLimited, "rate limited", 60, {"retry_after": 60})


@by_each_way
def test_what_cannot_be_pickled_stays_behind_and_holds_nothing_up(way: Callable[[Any], Any]) -> None:
    """A cause of a class within a function, an attribute with a lock: the error itself arrives."""

    class Local(Exception):
        pass

    error = StoreError("GetItem was refused", "wait", code="Throttled")
    error.__cause__ = Local("secret")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    if way is copy.deepcopy:
        del error.lock  # type: ignore[attr-defined]
    back = way(error)
    assert (str(back), back.code) == ("GetItem was refused; wait", "Throttled")
    assert "Local" in repr(back.__cause__)


@by_each_way
def test_causes_that_go_round_and_long_chains_come_back(way: Callable[[Any], Any]) -> None:
    """Each link is looked at once."""
    one, two = StoreError("one", "fix"), StoreError("two", "fix")
    one.__cause__, two.__context__ = two, one
    assert str(way(one).__cause__) == "two; fix"
    last: RelayQError = StoreError("0", "fix")
    for number in range(1, 60):
        following = StoreError(str(number), "fix")
        following.__cause__, last = last, following
    assert _parts(way(last)) == _parts(last)


# --- through pools ---


def _fetch(page: int) -> int:
    if page == 2:
        raise RetryAfter(60, "rate limited") from KeyError("customer_id")
    if page == 3:
        raise DispatchIncomplete([StoreError("PutItem was refused", "wait")])
    return page


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_what_a_worker_of_a_pool_raises_reaches_its_parent(start: str) -> None:
    """A pool that cannot read it waits without an end, and its handler with it."""
    kinds = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, mp_context=kinds) as executor:
        with pytest.raises(RetryAfter, match="rate limited") as caught:
            executor.submit(_fetch, 2).result(60)
        assert caught.value.seconds == 60
        with pytest.raises(DispatchIncomplete) as incomplete:
            executor.submit(_fetch, 3).result(60)
        assert "PutItem" in str(incomplete.value.outcomes[0])
    with kinds.Pool(1) as pool, pytest.raises(RetryAfter) as caught:
        pool.map_async(_fetch, range(4)).get(60)
    assert "customer_id" in "".join(traceback.format_exception(caught.value))


# --- values and jobs ---


class Greet(Job):
    """A job of a module."""

    name: str

    def handle(self) -> str:
        """Greet."""
        return self.name


@job
def greet(name: str) -> str:
    """Greet."""
    return name


VALUES: dict[str, Any] = {
    "record": a_job(payload_json='{"name":"Ada"}'),
    "options": Options.validate(delay=timedelta(seconds=5), backoff=[1, 2], unique="key"),
    "settings": Settings(jobs_table="jobs", runner_functions={"reports": "heavy"}),
    "backoff": Exponential(10, cap=60, jitter=0.1),
    "dispatched": Dispatched("job-1", duplicate=False, handed_off=True),
    "event": JobEvent(kind="failed", job=a_job(), will_retry=True),
    "job": Greet(name="Ada"),
    "request of a class": Greet(name="Ada").with_options(delay=5),
    "request of a function": greet.job(name="Ada"),
    "request by name": JobRequest("elsewhere", "{}"),
    "job class": Greet,
    "job function": greet,
}


@by_each_way
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_and_jobs_come_back_equal(value: Any, way: Callable[[Any], Any]) -> None:
    """A pool's task may be a job function, its argument a record or a request."""
    back = way(value)
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, JobRequest):
        assert (back.job_type is None) == (value.job_type is None)


def _told(context: Any) -> tuple[Any, ...]:
    return (context.job_id, context.attempt, context.deadline_ms)


def test_a_job_function_is_a_task_of_a_pool() -> None:
    """Calling it runs it; in another process too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(greet, ["Ada", "Bob"]).get(60) == ["Ada", "Bob"]


def test_a_relayq_of_settings_alone_can_be_given_to_another_process() -> None:
    """It opens its own connections there; one with parts of the caller's own says that it cannot go."""
    settings = Settings(jobs_table="jobs", failed_table="failed", runner_function="runner")
    back = pickle.loads(pickle.dumps(RelayQ(settings)))
    assert back.settings == settings
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(RelayQ(settings, store=back.store))
