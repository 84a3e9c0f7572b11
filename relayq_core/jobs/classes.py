"""Job: a job as a class. Its fields are the payload."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError
from pydantic_core import SchemaError

from relayq_core.errors import InvalidJob, InvalidOption, InvalidPayload, quote, suggest
from relayq_core.jobs.context import JobContext
from relayq_core.jobs.defining import (
    build_request,
    build_schema,
    extract_message,
    find_file,
    name_job_in_errors,
    refuse_generator,
)
from relayq_core.jobs.habits import add_hints, suggest_method, suggest_option
from relayq_core.jobs.meaning import collect_fields, is_same
from relayq_core.jobs.payload import Codec, build_invalid_payload, encode_payload, validate_leniently
from relayq_core.jobs.registry import Origin, RunnableJob, registry
from relayq_core.jobs.request import JobRequest, encode_json, is_same_json
from relayq_core.jobs.signatures import is_context, list_parameters
from relayq_core.model.options import JOB_OPTIONS, DispatchOptions, JobOptions, Options, validate_name

if TYPE_CHECKING:

    class _ClassKeywords(JobOptions, ConfigDict, total=False):
        """What may stand in the line of a class beside `name` and `abstract`."""


_CLASS_KEYWORDS = ("name", *JOB_OPTIONS, "abstract")
#: A field of one of these names would hide what the runner calls.
_JOB_METHODS = frozenset({"handle", "failed", "with_options", "to_payload", "from_payload"})
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _RequestHook:
    """Lets dispatch() ask a Job class, which takes arguments, and a Job object, which has them, by one name."""

    def __get__(self, instance: Job | None, owner: type[Job]) -> Callable[..., JobRequest]:
        return partial(_request_class, owner) if instance is None else partial(_request_object, instance)


def _request_class(cls: type[Job], args: Mapping[str, Any] = MappingProxyType({})) -> JobRequest:
    return build_request(_get_type(cls), args)


def _request_object(job: Job, *args: Any) -> JobRequest:
    job_type = _get_type(type(job))
    if args:
        raise InvalidPayload(job_type.name, "the job object has its arguments already; leave out the second argument")
    return build_request(job_type, job)


if TYPE_CHECKING:
    from pydantic import BaseModel as _Model
else:

    class _Defining(type(BaseModel)):
        """Raises what pydantic refuses in a class as InvalidJob, with the job's name."""

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> Any:
            try:
                cls = super().__new__(mcs, name, bases, namespace, **kwargs)
                if not cls.__pydantic_complete__:
                    # pydantic looks for local types where it is called: here, and not where the class is defined
                    cls.model_rebuild(raise_errors=False, _parent_namespace_depth=3)
            except (PydanticUserError, SchemaError) as error:
                where = f"job {namespace.get('__qualname__', name)}"
                raise InvalidJob(
                    where, _explain_misplaced_option(name, namespace, error) or extract_message(error)
                ) from error
            return cls

        def __getattr__(cls, name: str) -> Any:
            with _suggest_in_errors(cls, name):
                return super().__getattr__(name)

    @contextmanager
    def _suggest_in_errors(cls: type, name: str) -> Iterator[None]:
        """Return a context in which an AttributeError says what to write instead of other systems' methods."""
        try:
            yield
        except AttributeError as error:
            hint = suggest_method(name, f"{cls.__name__}(...)", f"{cls.__name__}(...).handle()")
            if not hint:
                raise
            raise AttributeError(f"{error}.{hint}") from None

    def _explain_misplaced_option(cls: str, namespace: dict[str, Any], error: Exception) -> str | None:
        """Return what to write instead of `queue = "emails"` in the body, or None if it is another error."""
        match = re.search(r"non-annotated attribute was detected: `(\w+) = ", str(error))
        if match is None or match[1] not in _CLASS_KEYWORDS:
            return None
        return f"options stand in the class line: class {cls}(Job, {match[1]}={quote(namespace[match[1]])})"

    class _Model(BaseModel, metaclass=_Defining):
        """A model whose mistakes are reported as a job's."""


class Job(_Model):
    """A job as a class: its fields are the payload, `handle` does the work.

    Keywords in the class line, all optional; a subclass inherits those of its base, except `name` and `abstract`:

    - `name`: the job's name, instead of the class's.
    - `queue`: its queue, instead of RELAYQ_DEFAULT_QUEUE.
    - `max_attempts`, `backoff`: how often it is attempted at most, and the wait before each retry.
    - `timeout`: how long `handle` may take, in seconds or as a timedelta.
    - `abstract=True`: for a base without `handle`.
    - pydantic's own.

    Raises InvalidJob or InvalidOption where the class is defined.
    """

    model_config = ConfigDict(extra="forbid")

    __relayq_type__: ClassVar[_ClassType]

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            name: str | None = None,
            abstract: bool = False,
            **kwargs: Unpack[_ClassKeywords],
        ) -> None: ...

    else:

        def __init_subclass__(cls, **kwargs: Any) -> None:
            """Ignore the keywords: they are read below, when the fields are known."""
            super().__init_subclass__()

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; without pydantic's first attribute, its __init__ was not called."""
            if name == "__pydantic_fields_set__" and "__dataclass_fields__" in dir(type(self)):
                raise InvalidJob(f"job {type(self).__qualname__}", "leave out @dataclass: a Job has its fields already")
            with _suggest_in_errors(type(self), name):
                return super().__getattr__(name)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__pydantic_generic_metadata__["origin"] is not None:
            return  # Name[int] of a generic job: the job is Name
        where = f"job {cls.__qualname__}"
        for keyword in kwargs:
            if keyword not in _CLASS_KEYWORDS:
                near = suggest(keyword, (*_CLASS_KEYWORDS, *ConfigDict.__annotations__))
                hint = (
                    f"{near} Known: {', '.join(_CLASS_KEYWORDS)}" if near else suggest_option(keyword, _CLASS_KEYWORDS)
                )
                raise InvalidOption(where, f"unknown class keyword {keyword!r}.{hint}, and pydantic's own")
        name = kwargs.pop("name", None)
        abstract = kwargs.pop("abstract", False)
        inherited = cls.__relayq_type__.options if "__relayq_type__" in dir(cls) else Options()
        with name_job_in_errors(where):
            options = Options.validate(**kwargs).complete_from(inherited)
            job_type = _ClassType(cls, validate_name(name or cls.__name__), options, abstract=abstract)
        _check_class(cls, where, abstract=abstract)
        cls.__relayq_type__ = job_type
        if not abstract:
            options.warn_of_unused_backoff()
            registry.register(job_type)

    def handle(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work. Write it as `handle(self)` or `handle(self, context: JobContext)`, sync or async."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> Any:
        """Override it to act once the job has failed for good, with its last error. It may dispatch other jobs."""

    @add_hints
    def with_options(self, **options: Unpack[DispatchOptions]) -> JobRequest:
        """Return a request for this job with these options; see `relayq_core.dispatch`.

        Raises InvalidPayload, InvalidOption.
        """
        return build_request(_get_type(type(self)), self).with_options(**options)

    __relayq_request__: ClassVar[Any] = _RequestHook()


def _get_type(cls: type[Job]) -> _ClassType:
    """Return the job type of a class. Raises InvalidJob for an abstract base, which no runner knows."""
    job_type: _ClassType | None = getattr(cls, "__relayq_type__", None)
    if job_type is None or job_type.abstract:
        raise InvalidJob(f"job {cls.__qualname__}", "it is an abstract base; dispatch a job that is derived from it")
    return job_type


def _check_class(cls: type[Job], where: str, *, abstract: bool) -> None:
    for field in cls.model_fields:
        if field in _JOB_METHODS:
            raise InvalidJob(where, f"a field may not be named {field!r}, it would hide the method of that name")
    if hasattr(cls, "to_payload") != hasattr(cls, "from_payload"):
        raise InvalidJob(
            where,
            "define both to_payload(self) and the classmethod from_payload(cls, data), or neither: "
            "what the one writes, the other reads on the runner",
        )
    if abstract:
        return
    if cls.handle is Job.handle:
        raise InvalidJob(where, "define handle(self) or handle(self, context), or say abstract=True in the class line")
    for method in ("handle", "failed"):
        if isinstance(inspect.getattr_static(cls, method), staticmethod | classmethod):
            raise InvalidJob(where, f"{method} is called on a job object: leave out @staticmethod or @classmethod")
    refuse_generator(cls.handle, where)
    _check_context(cls.handle, where)
    if _count_arguments(cls.handle, where, "handle") > 1:
        raise InvalidJob(where, "handle takes nothing but self and, if you like, the context")
    if cls.failed is not Job.failed and _count_arguments(cls.failed, where, "failed") != 1:
        raise InvalidJob(where, "failed takes self and the error: failed(self, error)")
    if not hasattr(cls, "from_payload"):
        _check_init(cls, where)


def _check_context(handle: Any, where: str) -> None:
    """Raise InvalidJob for a handler that asks for the context in a way in which it is not passed."""
    for parameter in list_parameters(handle)[1:]:
        asks = parameter.name == "context" or is_context(handle, parameter.annotation)
        if asks and parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
            raise InvalidJob(where, f"the context is passed by position: handle(self, {parameter.name}), without the *")


def _check_init(cls: type[Job], where: str) -> None:
    """Raise InvalidJob for an __init__ of its own that the runner cannot call with the fields."""
    init: Any = cls.__init__
    if init is BaseModel.__init__:
        return
    parameters = list_parameters(init)[1:]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    keywords = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    names = {name: _collect_strings(name, info.alias, info.validation_alias) for name, info in cls.model_fields.items()}
    unknown = [name for name, aliases in names.items() if not (takes_all or aliases & keywords.keys())]
    known = set[str]().union(*names.values())
    needed = [p.name for p in parameters if _is_required(p) and (p.kind is p.POSITIONAL_ONLY or p.name not in known)]
    if not unknown and not needed:
        return
    wrong = f"needs {needed[0]!r}, which is no field" if needed else f"does not take the field {unknown[0]!r}"
    raise InvalidJob(
        where,
        f"its __init__ {wrong}: the runner builds the job from its fields. Let __init__ take them by their names, "
        "write a classmethod that builds the job instead, or define to_payload and from_payload",
    )


def _collect_strings(*names: object) -> set[str]:
    return {name for name in names if isinstance(name, str)}


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _count_arguments(method: Any, where: str, name: str) -> int:
    """Return how many arguments besides self to call a method with."""
    parameters = list_parameters(method)[1:]
    needed = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if needed:
        raise InvalidJob(where, f"{name} needs the keyword argument {needed[0].name!r}, which the runner does not pass")
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 1
    return sum(p.kind in _POSITIONAL for p in parameters)


class _ClassType:
    """The JobType of a Job class."""

    def __init__(self, cls: type[Job], name: str, options: Options, *, abstract: bool) -> None:
        self.name = name
        self.options = options
        self.abstract = abstract
        self.origin = Origin(find_file(cls.__module__), cls.__qualname__)
        self._cls = cls
        self._custom = hasattr(cls, "to_payload")
        self._codec = Codec(name, collect_fields, _dump, self._read)

    def encode(self, args: Any) -> str:
        if isinstance(args, self._cls):
            if self._custom:
                return encode_json(self.name, args.to_payload())  # type: ignore[attr-defined]
            return encode_payload(self._codec, args)
        if self._custom:
            return encode_json(self.name, args)
        if not isinstance(args, Mapping):
            raise InvalidPayload(self.name, f"expected a mapping of field names to values, got {type(args).__name__}")
        return encode_payload(self._codec, self._validate(lambda: self._cls.model_validate(dict(args))))

    def recheck(self, payload_json: str) -> str:
        if self._custom:
            return payload_json
        return encode_payload(self._codec, self._validate(lambda: self._read(payload_json)))

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        if self._custom:
            instance = self._cls.from_payload(json.loads(payload_json))  # type: ignore[attr-defined]
            return _ClassRun(instance), []
        instance, ignored = validate_leniently(self.name, payload_json, self._read)
        return _ClassRun(instance), ignored

    def is_same(self, mine: str, other: str) -> bool:
        if is_same_json(mine, other):
            return True
        if self._custom:
            return False
        try:
            jobs = [validate_leniently(self.name, text, self._read)[0] for text in (mine, other)]
        except Exception:  # a row of another version, which this one cannot read
            return False
        return is_same(*map(collect_fields, jobs))

    def build_schema(self) -> dict[str, Any]:
        return {"type": "object"} if self._custom else build_schema(self._cls.model_json_schema)

    def _read(self, payload_json: str) -> Job:
        return self._cls.model_validate_json(payload_json, by_alias=True, by_name=True)

    def _validate(self, validate: Callable[[], Job]) -> Job:
        try:
            return validate()
        except ValidationError as error:
            raise build_invalid_payload(self.name, error) from None
        except PydanticUserError as error:  # a type that is not there yet, or for type checkers only
            raise InvalidJob(f"job {self._cls.__qualname__}", extract_message(error)) from None


def _dump(instance: Job, only: set[str] | None, by_alias: bool) -> str:
    return instance.model_dump_json(include=only, round_trip=True, by_alias=by_alias, warnings=False)


class _ClassRun:
    """A Job object, ready to run."""

    def __init__(self, instance: Job) -> None:
        self._instance = instance

    def handle(self, make_context: Callable[[], JobContext]) -> Any:
        handle = self._instance.handle
        return handle(make_context()) if _is_given_context(type(self._instance).handle) else handle()

    def failed(self, error: BaseException) -> Any:
        return self._instance.failed(error)


@lru_cache(maxsize=1000)
def _is_given_context(handle: Any) -> bool:
    """Cached: reading a signature takes as long as all other decisions of a run."""
    return _count_arguments(handle, "", "handle") > 0
