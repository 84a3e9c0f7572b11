"""Job and @job: how a job is written, as a class or as a function. The only core module that needs pydantic."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    NotRequired,
    ParamSpec,
    TypeVar,
    get_type_hints,
    overload,
)

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from relayq_core.context import JobContext
from relayq_core.errors import InvalidJob, InvalidOption, InvalidPayload, Seconds, did_you_mean
from relayq_core.options import BackoffLike, Options, checked_name
from relayq_core.payload import changed, compare, dumped, first_field, invalid, lenient
from relayq_core.registry import JobType, Origin, RunnableJob, registry
from relayq_core.request import JobRequest, to_json
from relayq_core.signatures import parameters_of, text_of

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Unpack

P = ParamSpec("P")
R = TypeVar("R")

_CLASS_KEYWORDS = ("name", "queue", "max_attempts", "backoff", "timeout", "abstract")
#: A field of one of these names would hide what the runner calls.
_JOB_METHODS = frozenset({"handle", "failed", "with_options", "to_payload", "from_payload"})
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _RequestHook:
    """dispatch(job_object) and dispatch(JobClass, data) ask for the request by one name."""

    def __get__(self, instance: Job | None, owner: type[Job]) -> Callable[..., JobRequest]:
        def request(args: Mapping[str, Any] | None) -> JobRequest:
            job_type = _type_of(owner)
            if instance is None:
                return _request(job_type, {} if args is None else args)
            if args is not None:
                raise InvalidPayload(
                    job_type.name, "the job object has its arguments already; leave out the second argument"
                )
            return _request(job_type, instance)

        return request


class Job(BaseModel):
    """A job as a class: its fields are the payload, `handle` does the work.

    Class keywords: `name` (the class name unless given), `queue`, `max_attempts`, `backoff`, `timeout` (seconds),
    `abstract=True` for a base without `handle`; pydantic's own keywords keep working. A subclass inherits the
    options of its base. Raises InvalidJob or InvalidOption where the class is defined.
    """

    model_config = ConfigDict(extra="forbid")

    __relayq_type__: ClassVar[_ClassType]

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            name: str | None = None,
            queue: str | None = None,
            max_attempts: int | None = None,
            backoff: BackoffLike | None = None,
            timeout: Seconds | None = None,
            abstract: bool = False,
            **kwargs: Unpack[ConfigDict],
        ) -> None: ...

    else:

        def __init_subclass__(cls, **kwargs: Any) -> None:
            """The keywords that pydantic left over are read below, when the fields are known."""
            super().__init_subclass__()

        def __getattr__(self, name: str) -> Any:
            """Asked for what is not there; without the first of pydantic's own, its __init__ was not called."""
            if name == "__pydantic_fields_set__" and "__dataclass_fields__" in dir(type(self)):
                raise InvalidJob(f"job {type(self).__qualname__}", "leave out @dataclass: a Job has its fields already")
            return super().__getattr__(name)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__pydantic_generic_metadata__["origin"] is not None:
            return  # Name[int] of a generic job: the job is Name
        where = f"job {cls.__qualname__}"
        for keyword in kwargs:
            if keyword not in _CLASS_KEYWORDS:
                known = (*_CLASS_KEYWORDS, *ConfigDict.__annotations__)
                raise InvalidOption(where, f"unknown class keyword {keyword!r}.{did_you_mean(keyword, known)}")
        name = kwargs.pop("name", None)
        abstract = kwargs.pop("abstract", False)
        inherited = cls.__relayq_type__.options if "__relayq_type__" in dir(cls) else Options()
        with _told_of(where):
            options = Options.given(**kwargs).over(inherited)
            job_type = _ClassType(cls, checked_name(name or cls.__name__), options, abstract=abstract)
        _check_class(cls, where, abstract=abstract)
        cls.__relayq_type__ = job_type
        if not abstract:
            options.warn_of_unused_backoff()
            registry.register(job_type)

    def handle(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work. Write it as `handle(self)` or `handle(self, context: JobContext)`, sync or async."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> Any:
        """Called once the job has failed for good; override it to tell somebody. May dispatch other jobs."""

    def with_options(
        self,
        *,
        job_id: str | None = None,
        queue: str | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        max_attempts: int | None = None,
        backoff: BackoffLike | None = None,
        timeout: Seconds | None = None,
        unique: str | None = None,
        unique_for: Seconds | None = None,
    ) -> JobRequest:
        """A request for this job with these options. Raises InvalidPayload, InvalidOption."""
        return _request(_type_of(type(self)), self).with_options(
            job_id=job_id,
            queue=queue,
            delay=delay,
            at=at,
            max_attempts=max_attempts,
            backoff=backoff,
            timeout=timeout,
            unique=unique,
            unique_for=unique_for,
        )

    __relayq_request__: ClassVar[Any] = _RequestHook()


@contextmanager
def _told_of(where: str) -> Iterator[None]:
    """An option that is refused while inside is told with the job that has it."""
    try:
        yield
    except InvalidOption as error:
        raise InvalidOption(error.option, error.problem, where=where) from None


def _type_of(cls: type[Job]) -> _ClassType:
    """The job type of a class that can be run. A base cannot: no runner would know it."""
    found: _ClassType | None = getattr(cls, "__relayq_type__", None)
    if found is None or found.abstract:
        raise InvalidJob(f"job {cls.__qualname__}", "it is an abstract base; dispatch a job that is derived from it")
    return found


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
    _refuse_generator(cls.handle, where)
    if _arguments(cls.handle, where, "handle") > 1:
        raise InvalidJob(where, "handle takes nothing but self and, if you like, the context")
    if cls.failed is not Job.failed and _arguments(cls.failed, where, "failed") != 1:
        raise InvalidJob(where, "failed takes self and the error: failed(self, error)")


def _arguments(method: Any, where: str, name: str) -> int:
    """How many arguments beside self a method is to be called with."""
    parameters = parameters_of(method)[1:]
    needed = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if needed:
        raise InvalidJob(where, f"{name} needs the keyword argument {needed[0].name!r}, which nobody gives it")
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 1
    return sum(p.kind in _POSITIONAL for p in parameters)


def _refuse_generator(function: Any, where: str) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(where, "the handler is a generator: it contains yield, so calling it would run nothing")


def _request(job_type: JobType, args: Any) -> JobRequest:
    return JobRequest(name=job_type.name, payload_json=job_type.encode(args), job_type=job_type)


class _ClassType:
    """The JobType of a Job class."""

    def __init__(self, cls: type[Job], name: str, options: Options, *, abstract: bool) -> None:
        self.name = name
        self.options = options
        self.abstract = abstract
        self.origin = Origin(_file_of(cls.__module__), cls.__qualname__)
        self._cls = cls
        self._custom = hasattr(cls, "to_payload")

    def encode(self, args: Any) -> str:
        if isinstance(args, self._cls):
            if self._custom:
                return to_json(self.name, args.to_payload())  # type: ignore[attr-defined]
            return self._checked(args)
        if self._custom:
            return to_json(self.name, args)
        if not isinstance(args, Mapping):
            raise InvalidPayload(self.name, f"expected a mapping of field names to values, got {type(args).__name__}")
        return self._checked(self._validated(lambda: self._cls.model_validate(dict(args))))

    def recheck(self, payload_json: str) -> str:
        if self._custom:
            return payload_json
        return self._checked(self._validated(lambda: self._cls.model_validate_json(payload_json)))

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        if self._custom:
            instance = self._cls.from_payload(json.loads(payload_json))  # type: ignore[attr-defined]
            return _ClassRun(instance), []
        instance, ignored = lenient(self.name, payload_json, self._cls.model_validate_json)
        return _ClassRun(instance), ignored

    def schema(self) -> dict[str, Any]:
        return {"type": "object"} if self._custom else self._cls.model_json_schema()

    def _validated(self, validate: Callable[[], Job]) -> Job:
        try:
            return validate()
        except ValidationError as error:
            raise invalid(self.name, error) from None

    def _checked(self, instance: Job) -> str:
        """The payload as JSON, if the object that comes back from it equals the one given."""
        values = _values(instance)
        text = dumped(
            self.name,
            values,
            lambda only: instance.model_dump_json(include=only, round_trip=True, by_alias=True, warnings=False),
        )
        try:
            back = self._cls.model_validate_json(text)
        except ValidationError as error:
            raise changed(self.name, first_field(error)) from None
        compare(self.name, values, _values(back))
        return text


class _ClassRun:
    """A Job object, ready to run."""

    def __init__(self, instance: Job) -> None:
        self._instance = instance

    def handle(self, make_context: Callable[[], JobContext]) -> Any:
        handle = self._instance.handle
        return handle(make_context()) if _takes_context(type(self._instance).handle) else handle()

    def failed(self, error: BaseException) -> Any:
        return self._instance.failed(error)


@functools.lru_cache(maxsize=1000)
def _takes_context(handle: Any) -> bool:
    """To look at a signature takes as long as all the rest of a run's decisions."""
    return _arguments(handle, "", "handle") > 0


class FunctionJob(Generic[P, R]):
    """A job as a function. Calling it runs it here and now; `.job(...)` makes a request for dispatch().

    `@job` makes it; the function's parameters are the payload.
    """

    def __init__(self, function: Callable[..., R], name: str, options: Options) -> None:
        functools.update_wrapper(self, function)
        self.__relayq_type__ = _FunctionType(function, name, options)
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function itself: no queue, no retries."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> str:
        """By its name, as a function is pickled and copied."""
        return str(vars(self)["__qualname__"])

    def job(self, *args: P.args, **kwargs: P.kwargs) -> JobRequest:
        """A request for this job with these arguments. Raises InvalidPayload."""
        return _request(self.__relayq_type__, self.__relayq_type__.bound(args, kwargs))

    def __relayq_request__(self, args: Mapping[str, Any] | None) -> JobRequest:
        return _request(self.__relayq_type__, {} if args is None else args)


class ContextFunctionJob(FunctionJob[P, R]):
    """A job function whose first parameter is the JobContext: the runner gives it, `.job(...)` leaves it out."""

    if TYPE_CHECKING:

        def __call__(self, context: JobContext, *args: P.args, **kwargs: P.kwargs) -> R: ...  # type: ignore[override]


class _FunctionType:
    """The JobType of a job function: its payload is a TypedDict made of the signature."""

    def __init__(self, function: Callable[..., Any], name: str, options: Options) -> None:
        where = f"job {function.__qualname__}"
        self.name = name
        self.options = options
        self.origin = Origin(inspect.unwrap(function).__code__.co_filename, function.__qualname__)
        self._function = function
        _refuse_generator(function, where)
        parameters = parameters_of(function)
        first = parameters[0] if parameters else None
        self._takes_context = (
            first is not None and first.kind in _POSITIONAL and _is_context(function, first.annotation)
        )
        self._parameters = parameters[1:] if self._takes_context else parameters
        for parameter in self._parameters:
            if _is_context(function, parameter.annotation):
                raise InvalidJob(where, f"the context comes first: make {parameter.name!r} the first parameter")
            if isinstance(parameter.default, FieldInfo):
                raise InvalidJob(
                    where, f"write Field(...) of {parameter.name!r} into its annotation: Annotated[<type>, Field(...)]"
                )
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise InvalidJob(
                    where,
                    f"parameter {parameter} cannot be stored: write each parameter by name, "
                    "without *args, **kwargs or a positional-only '/'",
                )

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call by their names."""
        known = [p.name for p in self._parameters]
        for keyword in kwargs:
            if keyword not in known:
                raise InvalidPayload(
                    self.name, f"the job has no such parameter.{did_you_mean(keyword, known)}", field=keyword
                )
        try:
            return inspect.Signature(self._parameters).bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidPayload(self.name, str(error)) from None

    def encode(self, args: Any) -> str:
        if not isinstance(args, Mapping):
            raise InvalidPayload(
                self.name, f"expected a mapping of parameter names to values, got {type(args).__name__}"
            )
        return self._checked(lambda: self._adapter.validate_python(dict(args)))

    def recheck(self, payload_json: str) -> str:
        return self._checked(lambda: self._adapter.validate_json(payload_json))

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        arguments, ignored = lenient(self.name, payload_json, self._adapter.validate_json)
        return _FunctionRun(self._function, arguments, takes_context=self._takes_context), ignored

    def schema(self) -> dict[str, Any]:
        return self._adapter.json_schema()

    def _checked(self, validate: Callable[[], dict[str, Any]]) -> str:
        try:
            values = validate()
        except ValidationError as error:
            raise invalid(self.name, error) from None
        text = dumped(
            self.name,
            values,
            lambda only: self._adapter.dump_json(values, include=only, round_trip=True, warnings=False).decode(),
        )
        try:
            back = self._adapter.validate_json(text)
        except ValidationError as error:
            raise changed(self.name, first_field(error)) from None
        compare(self.name, values, back)
        return text

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        """Made at first use: annotations may name what is defined further down in the module."""
        hints = _hints(self._function, self._parameters)
        fields = {p.name: _field_type(hints.get(p.name, Any), required=p.default is p.empty) for p in self._parameters}
        payload = TypedDict(self.name.replace(".", "_").replace("-", "_"), fields)  # type: ignore[misc]
        payload.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # type: ignore[attr-defined]
        return TypeAdapter(payload)


def _field_type(annotation: Any, *, required: bool) -> Any:
    return annotation if required else NotRequired[annotation]


class _FunctionRun:
    """A job function and its arguments, ready to run."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any], *, takes_context: bool) -> None:
        self._function = function
        self._arguments = arguments
        self._takes_context = takes_context

    def handle(self, make_context: Callable[[], JobContext]) -> Any:
        if self._takes_context:
            return self._function(make_context(), **self._arguments)
        return self._function(**self._arguments)

    def failed(self, error: BaseException) -> Any:
        """A function has none."""


@overload
def job(function: Callable[Concatenate[JobContext, P], R], /) -> ContextFunctionJob[P, R]: ...


@overload
def job(function: Callable[P, R], /) -> FunctionJob[P, R]: ...


@overload
def job(
    *,
    name: str | None = None,
    queue: str | None = None,
    max_attempts: int | None = None,
    backoff: BackoffLike | None = None,
    timeout: Seconds | None = None,
) -> _Decorator: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    max_attempts: int | None = None,
    backoff: BackoffLike | None = None,
    timeout: Seconds | None = None,
) -> Any:
    """Make a function a job: `@job` or `@job(queue="emails", ...)`. Its signature is the payload.

    A first parameter annotated JobContext is given the context. `timeout` in seconds. Raises InvalidJob or
    InvalidOption where the function is defined.
    """

    def decorate(target: Callable[..., Any]) -> FunctionJob[..., Any]:
        if not inspect.isfunction(target):
            raise InvalidJob(
                f"@job on {target!r}", "it makes a job of a function; to write a class, derive it from Job"
            )
        with _told_of(f"job {target.__qualname__}"):
            options = Options.given(queue=queue, max_attempts=max_attempts, backoff=backoff, timeout=timeout)
            checked = checked_name(name or target.__name__)
        options.warn_of_unused_backoff()
        made: FunctionJob[..., Any] = FunctionJob(target, checked, options)
        registry.register(made.__relayq_type__)
        return made

    return decorate if function is None else decorate(function)


if TYPE_CHECKING:
    from typing import Protocol

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: Callable[Concatenate[JobContext, P], R], /) -> ContextFunctionJob[P, R]: ...

        @overload
        def __call__(self, function: Callable[P, R], /) -> FunctionJob[P, R]: ...


def _file_of(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or module


def _is_context(function: Callable[..., Any], annotation: Any) -> bool:
    name = text_of(annotation)
    if name is None:
        return annotation is JobContext
    found = _globals(function).get(name)
    # imported under TYPE_CHECKING, or by its module: then the name is all there is
    return name.rpartition(".")[2] == JobContext.__name__ if found is None else found is JobContext


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    names: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return names


def _hints(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """The types of the payload's parameters; what else the signature names may be known to type checkers only."""
    annotations = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__=annotations), globalns=_globals(function), include_extras=True
        )
    except NameError as error:
        raise InvalidJob(
            f"job {function.__qualname__}",
            f"its annotation {error.name!r} cannot be resolved; import or define it at the top of the module",
        ) from None


def _values(instance: Job) -> dict[str, Any]:
    """Fields and extras, without what a cached property may have left on the object."""
    return {field: getattr(instance, field) for field in type(instance).model_fields} | (instance.model_extra or {})
