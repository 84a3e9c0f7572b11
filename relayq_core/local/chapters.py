"""The chapters of the demo's story: each dispatches one job, describes its state, and checks what was promised."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from relayq_core.client import RelayQ
from relayq_core.engine.dispatcher import Dispatched
from relayq_core.local import demo_jobs
from relayq_core.local.receiver import TROUBLES, Receiver
from relayq_core.local.stack import Stack
from relayq_core.model.record import JobRecord, Status


@dataclass(frozen=True, slots=True)
class Stage:
    """What the chapters use: the stack, a client, and a receiver of webhooks."""

    stack: Stack
    relayq: RelayQ
    receiver: Receiver


class Chapter(ABC):
    """One dispatch, and the story of its job."""

    key: ClassVar[str]
    about: ClassVar[str]
    promise: ClassVar[str]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.dispatched = self.dispatch()

    @abstractmethod
    def dispatch(self) -> Dispatched:
        """Dispatch the chapter's job."""

    def watch(self, job: JobRecord) -> None:  # noqa: B027 - most chapters do nothing here
        """Act while the job is running, if the chapter does."""

    @abstractmethod
    def note(self, job: JobRecord) -> str:
        """Return a note on the current state of the job."""

    @abstractmethod
    def is_kept(self, job: JobRecord) -> bool:
        """Return whether the tables show what was promised, once the job has ended."""

    def describe_outcome(self, job: JobRecord) -> str:
        """Return what the tables show."""
        return f"{job.status} at attempt {job.attempt}"


class PlainJob(Chapter):
    key, about = "plain", "a plain job"
    promise = "a plain job completes at its first attempt"

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(_build_hello(), unique="hello:ada", unique_for=60)

    def note(self, job: JobRecord) -> str:
        if job.status is not Status.COMPLETED:
            return ""
        duration = (job.finished_at or 0) - job.created_at
        return f"{job.result!r}, {duration / 1000:.2f} s after dispatch"

    def is_kept(self, job: JobRecord) -> bool:
        return job.status is Status.COMPLETED and job.attempt == 1


class DelayedJob(Chapter):
    key, about = "delayed", "a delayed job"
    promise = "a delayed job starts when it is due, and never before"
    seconds = 3

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(demo_jobs.reminder.job(text="Tea is ready"), delay=self.seconds)

    def note(self, job: JobRecord) -> str:
        if job.status is not Status.COMPLETED:
            return f"delay={self.seconds}: {_format_wait(job.available_at)}"
        return f"{job.result!r}, {(job.started_at or 0) - job.available_at} ms after its time"

    def is_kept(self, job: JobRecord) -> bool:
        return job.status is Status.COMPLETED and (job.started_at or 0) >= job.available_at

    def describe_outcome(self, job: JobRecord) -> str:
        return f"{super().describe_outcome(job)}, due at {job.available_at}, started at {job.started_at}"


class Duplicate(Chapter):
    key, about = "duplicate", "a duplicate"
    promise = "a duplicate is refused, and its caller gets the first job's id"

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(_build_hello(), unique="hello:ada", unique_for=60)

    def note(self, job: JobRecord) -> str:
        return "refused: the first job has its unique key"

    def is_kept(self, job: JobRecord) -> bool:
        return self.dispatched.duplicate and job.name == "demo.hello" and self._count_hellos() == 1

    def describe_outcome(self, job: JobRecord) -> str:
        return f"duplicate={self.dispatched.duplicate}, {self._count_hellos()} job(s) of that name in the table"

    def _count_hellos(self) -> int:
        rows = self.stage.stack.aws.read_rows(self.stage.relayq.settings.jobs_table)
        return sum(row.get("name") == {"S": "demo.hello"} for row in rows)


class FlakyWebhook(Chapter):
    key, about = "webhook", "a flaky webhook"
    promise = "a webhook is posted until the receiver accepts it, with one idempotency key"

    def dispatch(self) -> Dispatched:
        # by name: the caller needs none of the job's code
        return self.stage.relayq.dispatch(
            "post_webhook",
            {"url": self.stage.receiver.url, "payload": {"order": 7, "paid": True}},
            queue="webhooks",
            max_attempts=5,
            backoff=[1, 1.5],
        )

    def note(self, job: JobRecord) -> str:
        answers = ", ".join(map(str, self._list_answers()))
        return f"{answers}; again {_format_wait(job.available_at)}" if job.status is Status.RETRYING else answers

    def is_kept(self, job: JobRecord) -> bool:
        keys = {key for key, _ in self.stage.receiver.calls}
        return job.status is Status.COMPLETED and self._list_answers() == [503] * TROUBLES + [200] and keys == {job.id}

    def describe_outcome(self, job: JobRecord) -> str:
        return f"{super().describe_outcome(job)}, the receiver answered {self._list_answers()}"

    def _list_answers(self) -> list[int]:
        return [status for _, status in self.stage.receiver.calls]


class KilledRunner(Chapter):
    key, about = "killed", "a killed runner"
    promise = "a job whose runner was killed is found by the sweeper, and completes"
    pid: int | None = None
    #: crashes before the kill: a slow machine may let a lease expire by itself
    earlier_crashes = 0

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(demo_jobs.report.job(title="Sales"))

    def watch(self, job: JobRecord) -> None:
        """Kill the runner once the job reports progress, in the middle of its work."""
        if self.pid is None and job.status is Status.PROCESSING and job.progress:
            self.pid = self.stage.stack.kill_runner_of(job.id)
            self.earlier_crashes = self._count_crashes(job)

    def note(self, job: JobRecord) -> str:
        page = str(job.progress["note"]) if job.progress else ""
        if self.pid is None:
            return page
        if self._count_crashes(job) <= self.earlier_crashes:
            lease = _format_wait(job.lease_until or 0)
            return f"runner {self.pid} killed; its lease {'has expired' if lease == 'now' else f'expires {lease}'}"
        if job.status is not Status.COMPLETED:
            return f"released by the sweeper; {page}"
        return "its runner was killed, the sweeper saved it"

    def is_kept(self, job: JobRecord) -> bool:
        return (
            job.status is Status.COMPLETED and self.pid is not None and self._count_crashes(job) > self.earlier_crashes
        )

    def describe_outcome(self, job: JobRecord) -> str:
        crashes = self._count_crashes(job)
        return f"{super().describe_outcome(job)}, killed process {self.pid}, {crashes} crash(es) in the table"

    def _count_crashes(self, job: JobRecord) -> int:
        """Count the errors that only the sweeper writes."""
        return sum(str(error["error"]).startswith("JobCrashed") for error in job.errors)


class PoisonJob(Chapter):
    key, about = "poison", "a poison job"
    promise = "a poison job ends in the failed table, with its error"

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(demo_jobs.Label(text="fragile"))

    def note(self, job: JobRecord) -> str:
        reason = str(job.errors[-1]["error"]).partition(": ")[2] if job.errors else ""
        if job.status is Status.RETRYING:
            return f"{reason}; again {_format_wait(job.available_at)}"
        return f"failed table: {reason}" if job.status is Status.FAILED else reason

    def is_kept(self, job: JobRecord) -> bool:
        store = self.stage.relayq.store
        buried = store.get_failed(job.id)
        return (
            buried is not None
            and store.get(job.id) is None
            and buried.attempt == buried.max_attempts
            and "NoPrinter" in (buried.error or "")
        )


STORY: tuple[type[Chapter], ...] = (PlainJob, DelayedJob, Duplicate, FlakyWebhook, KilledRunner, PoisonJob)


def _build_hello() -> object:
    return demo_jobs.hello.job(name="Ada")


def _format_wait(at: int) -> str:
    left = (at - time.time_ns() // 1_000_000) / 1000
    return f"in {left:.1f} s" if left >= 0.05 else "now"
