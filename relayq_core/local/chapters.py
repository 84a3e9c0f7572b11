"""The chapters of the demo's story: each dispatches one job, says how it stands, and knows what it promised."""

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
    """What the chapters are played on."""

    stack: Stack
    relayq: RelayQ
    receiver: Receiver


class Chapter(ABC):
    """One dispatch, from its beginning to its end."""

    key: ClassVar[str]
    about: ClassVar[str]
    promise: ClassVar[str]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.dispatched = self.dispatch()

    @abstractmethod
    def dispatch(self) -> Dispatched:
        """Begin it."""

    def watch(self, job: JobRecord) -> None:  # noqa: B027 - most chapters do nothing here
        """Do what this chapter does while its job is under way."""

    @abstractmethod
    def note(self, job: JobRecord) -> str:
        """What there is to say of the job as it now is."""

    @abstractmethod
    def kept(self, job: JobRecord) -> bool:
        """Whether the tables say what was promised, once the job has ended."""

    def found(self, job: JobRecord) -> str:
        """What they say."""
        return f"{job.status} at attempt {job.attempt}"


class PlainJob(Chapter):
    key, about = "plain", "a plain job"
    promise = "a plain job completes at its first attempt"

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(_hello(), unique="hello:ada", unique_for=60)

    def note(self, job: JobRecord) -> str:
        if job.status is not Status.COMPLETED:
            return ""
        took = (job.finished_at or 0) - job.created_at
        return f"{job.result!r}, {took / 1000:.2f} s after dispatch"

    def kept(self, job: JobRecord) -> bool:
        return job.status is Status.COMPLETED and job.attempt == 1


class DelayedJob(Chapter):
    key, about = "delayed", "a delayed job"
    promise = "a delayed job is started when its time has come, and never before"
    seconds = 3

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(demo_jobs.reminder.job(text="Tea is ready"), delay=self.seconds)

    def note(self, job: JobRecord) -> str:
        if job.status is not Status.COMPLETED:
            return f"delay={self.seconds}: {_in(job.available_at)}"
        return f"{job.result!r}, {(job.started_at or 0) - job.available_at} ms after its time"

    def kept(self, job: JobRecord) -> bool:
        return job.status is Status.COMPLETED and (job.started_at or 0) >= job.available_at

    def found(self, job: JobRecord) -> str:
        return f"{super().found(job)}, due at {job.available_at}, started at {job.started_at}"


class Duplicate(Chapter):
    key, about = "duplicate", "a duplicate"
    promise = "a duplicate is turned away and told the first job's id"

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(_hello(), unique="hello:ada", unique_for=60)

    def note(self, job: JobRecord) -> str:
        return "turned away: the first has its unique key"

    def kept(self, job: JobRecord) -> bool:
        return self.dispatched.duplicate and job.name == "demo.hello" and self._hellos() == 1

    def found(self, job: JobRecord) -> str:
        return f"duplicate={self.dispatched.duplicate}, {self._hellos()} job(s) of that name in the table"

    def _hellos(self) -> int:
        rows = self.stage.stack.aws.rows(self.stage.relayq.settings.jobs_table)
        return sum(row.get("name") == {"S": "demo.hello"} for row in rows)


class FlakyWebhook(Chapter):
    key, about = "webhook", "a flaky webhook"
    promise = "a webhook is posted until it is taken, with one idempotency key"

    def dispatch(self) -> Dispatched:
        # by name: whoever dispatches needs none of the job's code
        return self.stage.relayq.dispatch(
            "post_webhook",
            {"url": self.stage.receiver.url, "payload": {"order": 7, "paid": True}},
            queue="webhooks",
            max_attempts=5,
            backoff=[1, 1.5],
        )

    def note(self, job: JobRecord) -> str:
        answers = ", ".join(map(str, self._answers()))
        return f"{answers}; again {_in(job.available_at)}" if job.status is Status.RETRYING else answers

    def kept(self, job: JobRecord) -> bool:
        keys = {key for key, _ in self.stage.receiver.calls}
        return job.status is Status.COMPLETED and self._answers() == [503] * TROUBLES + [200] and keys == {job.id}

    def found(self, job: JobRecord) -> str:
        return f"{super().found(job)}, the receiver answered {self._answers()}"

    def _answers(self) -> list[int]:
        return [status for _, status in self.stage.receiver.calls]


class KilledRunner(Chapter):
    key, about = "killed", "a killed runner"
    promise = "a job whose runner was killed is found by the sweeper, and completes"
    pid: int | None = None

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(demo_jobs.report.job(title="Sales"))

    def watch(self, job: JobRecord) -> None:
        """Kill the runner, once the job has told that it is in the middle of its work."""
        if self.pid is None and job.status is Status.PROCESSING and job.progress:
            self.pid = self.stage.stack.kill_runner_of(job.id)

    def note(self, job: JobRecord) -> str:
        page = str(job.progress["note"]) if job.progress else ""
        if self.pid is None:
            return page
        if not self._crashes(job):
            lease = _in(job.lease_until or 0)
            return f"runner {self.pid} killed; its lease {'is over' if lease == 'now' else f'ends {lease}'}"
        if job.status is not Status.COMPLETED:
            return f"found by the sweeper; {page}"
        return "its runner was killed, the sweeper saved it"

    def kept(self, job: JobRecord) -> bool:
        return job.status is Status.COMPLETED and self.pid is not None and self._crashes(job) > 0

    def found(self, job: JobRecord) -> str:
        return f"{super().found(job)}, killed process {self.pid}, {self._crashes(job)} crash(es) in the table"

    def _crashes(self, job: JobRecord) -> int:
        """Errors that only the sweeper writes."""
        return sum(str(error["error"]).startswith("JobCrashed") for error in job.errors)


class PoisonJob(Chapter):
    key, about = "poison", "a poison job"
    promise = "a poison job ends in the failed table, with its error"

    def dispatch(self) -> Dispatched:
        return self.stage.relayq.dispatch(demo_jobs.Label(text="fragile"))

    def note(self, job: JobRecord) -> str:
        reason = str(job.errors[-1]["error"]).partition(": ")[2] if job.errors else ""
        if job.status is Status.RETRYING:
            return f"{reason}; again {_in(job.available_at)}"
        return f"failed table: {reason}" if job.status is Status.FAILED else reason

    def kept(self, job: JobRecord) -> bool:
        store = self.stage.relayq.store
        buried = store.get_failed(job.id)
        return (
            buried is not None
            and store.get(job.id) is None
            and buried.attempt == buried.max_attempts
            and "NoPrinter" in (buried.error or "")
        )


STORY: tuple[type[Chapter], ...] = (PlainJob, DelayedJob, Duplicate, FlakyWebhook, KilledRunner, PoisonJob)


def _hello() -> object:
    return demo_jobs.hello.job(name="Ada")


def _in(at: int) -> str:
    left = (at - time.time_ns() // 1_000_000) / 1000
    return f"in {left:.1f} s" if left >= 0.05 else "now"
