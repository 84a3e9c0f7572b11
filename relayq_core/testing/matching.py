"""What a test expects of a dispatch, held against what was dispatched; and a failure that says what was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import JobRequest, resolve_request
from relayq_core.model.record import JobRecord

#: A job's name, its class or decorated function, or a job made: `Greet(name="Ada")`, `greet.job(name="Ada")`.
Expected: TypeAlias = Any

#: So many dispatches are shown in a failure, the nearest first.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Expectation:
    """A job's name, and what its payload must hold; `whole`: and nothing else."""

    name: str
    args: Mapping[str, Any]
    whole: bool = False

    def differences(self, record: JobRecord) -> list[str]:
        """What is otherwise in a record of this name, in words; nothing where it is as expected."""
        found = record.payload if isinstance(record.payload, dict) else {}
        said = [
            f"{name} is missing" if name not in found else f"{name} is {found[name]!r}"
            for name, value in self.args.items()
            if name not in found or found[name] != value
        ]
        more = [f"{name}={found[name]!r} is there too" for name in found if name not in self.args] if self.whole else []
        return said + more

    def meets(self, record: JobRecord) -> bool:
        """The record is as expected."""
        return record.name == self.name and not self.differences(record)

    def __str__(self) -> str:
        return f"{self.name}({_listed(self.args)})"


def expectation(job: Expected, args: Mapping[str, Any]) -> Expectation:
    """What is expected. Of a job that was made the whole payload is compared, else the arguments that are named."""
    if isinstance(job, str):
        return Expectation(job, _as_json(args))
    job_type = getattr(job, "__relayq_type__", None)
    if job_type is not None and not _is_made(job):
        return Expectation(job_type.name, _as_json(args))
    if args:
        raise TypeError("a job that was made has its arguments; leave out the others")
    request: JobRequest = resolve_request(job, None, registry)
    return Expectation(request.name, request.payload, whole=True)


def _is_made(job: Any) -> bool:
    """An object of a job class; a class and a decorated function are types."""
    return hasattr(type(job), "model_fields")


def not_found(expected: Expectation, dispatched: Sequence[JobRecord]) -> str:
    """The failure: what was expected, and what was dispatched instead, the nearest first."""
    if not dispatched:
        return f"expected a dispatch of {expected}, and nothing was dispatched"
    near = sorted(
        (record for record in dispatched if record.name == expected.name),
        key=lambda record: len(expected.differences(record)),
    )
    others = [record for record in dispatched if record.name != expected.name]
    lines = [f"  {told(record)}   <- {', '.join(expected.differences(record))}" for record in near]
    lines += [f"  {told(record)}" for record in others]
    return _with_list(f"expected a dispatch of {expected}; dispatched were:", lines)


def found(what: str, dispatched: Sequence[JobRecord]) -> str:
    """The failure of an expectation that something was not dispatched."""
    return _with_list(f"expected no dispatch of {what}; dispatched were:", [f"  {told(job)}" for job in dispatched])


def told(record: JobRecord) -> str:
    """One dispatch in one line, as it was called."""
    payload = record.payload if isinstance(record.payload, dict) else {}
    wait = (record.available_at - record.created_at) / 1000
    options = [f"queue={record.queue!r}"]
    options += [f"delay={wait:g}"] if wait > 0 else []
    options += [f"unique={record.unique_pk.rpartition('#')[2]!r}"] if record.unique_pk else []
    return f"{record.name}({_listed(payload)}), {', '.join(options)}"


def _with_list(first: str, lines: list[str]) -> str:
    more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join([first, *lines[:_SHOWN], *more])


def _listed(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in args.items())


def _as_json(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they stand in a payload: moments as text, tuples as lists, enums as their value."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(args), default=_plain))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
