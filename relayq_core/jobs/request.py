"""JobRequest: a job to dispatch, before it is stored: its name, payload and options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self, Unpack

from relayq_core.errors import InvalidOption, InvalidPayload
from relayq_core.jobs.habits import add_hints
from relayq_core.jobs.registry import JobType, Registry, registry
from relayq_core.model.options import DispatchOptions, Options, validate_name
from relayq_core.model.value import Value, field


class JobRequest(Value):
    """A job and its options. `with_options()` returns a copy with more of them."""

    name: str
    payload_json: str = field(shown=False)
    options: Options = Options()
    #: the job's type, if the caller has its code
    job_type: JobType | None = field(default=None, shown=False)

    @property
    def payload(self) -> Any:
        """The payload as the runner will read it."""
        return json.loads(self.payload_json)

    def __eq__(self, other: object) -> bool:
        """Return whether two requests are for the same; one may know its type, and the other not."""
        return self._key == other._key if isinstance(other, JobRequest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it without its type, which the other process looks up in its own registry."""
        return _rebuild_request, (type(self), self.name, self.payload_json, self.options)

    def __copy__(self) -> Self:
        return self.evolve()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.evolve()  # everything in it is frozen

    @property
    def _key(self) -> tuple[str, str, Options]:
        return self.name, self.payload_json, self.options

    @add_hints
    def with_options(self, **options: Unpack[DispatchOptions]) -> JobRequest:
        """Return a copy with these options over its own; see `relayq_core.dispatch`. Raises InvalidOption."""
        return self.evolve(options=Options.validate(**options).complete_from(self.options))


def _rebuild_request(kind: type[JobRequest], name: str, payload_json: str, options: Options) -> JobRequest:
    return kind(name, payload_json, options, registry.get(name))


def resolve_request(job: Any, args: Mapping[str, Any] | None, registry: Registry) -> JobRequest:
    """Return the request for what dispatch() was called with; `args` is None where there is no second argument.

    Raises InvalidPayload, InvalidOption, and TypeError for what is not a job.
    """
    if isinstance(job, JobRequest):
        _refuse_args(validate_name(job.name), args)
        return job
    if isinstance(job, str):
        return _build_by_name(_validate_job_name(job), {} if args is None else args, registry)
    # a Job class, a Job object and a job function have it
    build = getattr(job, "__relayq_request__", None)
    if build is None:
        raise TypeError(
            "dispatch() takes a Job object, a job type with its data, a request from .job() or with_options(), "
            f"or a job's name; got {type(job).__name__}. Is the function decorated with @job?"
        )
    request: JobRequest = build() if args is None else build(args)
    return request


def _validate_job_name(text: str) -> str:
    try:
        return validate_name(text)
    except InvalidOption as error:
        problem = f"{error.problem}. If a job function returned it: dispatch(function.job(...)), without calling it"
        raise InvalidOption(error.option, problem) from None


def _build_by_name(name: str, args: Mapping[str, Any], registry: Registry) -> JobRequest:
    """Check the arguments by the job's type, if the caller has its code; otherwise they only have to be JSON."""
    text = encode_json(name, args)
    if name in registry:
        job_type = registry[name]
        return JobRequest(name=name, payload_json=job_type.recheck(text), job_type=job_type)
    return JobRequest(name=name, payload_json=text)


def _refuse_args(name: str, args: Mapping[str, Any] | None) -> None:
    if args is not None:
        raise InvalidPayload(name, "the job has its arguments already; leave out the second argument")


def encode_json(name: str, args: Mapping[str, Any]) -> str:
    """Return a mapping as compact JSON that reads back as the same value. Raises InvalidPayload, with the field."""
    if not isinstance(args, Mapping):
        raise InvalidPayload(name, f"expected a mapping of field names to values, got {type(args).__name__}")
    try:
        payload = dict(args)
        text = _compact(payload)
        if _is_jsons_own(payload) or _is_unchanged(payload, json.loads(text)):
            text.encode()
            return text
    except (TypeError, ValueError, RecursionError):
        pass
    return _encode_fields(name, args)


def _encode_fields(name: str, args: Mapping[str, Any]) -> str:
    """Return a mapping as compact JSON, field by field, so that an error can name the field."""
    for key, value in args.items():
        if not isinstance(key, str):
            raise InvalidPayload(name, f"expected field names that are strings, got {type(key).__name__}")
        problem = find_json_problem(value) or (None if key.isascii() else find_json_problem(key))
        if problem is not None:
            raise InvalidPayload(name, problem, field=key)
    return _compact(dict(args))


def is_same_json(mine: str, other: str) -> bool:
    """Return whether two texts of JSON mean the same, however they order keys, spell numbers and escape letters."""
    if mine == other:
        return True
    try:
        return _is_same_value(json.loads(mine), json.loads(other))
    except (ValueError, RecursionError):
        return False


def _is_same_value(mine: Any, other: Any) -> bool:
    if isinstance(mine, dict) and isinstance(other, dict):
        return mine.keys() == other.keys() and all(_is_same_value(item, other[key]) for key, item in mine.items())
    if isinstance(mine, list) and isinstance(other, list):
        return len(mine) == len(other) and all(map(_is_same_value, mine, other))
    return isinstance(mine, bool) == isinstance(other, bool) and bool(mine == other)  # True is not 1, but 1.0 is


def find_json_problem(value: Any) -> str | None:
    """Return why a value changes on its way through JSON, or None if it does not."""
    try:
        text = _compact(value)
        text.encode()
        same = _is_unchanged(value, json.loads(text))
    except UnicodeEncodeError:
        return "it holds a lone surrogate, which is not valid Unicode text"
    except RecursionError:
        return "it is nested too deeply for JSON"
    except (TypeError, ValueError) as error:
        return f"it cannot be written as JSON ({error}); use text, numbers, lists and mappings"
    if not same:
        return (
            f"it changes on its way through JSON (a {type(value).__name__} does not come back the same); "
            "use lists, mappings with string keys, text, numbers, true, false and null"
        )
    return None


_compact = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def _is_jsons_own(value: Any) -> bool:
    """Return whether a value has only the types that JSON reads back: written as JSON, it cannot change."""
    kind = type(value)
    if kind in _JSONS_OWN:
        return True
    if kind is dict:
        return set(map(type, value)) <= _STRINGS and all(map(_is_jsons_own, value.values()))
    return kind is list and all(map(_is_jsons_own, value))


_STRINGS = frozenset({str})
_JSONS_OWN = frozenset({str, int, float, bool, type(None)})


def _is_unchanged(value: Any, back: Any) -> bool:
    """Return whether both are equal and of the same types throughout: (1, 2) is not [1, 2], and True is not 1."""
    if isinstance(back, dict):
        return (
            isinstance(value, dict)
            and len(value) == len(back)
            and all(
                isinstance(key, str) and key in back and _is_unchanged(item, back[key]) for key, item in value.items()
            )
        )
    if isinstance(back, list):
        return isinstance(value, list) and len(value) == len(back) and all(map(_is_unchanged, value, back))
    return type(back) in type(value).__mro__ and value == back
