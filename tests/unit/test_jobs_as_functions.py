"""A job as a function: the signature is the payload, whatever its parameters are called."""

import asyncio
import functools
import inspect
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field

from relayq_core import (
    DuplicateJobName,
    InvalidJob,
    InvalidOption,
    InvalidPayload,
    Job,
    JobContext,
    JobRequest,
    job,
)
from relayq_core.jobs.registry import Registry, registry
from relayq_core.jobs.request import resolve_request
from relayq_core.model.options import Options

CONTEXT = JobContext(
    job_id="job-1",
    name="send_email",
    queue="emails",
    attempt=1,
    max_attempts=3,
    deadline_ms=0,
    _now=lambda: 0,
    _report=lambda _: True,
)


def run(made: JobRequest) -> Any:
    """What the handler returns on the runner."""
    built, _ = registry[made.name].build(made.payload_json)
    return built.handle(lambda: CONTEXT)


class Address(BaseModel):
    """Part of a payload."""

    street: str


def test_calling_a_job_function_runs_it_here_and_now() -> None:
    """It stays an ordinary function: easy to test, easy to use without a queue."""

    @job
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    assert add(1) == 3
    assert (vars(add)["__name__"], add.__doc__) == ("add", "Adds.")
    assert list(inspect.signature(add).parameters) == ["a", "b"]


def test_the_decorator_takes_options_or_none(jobs: Registry) -> None:
    """Both @job and @job(...)."""

    @job
    def plain() -> None: ...

    @job(name="mail.send", queue="emails", max_attempts=5, backoff=[30, 120], timeout=60)
    def send() -> None: ...

    assert sorted(jobs) == ["mail.send", "plain"]
    assert jobs["plain"].options == Options()
    assert jobs["mail.send"].options == Options.validate(queue="emails", max_attempts=5, backoff=[30, 120], timeout=60)


def test_arguments_are_bound_as_in_a_call() -> None:
    """By position, by name, and defaults are left to the handler: they may change with a deploy."""

    @job
    def send(to: str, subject: str = "Hi", *, copies: int = 1) -> tuple[str, str, int]:
        return to, subject, copies

    assert send.job("a@b.c").payload == {"to": "a@b.c"}
    assert send.job("a@b.c", copies=2).payload == {"to": "a@b.c", "copies": 2}
    assert run(send.job("a@b.c", "Yo")) == ("a@b.c", "Yo", 1)


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing a required argument: 'to'"),
        ((), {"subject": "x"}, "missing a required argument: 'to'"),
        (("a", "b", "c"), {}, "too many positional arguments"),
        (("a",), {"to": "b"}, "multiple values for argument 'to'"),
        (("a",), {"subjet": "x"}, "field 'subjet': the job has no such parameter. Did you mean \"subject\"?"),
        ((5,), {}, "field 'to': Input should be a valid string"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(args: Any, kwargs: Any, says: str) -> None:
    """At dispatch, in the caller's own process, and not on the runner."""

    @job
    def send(to: str, subject: str = "Hi") -> None: ...

    with pytest.raises(InvalidPayload) as raised:
        send.job(*args, **kwargs)
    assert str(raised.value).startswith("payload of job 'send'")
    assert says in str(raised.value)


def test_a_parameter_may_have_any_name() -> None:
    """Those of methods, of pydantic, of dispatch() and of Python's own too."""

    @job
    def odd(
        self: int,
        cls: int,
        model_config: int,
        model_fields: int,
        name: int,
        queue: int,
        args: int,
        kwargs: int,
        function: int,
        data: int,
        job: int,
        _private: int,
        *,
        copy: int = 12,
        schema: int = 13,
        json: int = 14,
        context: int = 15,
    ) -> list[int]:
        some = [self, cls, model_config, model_fields, name, queue, args, kwargs, function, data, job, _private]
        return [*some, copy, schema, json, context]

    made = odd.job(*range(12), context=99)
    assert run(made) == [*range(12), 12, 13, 14, 99]
    assert run(resolve_request("odd", made.payload, registry)) == run(made)


def test_constraints_stand_in_annotations() -> None:
    """Annotated[..., Field(...)] and validators, as in any pydantic model."""

    def upper(text: str) -> str:
        return text.upper()

    @job
    def charge(cents: Annotated[int, Field(gt=0)], currency: Annotated[str, AfterValidator(upper)] = "EUR") -> Any:
        return cents, currency

    assert run(charge.job(5, "usd")) == (5, "USD")
    with pytest.raises(InvalidPayload, match="field 'cents': Input should be greater than 0"):
        charge.job(0)


def test_arguments_are_models_dates_or_whatever_pydantic_knows() -> None:
    """They arrive as such."""

    @job
    def send(to: Address, on: date, untyped, *, many: list[Address] | None = None) -> Any:  # type: ignore[no-untyped-def]
        return to, on, untyped, many

    home = Address(street="x")
    assert run(send.job(home, date(2026, 1, 1), {"any": [1]}, many=[home])) == (
        home,
        date(2026, 1, 1),
        {"any": [1]},
        [home],
    )


def test_annotations_may_name_what_is_defined_later(jobs: Registry) -> None:
    """As everywhere in Python; they are looked up when the job is first used."""
    namespace: dict[str, Any] = {"__name__": "later", "job": job, "BaseModel": BaseModel}
    exec(
        "@job\ndef send(to: 'Later'): return to.street\nclass Later(BaseModel):\n    street: str\n",
        namespace,
    )
    assert run(namespace["send"].job({"street": "x"})) == "x"


def test_an_annotation_that_leads_nowhere_is_reported() -> None:
    """A NameError out of typing would not say whose it is."""

    @job
    def send(to: "NoSuchThing") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidJob, match="send: its annotation 'NoSuchThing' cannot be resolved; import or define it"):
        resolve_request(send, {"to": "x"}, registry)


# --- the context ---


def test_a_first_parameter_that_is_the_context_is_given_it() -> None:
    """It is no part of the payload, and .job() leaves it out."""

    @job
    def aware(context: JobContext, to: str) -> tuple[str, str]:
        return context.job_id, to

    @job
    def quoted(ctx: "JobContext", to: str) -> tuple[str, str]:
        return ctx.job_id, to

    @job
    def positional(ctx: JobContext, /, to: str) -> tuple[str, str]:
        return ctx.job_id, to

    assert aware.job(to="a@b.c").payload == {"to": "a@b.c"}
    assert run(aware.job("a@b.c")) == ("job-1", "a@b.c")
    assert run(quoted.job("a@b.c")) == ("job-1", "a@b.c")
    assert run(positional.job("a@b.c")) == ("job-1", "a@b.c")
    assert aware(CONTEXT, "a@b.c") == ("job-1", "a@b.c")


def test_the_context_cannot_be_dispatched() -> None:
    """There is none yet."""

    @job
    def aware(context: JobContext, to: str) -> None: ...

    with pytest.raises(InvalidPayload, match="field 'context': the job has no such parameter"):
        aware.job(context=CONTEXT, to="a@b.c")  # type: ignore[call-arg]
    with pytest.raises(InvalidPayload, match="field 'context': the job has no such field"):
        resolve_request("aware", {"context": {}, "to": "a@b.c"}, registry)


def test_a_parameter_of_the_contexts_name_is_an_ordinary_one() -> None:
    """The annotation decides, not the name."""

    @job
    def plain(context: str) -> str:
        return context

    assert run(plain.job("x")) == "x"


# --- at import ---


def positional(to: str, /) -> None: ...
def star(*to: str) -> None: ...
def stars(**to: str) -> None: ...
def late_context(to: str, context: JobContext) -> None: ...
def keyword_context(*, context: JobContext) -> None: ...
def field_default(cents: int = Field(default=1, gt=0)) -> None: ...
def generator(to: str) -> Any:
    yield to


async def async_generator(to: str) -> Any:
    yield to


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (positional, "parameter to: str cannot be stored: write each parameter by name"),
        (star, r"parameter \*to: str cannot be stored"),
        (stars, r"parameter \*\*to: str cannot be stored"),
        (late_context, "the context comes first: make 'context' the first parameter"),
        (keyword_context, "the context comes first"),
        (field_default, r"write Field\(...\) of 'cents' into its annotation"),
        (generator, "the handler is a generator"),
        (async_generator, "the handler is a generator"),
    ],
)
def test_a_signature_that_cannot_be_a_payload_is_refused(jobs: Registry, function: Any, says: str) -> None:
    """Where it is decorated: a job that was accepted has a handler that can be called."""
    with pytest.raises(InvalidJob, match=says) as raised:
        job(function)
    assert function.__name__ in str(raised.value)
    assert not jobs


def a_function() -> None: ...
def another_function() -> None: ...


@pytest.mark.parametrize("target", [int, Address, print, functools.partial(a_function), "emails", 5], ids=repr)
def test_only_functions_can_be_decorated(target: Any) -> None:
    """@job("emails") is the likeliest slip."""
    with pytest.raises(InvalidJob, match="it makes a job of a function; to write a class, derive it from Job"):
        job(target)


def test_a_job_is_decorated_once() -> None:
    """The inner one would be registered under the same name."""
    with pytest.raises(InvalidJob, match="it makes a job of a function"):
        job(job(a_function))


def test_a_lambda_needs_a_name() -> None:
    """Its own is no name."""
    with pytest.raises(InvalidOption, match="name: expected 1 to 128 letters"):
        job(lambda: None)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"queue": "my emails"}, "queue: expected 1 to 64 letters"),
        ({"max_attempts": 0}, "max_attempts: expected a whole number"),
        ({"backoff": "10"}, "backoff: expected seconds"),
        ({"timeout": -1}, "timeout: expected 0 to"),
        ({"name": "my job"}, "name: expected 1 to 128"),
    ],
)
def test_an_option_is_checked_where_the_function_is_decorated(jobs: Registry, option: Any, says: str) -> None:
    """The import fails, and with it the deploy."""
    with pytest.raises(InvalidOption, match=f"^job a_function, {says}"):
        job(**option)(a_function)
    assert not jobs


def test_more_waits_than_retries_are_warned_of() -> None:
    """The rest of the list is never used."""
    with pytest.warns(UserWarning, match="backoff lists 3 waits, but max_attempts=2"):
        job(max_attempts=2, backoff=[1, 2, 3])(a_function)


def test_two_job_functions_of_one_name_are_refused_naming_both_places() -> None:
    """One of them would never run."""
    job(name="same")(a_function)
    with pytest.raises(DuplicateJobName, match=r"a_function in .* and another_function in "):
        job(name="same")(another_function)


def test_a_job_function_that_is_loaded_again_replaces_the_earlier() -> None:
    """As when a module is reloaded."""

    def define(answer: int) -> None:
        @job
        def answer_() -> int:
            return answer

    define(1)
    define(2)
    assert run(resolve_request("answer_", None, registry)) == 2


def test_a_function_and_a_class_may_not_share_a_name_either() -> None:
    """There is one registry."""
    job(name="same")(a_function)
    with pytest.raises(DuplicateJobName):

        class Same(Job, name="same"):
            def handle(self) -> None: ...


# --- requests ---


def test_options_chain_from_a_request() -> None:
    """dispatch(send.job(...).with_options(queue="vip"))."""

    @job(queue="emails")
    def send(to: str) -> None: ...

    made = send.job("a@b.c").with_options(queue="vip").with_options(delay=5)
    assert made == JobRequest("send", '{"to":"a@b.c"}', Options(queue="vip", delay=5.0))


def test_a_job_function_takes_its_data_like_a_class() -> None:
    """dispatch(send, {...})."""

    @job
    def send(to: str = "nobody") -> None: ...

    assert resolve_request(send, {"to": "a@b.c"}, registry) == send.job("a@b.c")
    assert resolve_request(send, None, registry) == send.job()
    with pytest.raises(InvalidPayload, match="expected a mapping of parameter names to values, got list"):
        resolve_request(send, ["a@b.c"], registry)  # type: ignore[arg-type]


def test_an_async_function_is_a_job_too() -> None:
    """The runner awaits what it answers."""

    @job
    async def send(to: str) -> str:
        return to

    assert asyncio.run(run(send.job("x"))) == "x"


def test_failed_is_called_and_does_nothing() -> None:
    """A function has none; the runner need not know."""
    made = job(a_function)
    built, _ = made.__relayq_type__.build("{}")
    assert built.failed(ValueError("no")) is None


def test_a_job_function_describes_its_payload() -> None:
    """`relayq registry` shows it."""

    @job
    def send(to: str, *, copies: int = 1) -> None: ...

    schema = registry["send"].build_schema()
    assert schema["required"] == ["to"]
    assert sorted(schema["properties"]) == ["copies", "to"]
    assert schema["additionalProperties"] is False
