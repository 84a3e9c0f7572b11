"""Compare what a test expects with what was dispatched, and describe the difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import JobRequest, resolve_request
from relayq_core.model.record import JobRecord

#: A job's name, its class or decorated function, or a job object: `Greet(name="Ada")`, `greet.job(name="Ada")`.
Expected: TypeAlias = Any

#: The most dispatches that a failure shows, the nearest first.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Expectation:
    """A job's name, and what its payload must contain; `whole`: and nothing else."""

    name: str
    args: Mapping[str, Any]
    whole: bool = False

    def list_differences(self, record: JobRecord) -> list[str]:
        """Return, in words, how a record of this name differs; empty if it is as expected."""
        payload = record.payload if isinstance(record.payload, dict) else {}
        differences = [
            f"{name} is missing" if name not in payload else f"{name} is {payload[name]!r}"
            for name, value in self.args.items()
            if name not in payload or payload[name] != value
        ]
        others = [name for name in payload if name not in self.args] if self.whole else []
        return differences + [f"{name}={payload[name]!r} is there too" for name in others]

    def matches(self, record: JobRecord) -> bool:
        """Return whether the record is as expected."""
        return record.name == self.name and not self.list_differences(record)

    def __str__(self) -> str:
        return f"{self.name}({_format_args(self.args)})"


def build_expectation(job: Expected, args: Mapping[str, Any]) -> Expectation:
    """Return what is expected: for a job object its whole payload, otherwise the arguments that are named."""
    if isinstance(job, str):
        return Expectation(job, _convert_to_json(args))
    job_type = getattr(job, "__relayq_type__", None)
    if job_type is not None and not _is_job_object(job):
        return Expectation(job_type.name, _convert_to_json(args))
    if args:
        raise TypeError("a job object has its arguments already; leave out the others")
    request: JobRequest = resolve_request(job, None, registry)
    return Expectation(request.name, request.payload, whole=True)


def _is_job_object(job: Any) -> bool:
    """Return whether this is an object of a job class; a class or a decorated function is a job type."""
    return hasattr(type(job), "model_fields")


def describe_absence(expected: Expectation, dispatched: Sequence[JobRecord]) -> str:
    """Return the message of a failure: what was expected, and what was dispatched instead, the nearest first."""
    if not dispatched:
        return f"expected a dispatch of {expected}, but nothing was dispatched"
    near = sorted(
        (record for record in dispatched if record.name == expected.name),
        key=lambda record: len(expected.list_differences(record)),
    )
    others = [record for record in dispatched if record.name != expected.name]
    lines = [f"  {describe_dispatch(record)}   <- {', '.join(expected.list_differences(record))}" for record in near]
    lines += [f"  {describe_dispatch(record)}" for record in others]
    return _append_list(f"expected a dispatch of {expected}; these were dispatched:", lines)


def describe_presence(expected: str, dispatched: Sequence[JobRecord]) -> str:
    """Return the message of a failure: something was dispatched that should not have been."""
    return _append_list(
        f"expected no dispatch of {expected}; these were dispatched:",
        [f"  {describe_dispatch(job)}" for job in dispatched],
    )


def describe_dispatch(record: JobRecord) -> str:
    """Return one dispatch in one line, as it was called."""
    payload = record.payload if isinstance(record.payload, dict) else {}
    wait = (record.available_at - record.created_at) / 1000
    options = [f"queue={record.queue!r}"]
    options += [f"delay={wait:g}"] if wait > 0 else []
    options += [f"unique={record.unique_pk.rpartition('#')[2]!r}"] if record.unique_pk else []
    return f"{record.name}({_format_args(payload)}), {', '.join(options)}"


def _append_list(first: str, lines: list[str]) -> str:
    more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join([first, *lines[:_SHOWN], *more])


def _format_args(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in args.items())


def _convert_to_json(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in the form of a payload: moments as text, tuples as lists, enums as their value."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(args), default=_simplify))
    return plain


def _simplify(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
