"""A job as a class: what is checked where it is defined, what it inherits, and how it runs."""

import dataclasses
import datetime as dt
import types
from functools import cached_property, wraps
from typing import Any, ClassVar, Generic, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from relayq_core import (
    DuplicateJobName,
    Fixed,
    InvalidJob,
    InvalidOption,
    InvalidPayload,
    Job,
    JobContext,
    JobRequest,
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


def request(job: Any, args: Any = None) -> JobRequest:
    """What dispatch() makes of it."""
    return resolve_request(job, args, registry)


def run(name: str, payload_json: str = "{}") -> Any:
    """What the handler returns on the runner."""
    job, _ = registry[name].build(payload_json)
    return job.handle(lambda: CONTEXT)


def define(body: dict[str, Any], **keywords: Any) -> type[Job]:
    """A job class made of a body, as the class statement would make it."""
    made: type[Job] = types.new_class("Wrong", (Job,), keywords, lambda into: into.update(body, __module__=__name__))
    return made


# --- at import ---


def test_a_job_is_registered_where_it_is_defined(jobs: Registry) -> None:
    """Importing its module is all there is to do."""

    class SendEmail(Job, queue="emails", max_attempts=5, backoff=[30, 120], timeout=dt.timedelta(minutes=1)):
        to: str

        def handle(self) -> None: ...

    assert list(jobs) == ["SendEmail"]
    assert jobs["SendEmail"].options == Options.validate(queue="emails", max_attempts=5, backoff=[30, 120], timeout=60)


def test_a_job_may_be_given_a_name(jobs: Registry) -> None:
    """The class can then be renamed without losing what is stored."""

    class SendEmail(Job, name="mail.send-v1"):
        def handle(self) -> None: ...

    assert list(jobs) == ["mail.send-v1"]
    assert request(SendEmail()).name == "mail.send-v1"


def test_an_unknown_class_keyword_is_refused_with_the_nearest() -> None:
    """`qeue=` would otherwise put the job into the default queue without a word."""
    with pytest.raises(InvalidOption) as raised:

        class Misspelt(Job, qeue="emails"):
            def handle(self) -> None: ...

    assert "unknown class keyword 'qeue'. Did you mean \"queue\"?" in str(raised.value)
    assert "Misspelt" in str(raised.value)


@pytest.mark.parametrize(
    ("keyword", "value", "says"),
    [
        ("queue", "my emails", "queue: expected 1 to 64 letters"),
        ("max_attempts", 0, "max_attempts: expected a whole number of attempts"),
        ("backoff", -1, "backoff: expected seconds from 0"),
        ("timeout", 0, "timeout: expected more than 0 seconds"),
        ("name", "my job", "name: expected 1 to 128 letters"),
    ],
)
def test_an_option_is_checked_where_the_class_is_defined(jobs: Registry, keyword: str, value: Any, says: str) -> None:
    """The import fails, and with it the deploy, rather than a job at night."""
    with pytest.raises(InvalidOption, match=rf"^job \S+, {says}"):
        define({"handle": lambda self: None}, **{keyword: value})
    assert not jobs


def test_a_job_that_is_made_a_dataclass_is_refused_as_one(jobs: Registry) -> None:
    """It is a slip of a user who comes from dataclasses; pydantic's own word for it is hard to read."""

    @dataclasses.dataclass
    class Slipped(Job):
        name: str

        def handle(self) -> None: ...

    with pytest.raises(InvalidJob, match=r"job \S+Slipped: leave out @dataclass: a Job has its fields already"):
        Slipped("x")


def test_an_attribute_that_a_job_lacks_is_pythons_own_error(jobs: Registry) -> None:
    """As of any object."""

    class Plain(Job):
        def handle(self) -> None: ...

    with pytest.raises(AttributeError, match="nothing_such"):
        _ = Plain().nothing_such  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # pydantic's own, which says less
@pytest.mark.parametrize("field", ["handle", "failed", "with_options", "to_payload", "from_payload"])
def test_a_field_may_not_hide_a_method_of_the_job(field: str) -> None:
    """The runner would call the field."""
    with pytest.raises(InvalidJob, match=f"a field may not be named '{field}'"):
        define({"__annotations__": {field: int}})


def test_a_field_may_have_the_name_of_an_option() -> None:
    """Options are class keywords, so that they are in no one's way."""

    class Announce(Job):
        name: str
        queue: str
        timeout: int
        delay: int

        def handle(self) -> None: ...

    made = request(Announce(name="a", queue="b", timeout=1, delay=2))
    assert made.payload == {"name": "a", "queue": "b", "timeout": 1, "delay": 2}
    assert made.name == "Announce"


def test_a_job_without_a_handler_is_refused() -> None:
    """It could only fail."""
    with pytest.raises(InvalidJob, match=r"define handle\(self\) or handle\(self, context\), or say abstract=True"):

        class Idle(Job):
            pass


def test_a_base_says_that_it_is_one(jobs: Registry) -> None:
    """What several jobs share need not be a job itself."""

    class Base(Job, abstract=True, queue="reports", max_attempts=7):
        tenant: str

    class Monthly(Base, max_attempts=1):
        def handle(self) -> None: ...

    assert list(jobs) == ["Monthly"]
    assert request(Monthly(tenant="t")).payload == {"tenant": "t"}
    assert jobs["Monthly"].options == Options(queue="reports", max_attempts=1)


def test_a_base_cannot_be_dispatched() -> None:
    """No runner would know it, and it would be buried after 15 minutes."""

    class Base(Job, abstract=True):
        def handle(self) -> None: ...

    for job in (Base(), Base, Job(), Job):
        with pytest.raises(InvalidJob, match="it is an abstract base; dispatch a job that is derived from it"):
            request(job)
    with pytest.raises(InvalidJob, match="it is an abstract base"):
        Base().with_options(queue="vip")


def generator(self: Any) -> Any:
    """Yields."""
    yield 1


async def async_generator(self: Any) -> Any:
    """Yields, too."""
    yield 1


@pytest.mark.parametrize(
    ("handle", "says"),
    [
        (generator, "the handler is a generator"),
        (async_generator, "the handler is a generator"),
        (lambda self, context, more: None, "handle takes nothing but self and, if you like, the context"),
        (lambda self, *, context: None, "handle needs the keyword argument 'context', which the runner does not pass"),
        (staticmethod(lambda context: None), "leave out @staticmethod or @classmethod"),
        (classmethod(lambda cls, context: None), "leave out @staticmethod or @classmethod"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused(handle: Any, says: str) -> None:
    """Where it is defined: a job that was accepted has a handler that runs."""
    with pytest.raises(InvalidJob, match=says):
        define({"handle": handle})


@pytest.mark.parametrize("failed", [lambda self: None, lambda self, error, more: None])
def test_a_failed_that_cannot_be_called_is_refused(failed: Any) -> None:
    """It is called once, when all else has gone wrong."""
    with pytest.raises(InvalidJob, match=r"failed takes self and the error: failed\(self, error\)"):
        define({"handle": lambda self: None, "failed": failed})


@pytest.mark.parametrize("method", ["to_payload", "from_payload"])
def test_one_half_of_a_custom_payload_is_refused(method: str) -> None:
    """What the one writes, the other reads."""
    with pytest.raises(InvalidJob, match="define both to_payload"):
        define({"handle": lambda self: None, method: lambda self: {}})


def test_two_job_classes_of_one_name_are_refused_naming_both_places() -> None:
    """One of them would never run."""

    class First(Job, name="same"):
        def handle(self) -> None: ...

    with pytest.raises(DuplicateJobName) as raised:

        class Second(Job, name="same"):
            def handle(self) -> None: ...

    assert "First in " in str(raised.value)
    assert "Second in " in str(raised.value)
    assert str(raised.value).count(__file__) == 2


def test_a_job_class_that_is_loaded_again_replaces_the_earlier(jobs: Registry) -> None:
    """Reloading a module in a notebook, or running a function that defines a job twice, is no conflict."""

    def define(answer: int) -> type[Job]:
        class Answer(Job):
            def handle(self) -> int:
                return answer

        return Answer

    define(1)
    define(2)
    assert run("Answer") == 2


def test_more_waits_than_retries_are_warned_of_where_the_class_is_defined() -> None:
    """The rest of the list is never used."""
    with pytest.warns(UserWarning, match="backoff lists 3 waits, but max_attempts=2"):

        class Hopeful(Job, max_attempts=2, backoff=[1, 2, 3]):
            def handle(self) -> None: ...


def test_options_are_inherited_and_may_be_overridden(jobs: Registry) -> None:
    """One base holds what a family of jobs has in common."""

    class Report(Job, queue="reports", timeout=300, backoff=5):
        def handle(self) -> None: ...

    class Small(Report, timeout=10):
        pass

    assert jobs["Small"].options == Options(queue="reports", timeout=10.0, backoff=Fixed(5))
    assert jobs["Report"].options.timeout == 300
    assert request(Small()).name == "Small"


def test_a_name_is_not_inherited(jobs: Registry) -> None:
    """A subclass is another job."""

    class Report(Job, name="report"):
        def handle(self) -> None: ...

    class Small(Report):
        pass

    assert sorted(jobs) == ["Small", "report"]


# --- pydantic goes on working ---


def test_pydantics_own_class_keywords_keep_working(jobs: Registry) -> None:
    """A job is a model: frozen, title and the rest mean what they always did."""

    class Fixed_(Job, frozen=True, title="A fixed job", str_strip_whitespace=True, queue="emails"):
        to: str

        def handle(self) -> str:
            return self.to

    job = Fixed_(to=" a@b.c ")
    assert job.to == "a@b.c"
    assert hash(job) == hash(Fixed_(to="a@b.c"))
    with pytest.raises(ValidationError, match="frozen"):
        job.to = "x"  # type: ignore[misc]
    assert Fixed_.model_json_schema()["title"] == "A fixed job"
    assert request(job).payload == {"to": "a@b.c"}
    assert jobs["Fixed_"].options.queue == "emails"


def test_model_config_keeps_working() -> None:
    """The other way to say the same."""

    class Shout(Job):
        model_config = ConfigDict(str_to_upper=True)
        word: str

        def handle(self) -> str:
            return self.word

    assert request(Shout(word="hey")).payload == {"word": "HEY"}


def test_fields_have_constraints_defaults_aliases_and_validators() -> None:
    """All of it, with the payload as pydantic would write it by alias."""

    class Charge(Job):
        kind: ClassVar[str] = "charge"
        cents: int = Field(gt=0)
        currency: str = "EUR"
        card: str = Field(alias="cardNumber")

        @field_validator("currency")
        @classmethod
        def upper(cls, value: str) -> str:
            return value.upper()

        def handle(self) -> tuple[int, str, str]:
            return self.cents, self.currency, self.card

    made = request(Charge(cents=5, currency="usd", cardNumber="x"))
    assert made.payload == {"cents": 5, "currency": "USD", "cardNumber": "x"}
    assert run("Charge", made.payload_json) == (5, "USD", "x")
    with pytest.raises(InvalidPayload, match="field 'cents': Input should be greater than 0"):
        request(Charge, {"cents": 0, "cardNumber": "x"})


def test_a_wrong_argument_is_pydantics_error_where_the_object_is_made() -> None:
    """`Job(...)` is pydantic's, and so is its error."""

    class SendEmail(Job):
        to: str

        def handle(self) -> None: ...

    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        SendEmail(to="a@b.c", cc="x")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="Field required"):
        SendEmail()  # type: ignore[call-arg]


T = TypeVar("T")


def test_a_generic_job_is_one_job_whatever_its_parameter(jobs: Registry) -> None:
    """Import[int] makes a class of its own, which must not become a job of its own."""

    class Import(Job, Generic[T], queue="imports"):
        row: T

        def handle(self) -> T:
            return self.row

    made = request(Import[int](row=5))
    assert list(jobs) == ["Import"]
    assert (made.name, made.payload) == ("Import", {"row": 5})
    assert run("Import", made.payload_json) == 5


def test_a_subclass_of_a_generic_job_knows_its_types(jobs: Registry) -> None:
    """It inherits its options too."""

    class Import(Job, Generic[T], queue="imports", abstract=True):
        row: T

        def handle(self) -> T:
            return self.row

    class ImportDate(Import[dt.date]):
        pass

    assert jobs["ImportDate"].options.queue == "imports"
    assert run("ImportDate", request(ImportDate(row=dt.date(2026, 1, 1))).payload_json) == dt.date(2026, 1, 1)


def test_what_a_generic_job_would_lose_is_refused() -> None:
    """The runner knows only the name Import: it cannot know that the text was a date."""

    class Import(Job, Generic[T]):
        row: T

        def handle(self) -> T:
            return self.row

    with pytest.raises(InvalidPayload, match="field 'row': it does not come back from JSON as it was"):
        request(Import[dt.date](row=dt.date(2026, 1, 1)))


def test_private_and_computed_values_are_no_part_of_the_payload() -> None:
    """What a cached property has left on the object is none either."""

    class Area(Job):
        side: int
        _seen: bool = False

        @cached_property
        def square(self) -> int:
            return self.side**2

        def handle(self) -> int:
            return self.square

    job = Area(side=3)
    job._seen = True
    assert job.square == 9
    assert request(job).payload == {"side": 3}


# --- running ---


def test_a_handler_may_ask_for_the_context_or_not() -> None:
    """Both spellings, sync or async."""

    class Plain(Job):
        def handle(self) -> str:
            return "plain"

    class Aware(Job):
        def handle(self, context: JobContext) -> str:
            return context.job_id

    class Any_(Job):
        def handle(self, *args: Any) -> Any:
            return args

    class Optional(Job):
        def handle(self, context: JobContext | None = None) -> Any:
            return context

    assert run("Plain") == "plain"
    assert run("Aware") == "job-1"
    assert run("Any_") == (CONTEXT,)
    assert run("Optional") is CONTEXT


def test_a_decorated_handler_is_called_as_what_it_wraps() -> None:
    """functools.wraps keeps the signature."""

    def timed(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    class Timed(Job):
        @timed
        def handle(self) -> str:
            return "ran"

    assert run("Timed") == "ran"


def test_failed_gets_the_error() -> None:
    """A class that does not define it does nothing."""
    told: list[BaseException] = []

    class Careful(Job):
        def handle(self) -> None: ...

        def failed(self, error: BaseException) -> None:
            told.append(error)

    class Careless(Job):
        def handle(self) -> None: ...

    error = ValueError("no")
    registry["Careful"].build("{}")[0].failed(error)
    registry["Careless"].build("{}")[0].failed(error)
    assert told == [error]


# --- requests ---


class Address(BaseModel):
    """Part of a payload."""

    street: str


def test_options_chain_from_a_job_object() -> None:
    """dispatch(SendEmail(...).with_options(queue="vip").with_options(delay=5))."""

    class SendEmail(Job, queue="emails"):
        to: Address

        def handle(self) -> None: ...

    made = SendEmail(to=Address(street="x")).with_options(queue="vip", unique="k").with_options(delay=5)
    assert made == JobRequest("SendEmail", '{"to":{"street":"x"}}', Options(queue="vip", unique="k", delay=5.0))
    assert made.job_type is registry["SendEmail"]


def test_an_option_of_a_job_object_is_checked_at_once() -> None:
    """The traceback points at the line with the mistake."""

    class SendEmail(Job):
        def handle(self) -> None: ...

    with pytest.raises(InvalidOption, match="delay: expected 0 to"):
        SendEmail().with_options(delay=-1)


def test_a_type_takes_its_data_and_an_object_does_not() -> None:
    """dispatch(SendEmail, {...}) or dispatch(SendEmail(...)), not a mixture."""

    class SendEmail(Job):
        to: str = "nobody"

        def handle(self) -> None: ...

    assert request(SendEmail, {"to": "a@b.c"}) == request(SendEmail(to="a@b.c"))
    assert request(SendEmail) == request(SendEmail())
    with pytest.raises(InvalidPayload, match="the job object has its arguments already"):
        request(SendEmail(), {"to": "a@b.c"})
    with pytest.raises(InvalidPayload, match="expected a mapping of field names to values, got list"):
        request(SendEmail, ["a@b.c"])


def test_a_job_describes_its_payload() -> None:
    """`relayq registry` shows it."""

    class SendEmail(Job):
        to: str

        def handle(self) -> None: ...

    class Odd(Job):
        def handle(self) -> None: ...

        def to_payload(self) -> dict[str, Any]:
            return {}

        @classmethod
        def from_payload(cls, data: Any) -> "Odd":
            return cls()

    assert registry["SendEmail"].build_schema()["required"] == ["to"]
    assert registry["Odd"].build_schema() == {"type": "object"}


def test_a_field_may_be_of_a_type_that_stands_beside_the_class_in_a_function() -> None:
    """pydantic looks for such a type in the frame that it was called from."""

    class Size(BaseModel):
        width: int

    class Resize(Job):
        size: Size

        def handle(self) -> None: ...

    assert Resize(size=Size(width=2)).size.width == 2
    assert Resize.__relayq_type__.encode({"size": {"width": 2}}) == '{"size":{"width":2}}'
