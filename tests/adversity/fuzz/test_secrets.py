"""A secret that is planted in a payload or in the environment is never seen again, but in the payload itself."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, SecretStr, field_validator

from relayq_core import Bury, Job, JobContext, Settings, job
from relayq_core.adapters.dynamodb.items import encode_failed
from relayq_core.engine.results import RunOutcome
from relayq_core.errors import InvalidPayload, PayloadTooLarge, RelayQError
from relayq_core.events.listeners import KINDS, JobEvent, on
from relayq_core.jobs.request import JobRequest
from relayq_core.model.record import JobRecord
from relayq_core.testing import Bench, isolated_registry
from tests.adversity.fuzz.evil import SECRET
from tests.adversity.fuzz.watching import everything_seen
from tests.support.figures import tell


@pytest.fixture(scope="module", autouse=True)
def _figures() -> Iterator[None]:
    """What was planted."""
    yield
    tell(f"secrets planted in payloads: {len(MISFITS)} that do not fit, in 6 ways; {len(PLACES)} that do, in 6 lives")


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """What a test defines is forgotten after it."""
    with isolated_registry():
        yield


class Colour(enum.Enum):
    """Of two."""

    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=False)
    inner: Annotated[int, Field(gt=3)]


class Careless(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def is_right(cls, text: str) -> str:
        raise ValueError("it is not right")


#: A type for a field, and a value that does not fit it and holds the secret.
MISFITS: dict[str, tuple[Any, Any]] = {
    "int": (int, SECRET),
    "int of a list": (int, [SECRET]),
    "bool": (bool, SECRET),
    "float": (float, SECRET),
    "text": (str, {"a": SECRET}),
    "long text": (Annotated[str, Field(max_length=3)], SECRET),
    "pattern": (Annotated[str, Field(pattern="^x$")], SECRET),
    "datetime": (datetime.datetime, SECRET),
    "date": (datetime.date, SECRET),
    "time": (datetime.time, SECRET),
    "timedelta": (datetime.timedelta, SECRET),
    "uuid": (uuid.UUID, SECRET),
    "decimal": (decimal.Decimal, SECRET),
    "url": (AnyUrl, SECRET),
    "enum": (Colour, SECRET),
    "literal": (Literal["a", "b"], SECRET),
    "list": (list[int], [1, SECRET]),
    "tuple": (tuple[int, str], [SECRET, SECRET, SECRET]),
    "mapping": (dict[str, int], {"a": SECRET}),
    "bytes": (Annotated[bytes, Field(max_length=3)], SECRET),
    "union": (int | list[int], SECRET),
    "tagged union": (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": SECRET, "lives": 9}),
    "tagged union without its tag": (Annotated[Cat | Dog, Field(discriminator="kind")], {"name": SECRET}),
    "tagged union inside": (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cat", "lives": SECRET}),
    "model": (Strict, {"inner": SECRET}),
    "model of another kind": (Strict, SECRET),
    "model with more fields": (Strict, {"inner": 4, "outer": SECRET}),
    "model of many": (list[Strict], [{"inner": 4}, {"inner": SECRET}]),
    "validator": (Careless, {"text": SECRET}),
    "json": (dict[str, list[int]], SECRET),
    "key of a mapping": (dict[str, int], {f"{SECRET}@example.com": "x"}),
    "key that does not fit": (dict[int, int], {f"+49 {SECRET}": 1}),
}
#: Nothing but types that keep it: it arrives.
PLACES: dict[str, Any] = {
    "text": SECRET,
    "list": [[SECRET]],
    "mapping": {"a": {"b": SECRET}},
    "long": SECRET * 1_000,
}

misfits = pytest.mark.parametrize(("kind", "value"), MISFITS.values(), ids=MISFITS)


def _job_of(kind: Any) -> type[Job]:
    """A job with one field of this type."""

    class Work(Job):
        field: kind

        def handle(self) -> None: ...

    return Work


def _told(error: BaseException) -> str:
    """All that Python would print of it, and all that it holds."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def _is_hidden(record: JobRecord | None, *others: object) -> None:
    """Its row holds the secret in its payload alone; so does the row of the failed table."""
    assert record is not None
    assert SECRET in record.payload_json
    bare = dataclasses.replace(record, payload_json="{}")
    rows = json.dumps(encode_failed(bare.evolve(finished_at=1)))
    assert SECRET not in rows + "".join(map(str, others))


@misfits
def test_a_payload_that_does_not_fit_is_refused_without_being_quoted(kind: Any, value: Any) -> None:
    """By type and data, and by name: the error goes into the caller's logs."""
    work = _job_of(kind)
    bench = Bench()
    ways: list[Callable[[], Any]] = [
        lambda: bench.relayq.dispatch(work, {"field": value}),
        lambda: bench.relayq.dispatch("Work", {"field": value}),
        lambda: bench.relayq.dispatch(work, {"field": value, "another": SECRET}),
    ]
    with everything_seen() as seen:
        for dispatch in ways:
            with pytest.raises(InvalidPayload) as refused:
                dispatch()
            assert SECRET not in _told(refused.value) + str(seen)
    assert bench.store.jobs == {}


@misfits
def test_a_row_that_does_not_fit_is_buried_without_being_quoted(kind: Any, value: Any) -> None:
    """The job's code has changed since: its error stands in the failed table and in the logs."""
    _job_of(kind)
    bench = Bench()
    told: list[JobEvent] = []
    for each in KINDS:
        on(each)(told.append)
    with everything_seen() as seen:
        request = JobRequest("Work", json.dumps({"field": value, "another": SECRET}))
        job_id = bench.relayq.dispatch(request).job_id
        assert bench.run(job_id).ended in {
            RunOutcome.FAILED,
            RunOutcome.COMPLETED,
        }  # what it does not know it leaves out
    _is_hidden(bench.relayq.get(job_id), seen, *(_told(event.error) for event in told if event.error))


@misfits
@pytest.mark.parametrize("exhausted", [False, True])
def test_from_payload_that_validates_by_itself_does_not_quote_either(kind: Any, value: Any, exhausted: bool) -> None:
    """pydantic's own error prints its input; it is recorded, and logged, without."""

    class Work(Job, max_attempts=1):
        def handle(self) -> None: ...

        def to_payload(self) -> dict[str, Any]:
            return {}

        @classmethod
        def from_payload(cls, data: Any) -> Work:
            _job_of(kind).model_validate(data)
            return cls()

    bench = Bench()
    with everything_seen() as seen:
        job_id = bench.relayq.dispatch(JobRequest("Work", json.dumps({"field": value}))).job_id
        if exhausted:
            bench.store.jobs[job_id] = bench.store.jobs[job_id].evolve(attempt=1, exhausted=True, error="JobCrashed: x")
        assert bench.run(job_id).ended is RunOutcome.FAILED
    _is_hidden(bench.relayq.get(job_id), seen)


@misfits
def test_a_handler_its_failed_and_the_listeners_may_validate_what_they_were_given(kind: Any, value: Any) -> None:
    """Their code may raise what pydantic raises, wrapped, chained or in a group."""
    payload = {"field": value}

    def validate() -> None:
        _job_of(kind).model_validate(payload)

    class Holder(Job, max_attempts=1):
        field: Any

        def handle(self) -> None:
            try:
                validate()
            except Exception as error:
                raise ExceptionGroup("two", [error, RuntimeError("x")]) from error

        def failed(self, error: BaseException) -> None:
            validate()

    bench = Bench()
    with everything_seen() as seen:
        for each in KINDS:
            on(each)(lambda event: validate())
        job_id = bench.relayq.dispatch(Holder(field=value)).job_id
        assert bench.run(job_id).ended is RunOutcome.FAILED
    _is_hidden(bench.relayq.get(job_id), seen)


@pytest.mark.parametrize("value", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    "ends", ["returns it", "raises", "buries", "logs", "returns what is no JSON", "returns too much"]
)
def test_a_job_that_runs_leaves_no_trace_of_its_payload(value: Any, ends: str) -> None:
    """From the dispatch to its end, through failures, handoffs that fail, nudges, releases and redrives."""
    calls: list[object] = []

    @job(max_attempts=2)
    def work(context: JobContext, field: Any) -> Any:
        calls.append(field)
        match ends:
            case "raises":
                raise ValueError("no")
            case "buries":
                raise Bury("no")
            case "logs":
                context.logger.info("working")
                context.progress(0.5, "working")
            case "returns what is no JSON":
                return {1: {field if isinstance(field, str) else "x"}}
            case "returns too much":
                return [field] * 40_000
        return None

    bench = Bench()
    bench.handoff.error = ConnectionError("no route")
    with everything_seen() as seen:
        job_id = bench.relayq.dispatch(work, {"field": value}, unique="key").job_id
        bench.clock.advance(minutes=2)
        bench.sweep()
        bench.run(job_id)
        bench.clock.advance(minutes=2)
        bench.sweep()
        bench.run(job_id)
        bench.relayq.redrive(job_id)
        bench.clock.advance(minutes=2)
        bench.run(job_id)
        bench.relayq.live()
        bench.relayq.queues()
        bench.relayq.failed()
        bench.relayq.cancel(job_id)
    assert calls
    assert seen.lines
    _is_hidden(bench.relayq.get(job_id), seen)


def test_a_payload_that_is_too_large_is_not_quoted() -> None:
    """Only its size is shown."""
    bench = Bench()
    with everything_seen() as seen, pytest.raises(PayloadTooLarge) as refused:
        bench.relayq.dispatch("work", {"field": SECRET * 30_000})
    assert SECRET not in _told(refused.value) + str(seen)


@pytest.mark.parametrize(
    "value",
    [{SECRET}, {1: SECRET}, (SECRET,), SECRET.encode(), object(), SecretStr(SECRET), [float("nan"), SECRET]],
    ids=str,
)
def test_a_payload_that_is_no_json_is_not_quoted(value: Any) -> None:
    """By name, and for a job that takes anything."""

    @job(name="anything")
    def anything(field: Any) -> None: ...

    bench = Bench()
    for name in ("anything", "elsewhere"):
        with everything_seen() as seen, pytest.raises(InvalidPayload) as refused:
            bench.relayq.dispatch(name, {"field": value})
        assert SECRET not in _told(refused.value) + str(seen)


def test_records_and_requests_do_not_show_payloads_and_results() -> None:
    """They end up in tracebacks of other people's tools, and in a careless log line."""

    @job(name="work")
    def work(field: str) -> str:
        return field

    bench = Bench()
    request = work.job(field=SECRET)
    job_id = bench.relayq.dispatch(request).job_id
    ran = bench.run(job_id)
    record = bench.relayq.get(job_id)
    assert record is not None
    assert record.result == SECRET
    assert SECRET not in f"{request!r} {record!r} {ran!r}"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RELAYQ_HTTP_TOKEN", f"{SECRET} {SECRET}"),
        ("RELAYQ_HTTP_TOKEN", f"{SECRET},{SECRET},{SECRET}"),
        ("RELAYQ_HTTP_TOKEN", SECRET[:3] + "\n" + SECRET),
        ("RELAYQ_REDIS_URL", f"redis://:{SECRET}@host:port"),
        ("RELAYQ_REDIS_URL", f"http://user:{SECRET}@host"),
        ("RELAYQ_REDIS_URL", f"rediss://:{SECRET}@"),
        ("RELAYQ_REDIS_URL", SECRET),
        ("RELAYQ_HTTP_ENDPOINT", f"https://user:{SECRET}@host/{SECRET}"),
        ("RELAYQ_HTTP_ENDPOINT", f"http://host/?token={SECRET}"),
    ],
)
def test_a_malformed_secret_of_the_environment_is_refused_unseen(variable: str, text: str) -> None:
    """The function's start fails with a log line, which many may read."""
    with everything_seen() as seen:
        try:
            found = repr(Settings.from_environ({"RELAYQ_JOBS_TABLE": "jobs", variable: text}))
        except RelayQError as error:
            found = _told(error)
    assert SECRET not in found + str(seen)
