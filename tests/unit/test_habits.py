"""Plausible wrong uses: each is refused by the type that Python would, and says what to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from relayq_core import InvalidJob, InvalidOption, Job, dispatch, job
from relayq_core.testing import fake, isolated_registry


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    with isolated_registry(), fake():
        yield


def _class_job() -> Any:
    class Greet(Job):
        name: str

        def handle(self) -> None: ...

    return Greet


def _function_job() -> Any:
    @job
    def greet(name: str) -> None: ...

    return greet


_METHODS = ["delay", "apply_async", "s", "si", "send", "enqueue", "perform_async", "signature"]


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("made", [_function_job, _class_job, lambda: _class_job()(name="Ada")], ids=str)
def test_a_method_that_tasks_have_elsewhere_is_said_in_relayqs_words(made: Callable[[], Any], method: str) -> None:
    """`delay` and `apply_async` are what one types first. hasattr() and its like go on working."""
    task = made()
    with pytest.raises(AttributeError, match=r"In RelayQ write (dispatch\()?[Gg]reet"):
        getattr(task, method)
    assert not hasattr(task, method)
    with pytest.raises(AttributeError) as raised:
        _ = task.nonsense
    assert "In RelayQ" not in str(raised.value)


def test_a_field_may_have_such_a_name() -> None:
    """They are only words."""

    class Wait(Job):
        delay: int
        s: str = "short"

        def handle(self) -> None: ...

    assert (Wait(delay=5).delay, Wait(delay=5).s) == (5, "short")


_OPTIONS = {
    "countdown": "delay=",
    "eta": "at=",
    "retries": "max_attempts=",
    "max_retries": "max_attempts=",
    "task_id": "job_id=",
    "tiemout": 'Did you mean "timeout"?',
    "source": "Known: ",
}


@pytest.mark.parametrize(("option", "says"), _OPTIONS.items())
def test_an_option_that_dispatch_has_not_suggests_one(option: str, says: str) -> None:
    """It stays Python's TypeError; the options that there are stand in it."""
    greet: Any = _function_job()
    greeting: Any = _class_job()(name="Ada")
    ask: Any = dispatch
    for call in (
        lambda given: ask(greet.job(name="Ada"), **given),
        lambda given: ask("greet", {"name": "Ada"}, **given),
        lambda given: greet.job(name="Ada").with_options(**given),
        lambda given: greeting.with_options(**given),
    ):
        with pytest.raises(TypeError) as raised:
            call({option: 1})  # type: ignore[no-untyped-call]
        assert says in str(raised.value)
        assert "unique_for" in str(raised.value)


@pytest.mark.parametrize(("option", "says"), _OPTIONS.items())
def test_an_option_that_a_job_has_not_suggests_one(option: str, says: str) -> None:
    """InvalidJob for a function, which is a TypeError too; InvalidOption for a class."""
    make: Any = job
    kind: Any = type(Job)
    with pytest.raises(InvalidJob) as raised:
        make(**{option: 1})(cast("Any", _class_job))
    assert isinstance(raised.value, TypeError)
    assert says.replace("at=", "").rstrip("=") in str(raised.value)
    assert "max_attempts" in str(raised.value)
    with pytest.raises(InvalidOption) as refused:
        kind("Greet", (Job,), {"handle": lambda self: None, "__module__": __name__}, **{option: 1})
    assert says.replace("at=", "").rstrip("=") in str(refused.value)
    assert "max_attempts" in str(refused.value)
