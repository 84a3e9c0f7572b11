"""@job: a job as a function. Its signature is the payload."""

from __future__ import annotations

import datetime
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NotRequired,
    ParamSpec,
    TypeVar,
    Unpack,
    get_type_hints,
    overload,
)

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import core_schema
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from relayq_core.errors import InvalidJob, InvalidPayload, suggest
from relayq_core.jobs.context import JobContext
from relayq_core.jobs.defining import build_request, build_schema, extract_message, name_job_in_errors, refuse_generator
from relayq_core.jobs.habits import suggest_method, suggest_option
from relayq_core.jobs.meaning import is_same
from relayq_core.jobs.payload import Codec, build_invalid_payload, encode_payload, validate_leniently
from relayq_core.jobs.registry import Origin, RunnableJob, registry
from relayq_core.jobs.request import JobRequest, is_same_json
from relayq_core.jobs.signatures import get_globals, has_context, is_context, list_parameters
from relayq_core.model.options import JOB_OPTIONS, JobOptions, Options, validate_name

P = ParamSpec("P")
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class FunctionJob(Generic[P, R]):
    """A job as a function, made by `@job`; the function's parameters are the payload.

    Calling it runs the function here and now; `.job(...)` returns a request for dispatch().
    """

    def __init__(self, function: Callable[..., R], name: str, options: Options) -> None:
        functools.update_wrapper(self, function)
        self.__relayq_type__ = _FunctionType(function, name, options)
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function itself, without a queue and without retries."""
        return self._function(*args, **kwargs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; for a method that tasks have in other systems it says what to write instead."""
            own = vars(self).get("__name__", "job")
            hint = suggest_method(name, f"{own}.job(...)", f"{own}(...)")
            problem = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(f"{problem}.{hint}" if hint else problem)

    def __reduce__(self) -> str:
        """Pickle it by its name, as a function is."""
        return str(vars(self)["__qualname__"])

    def job(self, *args: P.args, **kwargs: P.kwargs) -> JobRequest:
        """Return a request for this job with these arguments. Raises InvalidPayload."""
        return build_request(self.__relayq_type__, self.__relayq_type__.bind(args, kwargs))

    def __relayq_request__(self, args: Mapping[str, Any] = MappingProxyType({})) -> JobRequest:
        return build_request(self.__relayq_type__, args)


class ContextFunctionJob(FunctionJob[P, R]):
    """A job function whose first parameter is the JobContext: the runner passes it, `.job(...)` leaves it out."""

    if TYPE_CHECKING:

        def __call__(self, context: JobContext, *args: P.args, **kwargs: P.kwargs) -> R: ...  # type: ignore[override]


class _FunctionType:
    """The JobType of a job function: its payload is a TypedDict built from the signature."""

    def __init__(self, function: Callable[..., Any], name: str, options: Options) -> None:
        self.name = name
        self.options = options
        self.origin = Origin(inspect.unwrap(function).__code__.co_filename, function.__qualname__)
        self._function = function
        self._where = f"job {function.__qualname__}"
        refuse_generator(function, self._where)
        parameters = list_parameters(function)
        first = parameters[0] if parameters else None
        self._takes_context = first is not None and first.kind in _POSITIONAL and is_context(function, first.annotation)
        self._parameters = parameters[1:] if self._takes_context else parameters
        for parameter in self._parameters:
            _check_parameter(function, parameter, self._where)
        self._codec = Codec(name, dict, self._dump, self._read)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by their names. Raises InvalidPayload."""
        known = [p.name for p in self._parameters]
        for keyword in kwargs:
            if keyword not in known:
                raise InvalidPayload(
                    self.name, f"the job has no such parameter.{suggest(keyword, known)}", field=keyword
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
        return encode_payload(self._codec, self._validate(lambda: self._adapter.validate_python(dict(args))))

    def recheck(self, payload_json: str) -> str:
        return encode_payload(self._codec, self._validate(lambda: self._read(payload_json)))

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        arguments, ignored = validate_leniently(self.name, payload_json, self._read)
        return _FunctionRun(self._function, arguments, takes_context=self._takes_context), ignored

    def is_same(self, mine: str, other: str) -> bool:
        if is_same_json(mine, other):
            return True
        try:
            first, second = (validate_leniently(self.name, text, self._read)[0] for text in (mine, other))
            return is_same(self._complete(first, second), self._complete(second, first))
        except Exception:  # a row of another version, which this one cannot read
            return False

    def build_schema(self) -> dict[str, Any]:
        return build_schema(lambda: self._adapter.json_schema())  # noqa: PLW0108 - to make the adapter may fail as well

    def _complete(self, arguments: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments, with the default of each parameter that only `beside` has."""
        left_out = [p for p in self._parameters if p.name in beside and p.name not in arguments]
        return arguments | {p.name: self._read_default(p, beside[p.name]) for p in left_out}

    def _read_default(self, parameter: inspect.Parameter, beside: Any) -> Any:
        """Return a parameter's default, as its type reads it unless it is the same as the value `beside`."""
        if is_same(parameter.default, beside):
            return parameter.default
        hint = _resolve_hints(self._function, [parameter]).get(parameter.name, Any)
        return TypeAdapter(hint).validate_python(parameter.default)

    def _validate(self, validate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return validate()
        except ValidationError as error:
            raise build_invalid_payload(self.name, error) from None

    def _read(self, payload_json: str) -> dict[str, Any]:
        return self._adapter.validate_json(payload_json, by_alias=True, by_name=True)

    def _dump(self, arguments: Any, only: set[str] | None, by_alias: bool) -> str:
        return self._adapter.dump_json(
            arguments, include=only, round_trip=True, by_alias=by_alias, warnings=False
        ).decode()

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        """Built at first use: annotations may name what is defined further down in the module."""
        with _restore_time():
            hints = _resolve_hints(self._function, self._parameters)
            fields = {
                p.name: _build_field_type(hints.get(p.name, Any), required=p.default is p.empty)
                for p in self._parameters
            }
            payload = TypedDict(self.name.replace(".", "_").replace("-", "_"), fields)  # type: ignore[misc]
            payload.__pydantic_config__ = ConfigDict(  # type: ignore[attr-defined]
                extra="forbid", arbitrary_types_allowed=True, validate_by_alias=True, validate_by_name=True
            )
            try:
                return TypeAdapter(payload)
            except PydanticUserError as error:
                raise InvalidJob(self._where, extract_message(error)) from error


def _check_parameter(function: Callable[..., Any], parameter: inspect.Parameter, where: str) -> None:
    """Raise InvalidJob for a parameter that cannot be part of a payload."""
    name = parameter.name
    if is_context(function, parameter.annotation):
        raise InvalidJob(where, f"the context comes first: make {name!r} the first parameter")
    if has_context(function, parameter.annotation):
        raise InvalidJob(where, f"a JobContext cannot be stored: annotate {name!r} JobContext, or JobContext | None")
    if name == "context" and parameter.annotation is parameter.empty:
        raise InvalidJob(
            where,
            "annotate 'context': `context: JobContext`, as the first parameter, to be given the context; "
            "or with the type that it has in the payload",
        )
    if isinstance(parameter.default, FieldInfo):
        raise InvalidJob(where, f"write Field(...) of {name!r} into its annotation: Annotated[<type>, Field(...)]")
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise InvalidJob(
            where,
            f"parameter {parameter} cannot be stored: write each parameter by name, "
            "without *args, **kwargs or a positional-only '/'",
        )


def _build_field_type(annotation: Any, *, required: bool) -> Any:
    return annotation if required else NotRequired[annotation]


_TIMES: Mapping[str, Callable[[], Any]] = {
    "datetime": core_schema.datetime_schema,
    "date": core_schema.date_schema,
}


@contextmanager
def _restore_time() -> Iterator[None]:
    """Return a context with Python's own datetime and date, the only ones that pydantic knows.

    A test that freezes time may replace them, and an adapter that is built from a replacement would outlive the test.
    """
    frozen = {name: getattr(datetime, name) for name in _TIMES}
    real = {name: next(c for c in kind.__mro__ if c.__module__ == "datetime") for name, kind in frozen.items()}
    if frozen == real:
        yield
        return
    for name, kind in frozen.items():
        setattr(datetime, name, real[name])
        kind.__get_pydantic_core_schema__ = classmethod(lambda *_, name=name: _TIMES[name]())
    try:
        yield
    finally:
        for name, kind in frozen.items():
            setattr(datetime, name, kind)
            del kind.__get_pydantic_core_schema__


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
        """Do nothing: a function has no `failed`."""


@overload
def job(function: Callable[Concatenate[JobContext, P], R], /) -> ContextFunctionJob[P, R]: ...


@overload
def job(function: Callable[P, R], /) -> FunctionJob[P, R]: ...


@overload
def job(
    *,
    name: str | None = None,
    **options: Unpack[JobOptions],
) -> _Decorator: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Make a function a job: `@job` or `@job(queue="emails", ...)`. Its signature is the payload.

    A first parameter that is annotated JobContext is passed the context.

    - `name`: the job's name, instead of the function's.
    - `queue`: its queue, instead of RELAYQ_DEFAULT_QUEUE.
    - `max_attempts`, `backoff`: how often it is attempted at most, and the wait before each retry.
    - `timeout`: how long it may take, in seconds or as a timedelta.

    Raises InvalidJob or InvalidOption where the function is defined.
    """

    def decorate(target: Callable[..., Any]) -> FunctionJob[..., Any]:
        if not inspect.isfunction(target):
            raise InvalidJob(
                f"@job on {target!r}", "it makes a job of a function; to write a class, derive it from Job"
            )
        for option in options:
            if option not in JOB_OPTIONS:
                hint = suggest_option(option, ("name", *JOB_OPTIONS))
                raise InvalidJob(f"job {target.__qualname__}", f"@job has no option {option!r}.{hint}")
        with name_job_in_errors(f"job {target.__qualname__}"):
            validated = Options.validate(**options)
            job_name = validate_name(name or target.__name__)
        validated.warn_of_unused_backoff()
        function_job: FunctionJob[..., Any] = FunctionJob(target, job_name, validated)
        registry.register(function_job.__relayq_type__)
        return function_job

    return decorate if function is None else decorate(function)


if TYPE_CHECKING:
    from typing import Protocol

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: Callable[Concatenate[JobContext, P], R], /) -> ContextFunctionJob[P, R]: ...

        @overload
        def __call__(self, function: Callable[P, R], /) -> FunctionJob[P, R]: ...


def _resolve_hints(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """Return the types of the payload's parameters. Raises InvalidJob for one that cannot be resolved."""
    annotations = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__=annotations), globalns=get_globals(function), include_extras=True
        )
    except NameError as error:
        raise InvalidJob(
            f"job {function.__qualname__}",
            f"its annotation {error.name!r} cannot be resolved; import or define it at the top of the module",
        ) from None
    except (AttributeError, SyntaxError, TypeError) as error:
        raise InvalidJob(f"job {function.__qualname__}", f"its annotations cannot be read: {error}") from None
