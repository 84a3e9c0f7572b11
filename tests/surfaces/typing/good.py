"""Correct uses of the whole public surface: mypy --strict and pyright must accept every line."""
# pyright: strict

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar, assert_type

from pydantic import BaseModel, ConfigDict, Field

import relayq_core
from relayq_core import (
    Backoff,
    Bury,
    Dispatched,
    Exponential,
    Fixed,
    Job,
    JobContext,
    JobEvent,
    JobRecord,
    JobRequest,
    Linear,
    RelayQ,
    RelayQError,
    RetryAfter,
    Settings,
    Snooze,
    Status,
    cancel,
    dispatch,
    get,
    job,
    on,
    relayq,
)

# --- jobs as classes ---


class Address(BaseModel):
    street: str


class SendNotification(Job, queue="notifications", max_attempts=3, backoff=[30, 120], timeout=60):
    user_id: int
    title: str = "Hi"

    def handle(self, context: JobContext) -> dict[str, int]:
        context.logger.info("sending", extra={"user_id": self.user_id})
        assert_type(context.progress(0.5, "half"), bool)
        assert_type(context.remaining(), float)
        assert_type(context.deadline, datetime)
        assert_type(context.is_last_attempt, bool)
        assert_type(context.idempotency_key, str)
        return {"attempt": context.attempt}

    def failed(self, error: BaseException) -> None:
        print(error)


class Plain(Job):
    def handle(self) -> None:
        raise Snooze(5, "not yet")


class Asynchronous(Job, name="async.v1", backoff=Exponential(10, cap=3600, jitter=0.1), timeout=timedelta(minutes=1)):
    to: Address
    tags: Annotated[tuple[str, ...], Field(max_length=3)] = ()

    async def handle(self, context: JobContext) -> str:
        raise RetryAfter(5.5, "busy")

    async def failed(self, error: BaseException) -> None: ...


class Base(Job, abstract=True, queue="reports", backoff=5):
    tenant: str


class Report(Base, max_attempts=1, title="A report", str_strip_whitespace=True):
    month: int

    def handle(self) -> None:
        raise Bury("too late")


class Frozen(Job):
    model_config = ConfigDict(frozen=True)
    month: int

    def handle(self) -> int:
        return hash(self)


T = TypeVar("T")


class Import(Job, Generic[T], queue="imports"):
    row: T

    def handle(self) -> T:
        return self.row


class Custom(Job):
    key: int

    def to_payload(self) -> dict[str, Any]:
        return {"key": self.key}

    @classmethod
    def from_payload(cls, data: Mapping[str, Any]) -> "Custom":
        return cls(key=data["key"])

    def handle(self) -> int:
        return self.key


notification = SendNotification(user_id=7, title="Hi")
assert_type(notification.user_id, int)
assert_type(notification.title, str)
assert_type(Plain().handle(), None)
assert_type(Import[int](row=5).row, int)

# --- jobs as functions ---


@job
def bare(to: str, subject: str = "Hi", *, copies: int = 1) -> bool:
    return bool(to)


@job(queue="emails", name="mail.send", max_attempts=5, backoff=Linear(5), timeout=60)
def send_email(to: str, subject: str) -> int:
    return len(to + subject)


@job
def aware(context: JobContext, to: str, copies: int = 1) -> str:
    return context.job_id + to


@job(queue="emails")
def aware_with_options(context: JobContext, to: str) -> str:
    return context.job_id + to


@job
async def later(to: str) -> int:
    return len(to)


@job(queue="emails")
async def later_and_aware(context: JobContext, to: str) -> int:
    return context.attempt


assert_type(bare("a@b.c", copies=2), bool)
assert_type(send_email(to="a@b.c", subject="Hi"), int)
assert_type(bare.job("a@b.c", "Hi", copies=3), JobRequest)
assert_type(bare.job(to="a@b.c"), JobRequest)
assert_type(send_email.job(to="a@b.c", subject="Hi"), JobRequest)
assert_type(aware.job("a@b.c", copies=2), JobRequest)
assert_type(aware_with_options.job(to="a@b.c"), JobRequest)
assert_type(later_and_aware.job(to="a@b.c"), JobRequest)


def run_here(context: JobContext) -> None:
    assert_type(aware(context, "a@b.c"), str)
    assert_type(aware_with_options(context, to="a@b.c"), str)


async def await_here(context: JobContext) -> None:
    assert_type(await later("a@b.c"), int)
    assert_type(await later_and_aware(context, "a@b.c"), int)


# --- dispatch, in every form ---

assert_type(dispatch(notification, delay=5, unique="welcome:7", unique_for=300), Dispatched)
assert_type(dispatch(send_email.job(to="a@b.c", subject="Hi")), Dispatched)
dispatch(notification.with_options(queue="vip").with_options(delay=timedelta(seconds=5)))
dispatch(bare.job("a@b.c").with_options(at=datetime.now(UTC), max_attempts=1, timeout=1.5, backoff=(1, 2)))
dispatch(SendNotification, {"user_id": 7})
dispatch(send_email, {"to": "a@b.c", "subject": "Hi"}, queue="emails")
dispatch("send_email", {"to": "a@b.c"}, job_id="mine", backoff=Fixed(3), timeout=timedelta(minutes=1))
dispatch("nightly")

done = dispatch("nightly")
assert_type(done.job_id, str)
assert_type(done.duplicate, bool)
assert_type(done.handed_off, bool)

# --- what became of it ---

record = get(done.job_id)
assert_type(record, JobRecord | None)
assert_type(cancel("id"), JobRecord | None)
if record is not None:
    assert_type(record.status, Status)
    assert_type(record.attempt, int)
    assert_type(record.max_attempts, int | None)
    assert_type(record.error, str | None)
    assert_type(record.progress, dict[str, Any] | None)
    assert_type(record.errors, list[dict[str, Any]])
    assert_type(record.backoff, Backoff | None)
    assert_type(record.status is Status.COMPLETED, bool)
    print(record.result, record.payload)

# --- listeners ---


@on("failed")
def page_somebody(event: JobEvent) -> None:
    assert_type(event.job, JobRecord)
    assert_type(event.error, BaseException | None)
    assert_type(event.will_retry, bool | None)
    assert_type(event.duration_ms, float | None)


@on("processed")
def count(event: JobEvent) -> int:
    return event.job.attempt


an_event = JobEvent(
    kind="failed", job=JobRecord(id="i", name="n", queue="q", created_at=0, updated_at=0, available_at=0)
)
assert_type(page_somebody(an_event), None)
assert_type(count(an_event), int)

# --- the client ---

settings = Settings.from_environ({"RELAYQ_JOBS_TABLE": "jobs"})
client = RelayQ(settings)
assert_type(client.dispatch(notification, queue="vip"), Dispatched)
assert_type(client.dispatch_many([notification, ("by_name", {"n": 1})]), list[Dispatched])
assert_type(client.get("id"), JobRecord | None)
assert_type(client.redrive("id"), JobRecord | None)
assert_type(client.forget("id"), bool)
assert_type(client.failed("emails", limit=5), list[JobRecord])
assert_type(client.live(status=Status.PENDING), list[JobRecord])
assert_type(client.queues()[0].overdue, int)
assert_type(relayq(), RelayQ)
assert_type(relayq_core.RelayQ().settings, Settings)

try:
    dispatch(notification)
except RelayQError as error:
    print(error)
