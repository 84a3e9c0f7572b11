"""A class job and a function job of one odd field, made for a type: what holds for the one holds for the other."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from pydantic import ConfigDict

from relayq_core import Job, JobRequest, job
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request

#: Makes, for a type, what makes a request of a value.
Form: TypeAlias = Callable[[Any], Callable[[Any], JobRequest]]


def class_job(kind: Any) -> Callable[[Any], JobRequest]:
    """A class whose field `odd` is of this type."""
    body = {
        "__module__": __name__,
        "__annotations__": {"odd": kind},
        "model_config": ConfigDict(arbitrary_types_allowed=True),
        "handle": lambda self: self.odd,
    }
    made: Any = types.new_class("Odd", (Job,), {}, lambda into: into.update(body))
    return lambda value: resolve_request(made(odd=value), None, registry)


def function_job(kind: Any) -> Callable[[Any], JobRequest]:
    """A function whose parameter `odd` is of this type."""

    def odd_(odd: Any) -> Any:
        return odd

    odd_.__annotations__["odd"] = kind
    made: Callable[[Any], JobRequest] = job(name="OddFunction")(odd_).job
    return made


BOTH = pytest.mark.parametrize("form", [class_job, function_job])


def run(made: JobRequest) -> Any:
    """What the handler is given for `odd`, on the runner."""
    built, ignored = registry[made.name].build(made.payload_json)
    assert ignored == []
    return built.handle(lambda: None)  # type: ignore[arg-type, return-value]
