"""What defining a job class and a job function have in common: where errors point, and which handlers are refused."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import PydanticUserError
from pydantic_core import SchemaError

from relayq_core.errors import InvalidJob, InvalidOption
from relayq_core.jobs.registry import JobType
from relayq_core.jobs.request import JobRequest


@contextmanager
def name_job_in_errors(where: str) -> Iterator[None]:
    """Return a context in which an InvalidOption gets the name of the job that it belongs to."""
    try:
        yield
    except InvalidOption as error:
        raise InvalidOption(error.option, error.problem, where=where) from None


def extract_message(error: PydanticUserError | SchemaError) -> str:
    """Return pydantic's message without its link."""
    message = error.message if isinstance(error, PydanticUserError) else str(error)
    return message.partition("\n\nFor further information")[0].strip()


def refuse_generator(function: Any, where: str) -> None:
    """Raise InvalidJob for a handler that contains yield."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(where, "the handler is a generator: it contains yield, so calling it would run nothing")


def build_request(job_type: JobType, args: Any) -> JobRequest:
    """Return a request for a job of this type. Raises InvalidPayload."""
    return JobRequest(name=job_type.name, payload_json=job_type.encode(args), job_type=job_type)


def find_file(module: str) -> str:
    """Return the file of a module, or its name if it has no file."""
    return getattr(sys.modules.get(module), "__file__", None) or module


def build_schema(generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the payload's JSON Schema; if it has none, one without `properties` whose `$comment` says why."""
    try:
        schema = generate()
    except Exception as error:  # pydantic's, or that of a type of the user's own
        message = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        return {"type": "object", "$comment": f"unknown: {message.partition(chr(10))[0][:300]}"}
    # a job that holds itself is a definition, and what stands at the top is a reference to it
    name = schema.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][name], "$defs": schema["$defs"]} if name else schema
