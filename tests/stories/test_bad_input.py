"""Bad input gets a clear sentence, at once, and loses nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from relayq_core import InvalidOption, InvalidPayload, Job, JobContext, PayloadTooLarge, job
from relayq_core.engine.results import RunOutcome
from relayq_core.model.record import JobRecord
from relayq_core.testing import Bench
from tests.support.factories import a_job

SECRET = "hunter2"


def define_jobs() -> tuple[Any, Any]:
    """A class with one field, and a function with one parameter."""

    class Greet(Job):
        name: str
        extra: Any = None

        def handle(self) -> None: ...

    @job
    def greet(name: str) -> None: ...

    return Greet, greet


def bad_dispatches() -> dict[str, tuple[Callable[[Any, Any, Any], object], type[Exception], str]]:
    """Return each mistake that a caller may make; the error it gets; and words that must be in it."""
    return {
        # payloads
        "a field too few": (lambda q, C, f: q.dispatch(C, {}), InvalidPayload, "field 'name': it is missing"),
        "a field too many": (
            lambda q, C, f: q.dispatch(C, {"name": "Ada", "nmae": SECRET}),
            InvalidPayload,
            "field 'nmae': the job has no such field",
        ),
        "a field of another type": (
            lambda q, C, f: q.dispatch(C, {"name": [SECRET]}),
            InvalidPayload,
            "field 'name': Input should be a valid string",
        ),
        "the same by name": (
            lambda q, C, f: q.dispatch("Greet", {"nmae": SECRET}),
            InvalidPayload,
            "payload of job 'Greet', field",
        ),
        "a function's parameter too many": (
            lambda q, C, f: q.dispatch(f.job(nmae=SECRET)),
            InvalidPayload,
            "Did you mean",
        ),
        "a function's parameter too few": (lambda q, C, f: q.dispatch(f), InvalidPayload, "field 'name'"),
        "a tuple that comes back as a list": (
            lambda q, C, f: q.dispatch(C(name="Ada", extra=(SECRET,))),
            InvalidPayload,
            "field 'extra': it does not come back from JSON as it was",
        ),
        "a secret that comes back as stars": (
            lambda q, C, f: q.dispatch(C(name="Ada", extra=SecretStr(SECRET))),
            InvalidPayload,
            "field 'extra'",
        ),
        "a number that is none": (
            lambda q, C, f: q.dispatch(C(name="Ada", extra=math.nan)),
            InvalidPayload,
            "field 'extra'",
        ),
        "a value that is no JSON, for a job that is not known here": (
            lambda q, C, f: q.dispatch("elsewhere", {"when": datetime(2020, 1, 1)}),  # noqa: DTZ001
            InvalidPayload,
            "field 'when': it cannot be written as JSON",
        ),
        "a key that is no text": (
            lambda q, C, f: q.dispatch("elsewhere", {7: SECRET}),
            InvalidPayload,
            "expected field names that are strings, got int",
        ),
        "a payload that is no mapping": (
            lambda q, C, f: q.dispatch("elsewhere", [SECRET]),
            InvalidPayload,
            "expected a mapping of field names to values, got list",
        ),
        "a payload that is too large": (
            lambda q, C, f: q.dispatch("elsewhere", {"text": SECRET + "x" * 300_000}),
            PayloadTooLarge,
            "bytes of JSON, the limit is 300,000; store the data elsewhere",
        ),
        "a payload that is too large in bytes only": (
            lambda q, C, f: q.dispatch("elsewhere", {"text": "\N{SNOWMAN}" * 100_001}),
            PayloadTooLarge,
            "the limit is 300,000",
        ),
        "arguments for an object that has them": (
            lambda q, C, f: q.dispatch(C(name="Ada"), {"name": SECRET}),
            InvalidPayload,
            "has its arguments already",
        ),
        # options
        "a negative delay": (lambda q, C, f: q.dispatch("elsewhere", delay=-1), InvalidOption, "delay: expected 0 to"),
        "a delay of eleven years": (
            lambda q, C, f: q.dispatch("elsewhere", delay=11 * 365 * 86_400),
            InvalidOption,
            "ten years",
        ),
        "a delay that is no number": (lambda q, C, f: q.dispatch("elsewhere", delay="5"), InvalidOption, "got str"),
        "a moment without a time zone": (
            lambda q, C, f: q.dispatch("elsewhere", at=datetime(2030, 1, 1)),  # noqa: DTZ001
            InvalidOption,
            "at: expected a datetime with a time zone",
        ),
        "a delay and a moment": (
            lambda q, C, f: q.dispatch("elsewhere", delay=1, at=datetime.fromisoformat("2030-01-01T00:00:00Z")),
            InvalidOption,
            "give either delay or at, not both",
        ),
        "a window without a key": (
            lambda q, C, f: q.dispatch("elsewhere", unique_for=60),
            InvalidOption,
            "unique_for: it needs unique=",
        ),
        "a window of no length": (
            lambda q, C, f: q.dispatch("elsewhere", unique="k", unique_for=0),
            InvalidOption,
            "unique_for: expected more than 0 seconds",
        ),
        "an empty key": (lambda q, C, f: q.dispatch("elsewhere", unique=""), InvalidOption, "unique: expected a key"),
        "a queue with odd characters": (
            lambda q, C, f: q.dispatch("elsewhere", queue="e-mails/now!"),
            InvalidOption,
            "queue: expected 1 to 64 letters, digits",
        ),
        "a queue with the index's separator": (
            lambda q, C, f: q.dispatch("elsewhere", queue="a#1"),
            InvalidOption,
            "queue: expected",
        ),
        "an id that is none": (
            lambda q, C, f: q.dispatch("elsewhere", job_id="a/b"),
            InvalidOption,
            "job_id: expected",
        ),
        "a name that is none": (lambda q, C, f: q.dispatch("greet me"), InvalidOption, "name: expected"),
        "no attempts": (
            lambda q, C, f: q.dispatch("elsewhere", max_attempts=0),
            InvalidOption,
            "max_attempts: expected a whole number of attempts from 1 to 1000, got 0",
        ),
        "no time": (lambda q, C, f: q.dispatch("elsewhere", timeout=0), InvalidOption, "timeout: expected more than 0"),
        "a backoff of words": (
            lambda q, C, f: q.dispatch("elsewhere", backoff="slow"),
            InvalidOption,
            "backoff: expected",
        ),
        "a backoff that goes back": (
            lambda q, C, f: q.dispatch("elsewhere", backoff=[10, -1]),
            InvalidOption,
            "backoff",
        ),
        # jobs
        "a function that is no job": (
            lambda q, C, f: q.dispatch(print),
            TypeError,
            "Is the function decorated with @job?",
        ),
        "nothing": (lambda q, C, f: q.dispatch(None), TypeError, "dispatch() takes a Job object"),
    }


@pytest.mark.parametrize("case", bad_dispatches(), ids=lambda name: name.replace(" ", "-"))
def test_a_bad_dispatch_is_refused_in_plain_words_and_writes_nothing(bench: Bench, case: str) -> None:
    """Expected, found, what to do; and never the value that was given."""
    Greet, greet = define_jobs()
    act, kind, words = bad_dispatches()[case]
    with pytest.raises(kind) as refused:
        act(bench.relayq, Greet, greet)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value.__context__ if refused.value.__suppress_context__ is False else "")
    assert (bench.store.jobs, bench.handoff.offers) == ({}, [])


def test_a_backoff_list_that_is_never_used_up_is_a_warning(bench: Bench) -> None:
    """The job is accepted: it is odd, not wrong."""
    with pytest.warns(UserWarning, match="backoff lists 4 waits, but max_attempts=2 means at most 1 retry"):
        bench.relayq.dispatch("greet", max_attempts=2, backoff=[1, 2, 3, 4])
    assert len(bench.store.jobs) == 1


def test_a_stored_payload_that_does_not_fit_is_buried_at_once(bench: Bench) -> None:
    """It will not fit better next time; failed() has no object to be called on."""
    told: list[str] = []

    class Greet(Job, max_attempts=5):
        name: str

        def handle(self) -> None:
            told.append("handled")

        def failed(self, error: BaseException) -> None:
            told.append("failed")

    bench.store.add(a_job(name="Greet", payload_json='{"name":["hunter2"]}'))
    assert bench.run("job-1").ended is RunOutcome.FAILED
    failed = bench.store.failures["job-1"]
    assert (failed.attempt, failed.payload_json) == (1, '{"name":["hunter2"]}')
    assert "InvalidPayload: payload of job 'Greet', field 'name'" in (failed.error or "")
    assert SECRET not in (failed.error or "")
    assert told == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '{"name":"a","name":', "\ud800".encode("utf-8", "replace").decode()]
)
def test_a_stored_payload_that_is_no_object_is_buried_at_once(bench: Bench, text: str) -> None:
    """The table is written by others too."""
    define_jobs()
    for name in ("Greet", "greet"):
        bench.store.add(a_job(id=name, name=name, payload_json=text))
        assert bench.run(name).ended is RunOutcome.FAILED


def test_a_field_that_a_newer_caller_sent_is_ignored_and_named(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Caller and runner are not deployed at the same moment."""
    seen: list[str] = []

    class Greet(Job):
        name: str

        def handle(self) -> None:
            seen.append(self.name)

    bench.store.add(a_job(name="Greet", payload_json='{"name":"Ada","style":"hunter2"}'))
    assert bench.run("job-1").ended is RunOutcome.COMPLETED
    assert seen == ["Ada"]
    assert "unknown fields ignored: style" in caplog.text
    assert SECRET not in caplog.text


def test_a_payload_of_its_own_may_fail_to_load_and_is_tried_again(bench: Bench) -> None:
    """from_payload may ask a database; that the database is away today says nothing about tomorrow."""
    away: list[bool] = [True]

    class Report(Job, max_attempts=3, backoff=0):
        user: Any

        def to_payload(self) -> dict[str, Any]:
            return {"id": self.user["id"]}

        @classmethod
        def from_payload(cls, data: dict[str, Any]) -> Report:
            if away:
                raise ConnectionError("the database is away")
            return cls(user={"id": data["id"], "name": "Ada"})

        def handle(self) -> str:
            return str(self.user["name"])

    bench.relayq.dispatch(Report(user={"id": 7, "name": "Ada"}), job_id="mine")
    assert bench.store.jobs["mine"].payload == {"id": 7}
    assert bench.run("mine").ended is RunOutcome.RETRYING
    away.clear()
    assert bench.run("mine").ended is RunOutcome.COMPLETED


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, "5", None, True])
@pytest.mark.parametrize("signal", ["RetryAfter", "Snooze"])
def test_a_wait_that_is_none_fails_the_attempt_in_words(bench: Bench, signal: str, seconds: Any) -> None:
    """The handler computed it; it must not become a time that never comes."""
    import relayq_core

    @job
    def wait() -> None:
        raise getattr(relayq_core, signal)(seconds)

    bench.relayq.dispatch(wait, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert (bench.store.jobs["mine"].error or "").startswith(f"InvalidOption: {signal}: expected")


def test_an_error_with_control_characters_is_cleaned_before_it_is_stored(bench: Bench) -> None:
    """It will be printed on an operator's terminal."""

    @job
    def pay(context: JobContext) -> None:
        raise ValueError("\x1b[31mred\x1b[0m\x00\r\n\u2028" + "\ud800")

    bench.relayq.dispatch(pay, job_id="mine")
    bench.run("mine")
    error = bench.store.jobs["mine"].error or ""
    assert "red" in error
    assert not {"\x1b", "\x00", "\r", "\u2028", "\ud800"} & set(error)
    error.encode()


def test_an_endless_error_is_cut(bench: Bench) -> None:
    """Head and tail, within 8 KB; it takes no time either."""

    @job
    def pay() -> None:
        raise ValueError("x" * 50_000_000)

    bench.relayq.dispatch(pay, job_id="mine")
    bench.run("mine")
    assert len((bench.store.jobs["mine"].error or "").encode()) <= 8_192


def test_secrets_in_settings_and_payloads_are_in_no_line(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """From dispatch over a retry to the failed table."""
    caplog.set_level(logging.DEBUG)

    class Login(Job, max_attempts=2, backoff=0):
        password: str

        def handle(self) -> None:
            raise ValueError("wrong")

    bench.relayq.dispatch(Login(password=SECRET), job_id="mine", unique="k")
    bench.run("mine")
    bench.run("mine")
    bench.sweep()
    record: JobRecord | None = bench.relayq.get("mine")
    assert record is not None
    assert record.payload == {"password": SECRET}
    assert SECRET not in caplog.text
