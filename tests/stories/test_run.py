"""Run: wait for the job's moment, claim it, perform it, settle it; whatever happens, the job ends somewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from relayq_core import Bury, Job, JobContext, JobTimeout, RetryAfter, Snooze, StoreError, job
from relayq_core.engine.results import RunOutcome
from relayq_core.engine.runner import Runner
from relayq_core.errors import JobCrashed
from relayq_core.events.listeners import Events
from relayq_core.jobs.registry import registry
from relayq_core.model.leases import Lease
from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Answer
from relayq_core.testing import Bench, Offer
from tests.support.factories import NOW, a_job, a_lease
from tests.support.faulty_bench import Fault, FaultyBench
from tests.support.rows import read_row

SECOND = 1_000
MINUTE = 60_000


def next_run(bench: Bench) -> RunOutcome:
    """Run the job of the last handoff."""
    offer = bench.handoff.offers.pop()
    bench.handoff.offers.clear()
    return bench.run(offer.job_id, offer.run_at).ended


# --- a success ---


def test_a_job_runs_with_its_payload_and_is_completed(bench: Bench) -> None:
    """The whole of it: dispatch, handoff, run, result."""
    greeted: list[str] = []

    class Greet(Job, queue="greetings"):
        name: str

        def handle(self) -> dict[str, str]:
            greeted.append(self.name)
            return {"greeted": self.name}

    bench.relayq.dispatch(Greet(name="Ada"), job_id="mine")
    bench.clock.advance(seconds=1)
    assert next_run(bench) is RunOutcome.COMPLETED
    assert greeted == ["Ada"]
    done = read_row(bench)
    assert (done.status, done.attempt, done.result) == (Status.COMPLETED, 1, {"greeted": "Ada"})
    assert (done.started_at, done.finished_at) == (NOW + SECOND, NOW + SECOND)
    assert (done.due_at, done.lease_id, done.error) == (None, None, None)


def test_a_handler_knows_its_job(bench: Bench) -> None:
    """Who it is, which try this is, and how long it may take."""
    seen: list[JobContext] = []

    @job(queue="emails", max_attempts=2, timeout=60)
    def send_email(context: JobContext, to: str) -> None:
        bench.clock.advance(seconds=10)
        assert context.remaining() == 50
        seen.append(context)

    bench.relayq.dispatch(send_email.job(to="a@b.c"), job_id="mine")
    next_run(bench)
    (context,) = seen
    assert (context.job_id, context.name, context.queue) == ("mine", "send_email", "emails")
    assert (context.attempt, context.max_attempts, context.is_last_attempt) == (1, 2, False)
    assert context.idempotency_key == "mine"
    assert context.deadline.timestamp() * 1000 == NOW + MINUTE


def test_the_idempotency_key_stays_while_the_attempt_counts(bench: Bench) -> None:
    """A handler that was killed after its side effect can recognise it."""
    seen: list[tuple[str, int, bool]] = []

    @job(max_attempts=2, backoff=0)
    def pay(context: JobContext) -> None:
        seen.append((context.idempotency_key, context.attempt, context.is_last_attempt))
        raise ValueError

    bench.relayq.dispatch(pay, job_id="mine")
    next_run(bench)
    next_run(bench)
    assert seen == [("mine", 1, False), ("mine", 2, True)]


def test_a_handlers_logger_has_the_jobs_fields(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A reader of the logs can follow one job."""

    @job(queue="emails")
    def send_email(context: JobContext) -> None:
        context.logger.warning("sent", extra={"message_id": "m-1"})

    bench.relayq.dispatch(send_email, job_id="mine")
    next_run(bench)
    (line,) = [record for record in caplog.records if record.message == "sent"]
    fields = line.__dict__
    assert (fields["job_id"], fields["job_name"], fields["queue"], fields["attempt"]) == (
        "mine",
        "send_email",
        "emails",
        1,
    )
    assert fields["message_id"] == "m-1"


def test_an_async_handler_is_run_to_its_end(bench: Bench) -> None:
    """So is an async failed()."""
    told: list[str] = []

    class Fetch(Job, max_attempts=1):
        fails: bool

        async def handle(self) -> str:
            await asyncio.sleep(0)
            if self.fails:
                raise ValueError("no")
            return "fetched"

        async def failed(self, error: BaseException) -> None:
            await asyncio.sleep(0)
            told.append(str(error))

    bench.relayq.dispatch(Fetch(fails=False), job_id="mine")
    next_run(bench)
    assert read_row(bench).result == "fetched"
    bench.relayq.dispatch(Fetch(fails=True), job_id="other")
    assert next_run(bench) is RunOutcome.FAILED
    assert told == ["no"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        ({"a": [1, 2.5, "ü", None, True]}, {"a": [1, 2.5, "ü", None, True]}),
        ("x" * 32_766, "x" * 32_766),
    ],
)
def test_a_result_that_is_json_is_kept(bench: Bench, value: Any, kept: Any) -> None:
    """Up to 32 KB, for a status page."""

    @job
    def compute() -> Any:
        return value

    bench.relayq.dispatch(compute, job_id="mine")
    next_run(bench)
    assert read_row(bench).result == kept


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "not JSON serializable"),
        (float("nan"), "ValueError"),
        ("x" * 32_767, "32769 bytes, the limit is 32768"),
        ({(1, 2): 3}, "TypeError"),
    ],
)
def test_a_result_that_cannot_be_kept_costs_nothing_but_itself(
    bench: Bench, caplog: pytest.LogCaptureFixture, value: Any, why: str
) -> None:
    """The work is done: failing the job over it would do it again."""

    @job
    def compute() -> Any:
        return value

    bench.relayq.dispatch(compute, job_id="mine")
    assert next_run(bench) is RunOutcome.COMPLETED
    assert read_row(bench).result is None
    assert why in (read_row(bench).result_problem or "")
    assert f"the result is not kept: {read_row(bench).result_problem}" in caplog.text


def test_without_retention_a_completed_job_is_deleted_at_once() -> None:
    """Its unique key is free."""
    bench = Bench(retention_seconds=0)

    @job
    def forgettable() -> None: ...

    bench.relayq.dispatch(forgettable.job().with_options(unique="k"), job_id="mine")
    assert next_run(bench) is RunOutcome.COMPLETED
    assert bench.relayq.get("mine") is None
    assert bench.store.jobs == {}
    assert not bench.relayq.dispatch(forgettable.job().with_options(unique="k")).duplicate


# --- failures ---


def test_a_failed_attempt_is_tried_again_after_its_backoff(bench: Bench) -> None:
    """Each retry waits as the backoff says, and is handed off if a runner can sleep that long."""

    class Flaky(Job, max_attempts=4, backoff=[10, 60, 600]):
        def handle(self, context: JobContext) -> None:
            raise ValueError(f"attempt {context.attempt}")

    bench.relayq.dispatch(Flaky(), job_id="mine")
    for attempt, wait in enumerate([10, 60, 600], start=1):
        assert bench.run("mine").ended is RunOutcome.RETRYING
        waiting = read_row(bench)
        assert (waiting.status, waiting.attempt) == (Status.RETRYING, attempt)
        assert waiting.available_at == bench.clock.now() + wait * SECOND
        assert waiting.error is not None
        assert waiting.error.startswith(f"ValueError: attempt {attempt}")
        bench.clock.advance(seconds=wait)
    assert [offer.run_at for offer in bench.handoff.offers] == [NOW, NOW + 10 * SECOND, NOW + 70 * SECOND]
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert [error["error"] for error in read_row(bench).errors] == [f"ValueError: attempt {n}" for n in (1, 2, 3, 4)]


def test_after_the_last_attempt_failed_is_called_and_the_job_is_buried(bench: Bench) -> None:
    """It moves to the failed table with its error, its payload and its history."""
    told: list[tuple[str, BaseException]] = []

    class Pay(Job, queue="money", max_attempts=2, backoff=0):
        amount: int

        def handle(self) -> None:
            raise ValueError(f"no {self.amount}")

        def failed(self, error: BaseException) -> None:
            told.append((f"{self.amount}", error))

    bench.relayq.dispatch(Pay(amount=5), job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert told == []
    assert next_run(bench) is RunOutcome.FAILED
    ((amount, error),) = told
    assert (amount, type(error), str(error)) == ("5", ValueError, "no 5")
    assert bench.store.jobs == {}
    failed = bench.store.failures["mine"]
    assert (failed.status, failed.attempt, failed.payload) == (Status.FAILED, 2, {"amount": 5})
    assert failed.error is not None
    assert "ValueError: no 5" in failed.error
    assert "test_run.py" in failed.error  # where it was raised
    assert [error["attempt"] for error in failed.errors] == [1, 2]
    assert bench.handoff.offers == []


def test_only_the_last_five_errors_are_kept(bench: Bench) -> None:
    """A job that is tried a thousand times must still fit its row."""

    @job(max_attempts=10, backoff=0)
    def flaky(context: JobContext) -> None:
        raise ValueError("x" * 10_000)

    bench.relayq.dispatch(flaky, job_id="mine")
    for _ in range(7):
        next_run(bench)
    errors = read_row(bench).errors
    assert [error["attempt"] for error in errors] == [3, 4, 5, 6, 7]
    assert all(len(error["error"].encode()) <= 500 for error in errors)


def test_retry_after_overrides_the_backoff_and_uses_up_an_attempt(bench: Bench) -> None:
    """The other side knows best when to come again."""

    @job(max_attempts=2, backoff=10)
    def call() -> None:
        raise RetryAfter(33, "busy")

    bench.relayq.dispatch(call, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert read_row(bench).available_at == NOW + 33 * SECOND
    assert (read_row(bench).attempt, read_row(bench).errors[0]["error"]) == (1, "RetryAfter: busy")
    bench.clock.advance(seconds=33)
    assert bench.run("mine").ended is RunOutcome.FAILED


def test_a_snooze_uses_up_no_attempt_however_often(bench: Bench) -> None:
    """ "Not now" is no failure."""
    starts: list[int] = []

    @job(max_attempts=1)
    def wait_for_file(context: JobContext) -> None:
        starts.append(context.attempt)
        if len(starts) < 5:
            raise Snooze(20)

    bench.relayq.dispatch(wait_for_file, job_id="mine")
    for n in range(4):
        assert bench.run("mine").ended is RunOutcome.SNOOZED
        assert (read_row(bench).status, read_row(bench).attempt, read_row(bench).error) == (Status.RETRYING, 0, None)
        assert read_row(bench).available_at == NOW + (n + 1) * 20 * SECOND
        bench.clock.advance(seconds=20)
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    assert starts == [1, 1, 1, 1, 1]


def test_bury_ends_all_trying_at_once(bench: Bench) -> None:
    """The handler knows that trying again is useless; failed() is called all the same."""
    told: list[str] = []

    class Call(Job, max_attempts=5):
        def handle(self) -> None:
            raise Bury("410 Gone")

        def failed(self, error: BaseException) -> None:
            told.append(repr(error))

    bench.relayq.dispatch(Call(), job_id="mine")
    assert next_run(bench) is RunOutcome.FAILED
    assert told == ["Bury('410 Gone')"]
    assert read_row(bench).attempt == 1
    assert (read_row(bench).error or "").startswith("Bury: 410 Gone")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")])
def test_whatever_a_handler_raises_is_a_failed_attempt(bench: Bench, error: BaseException) -> None:
    """sys.exit() in a library must not take the runner with it: Lambda would lose the error."""

    @job
    def misbehave() -> None:
        raise error

    bench.relayq.dispatch(misbehave, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert (read_row(bench).error or "").startswith(type(error).__name__)


def test_an_error_that_cannot_be_described_is_still_recorded(bench: Bench) -> None:
    """Its own __str__ raises."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @job
    def misbehave() -> None:
        raise Broken

    bench.relayq.dispatch(misbehave, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert (read_row(bench).error or "").startswith("Broken: (its message cannot be read")


def test_a_bad_payload_that_a_handler_dispatches_fails_the_attempt_only(bench: Bench) -> None:
    """Its own payload was good: what it tried to dispatch is an error like any other, and may be tried again."""

    @job
    def second(n: int) -> None: ...

    @job(max_attempts=2, backoff=0)
    def first() -> None:
        bench.relayq.dispatch("second", {"n": "many"})

    bench.relayq.dispatch(first, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert next_run(bench) is RunOutcome.FAILED


# --- failed() ---


def test_what_failed_raises_is_logged_and_changes_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The job is buried with its own error, not with that of its obituary."""

    class Pay(Job, max_attempts=1):
        def handle(self) -> None:
            raise ValueError("no")

        def failed(self, error: BaseException) -> None:
            raise SystemExit(1)

    bench.relayq.dispatch(Pay(), job_id="mine")
    assert next_run(bench) is RunOutcome.FAILED
    assert (read_row(bench).error or "").startswith("ValueError: no")
    assert "the job's failed() raised" in caplog.text


def test_failed_may_dispatch_and_is_the_parent(bench: Bench) -> None:
    """To dispatch a notice is what it is for."""

    @job
    def alert(text: str) -> None: ...

    class Pay(Job, max_attempts=1):
        def handle(self) -> None:
            raise ValueError("no")

        def failed(self, error: BaseException) -> None:
            bench.relayq.dispatch(alert.job(str(error)), job_id="alert")

    bench.relayq.dispatch(Pay(), job_id="mine")
    next_run(bench)
    assert (read_row(bench, "alert").payload, read_row(bench, "alert").parent_id) == ({"text": "no"}, "mine")


def test_a_failed_that_does_not_end_is_stopped(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It runs inside the lease: the burial comes in time."""
    bench = Bench(lease_grace_seconds=1)

    class Pay(Job, max_attempts=1, timeout=60):
        def handle(self) -> None:
            bench.clock.advance(seconds=61, milliseconds=-280)  # all but a little of the lease is used up
            raise ValueError("no")

        def failed(self, error: BaseException) -> None:
            time.sleep(5)

    bench.relayq.dispatch(Pay(), job_id="mine")
    assert next_run(bench) is RunOutcome.FAILED
    assert "JobTimeout" in caplog.text


# --- waiting ---


def test_a_handoff_that_comes_early_sleeps_the_rest(bench: Bench) -> None:
    """A short delay is slept in the runner, before the claim: a runner that dies asleep holds nothing."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=40)
    assert next_run(bench) is RunOutcome.COMPLETED
    assert bench.clock.now() == NOW + 40 * SECOND
    assert read_row(bench).started_at == NOW + 40 * SECOND


def test_a_claim_that_comes_early_sleeps_the_rest(bench: Bench) -> None:
    """Its handoff said now, the row says in two seconds: the clocks differ. It is never started early."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=2)
    assert bench.run("mine", NOW).ended is RunOutcome.COMPLETED
    assert read_row(bench).started_at == NOW + 2 * SECOND


def test_a_wait_that_is_too_long_is_left_to_the_sweeper(bench: Bench) -> None:
    """The runner was invoked for a job of tomorrow."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=86_400)
    assert bench.run("mine").ended is RunOutcome.NOT_CLAIMED
    assert bench.run("mine", NOW + 86_400 * SECOND).ended is RunOutcome.NOT_CLAIMED
    assert bench.clock.now() == NOW
    assert read_row(bench).attempt == 0


@pytest.mark.parametrize("waits", [0, 5, 65])
@pytest.mark.parametrize("beyond", [3, 60, 800, 86_400])
def test_no_runner_sleeps_for_longer_than_it_may(waits: int, beyond: float) -> None:
    """A handoff whose moment is beyond MAX_WAIT, by its own word or by the row's, leaves the job to the sweeper."""
    bench = Bench(max_wait_seconds=waits)
    bench.relayq.dispatch("greet", job_id="mine", delay=waits + beyond)
    moment = NOW + round((waits + beyond) * SECOND)
    for run_at in (moment, NOW, None):
        assert bench.run("mine", run_at).ended is RunOutcome.NOT_CLAIMED
    assert bench.clock.now() == NOW
    assert read_row(bench).attempt == 0


def test_with_too_little_time_left_after_a_wait_the_job_is_handed_on(bench: Bench) -> None:
    """A fresh invocation has the time that this one has slept away."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine", delay=60)
    bench.handoff.offers.clear()
    assert bench.run("mine", NOW + 30 * SECOND, seconds=60).ended is RunOutcome.HANDED_ON
    assert bench.handoff.offers == [Offer("mine", None, NOW + 60 * SECOND)]
    assert read_row(bench).attempt == 0


def test_a_runner_that_is_too_short_for_any_wait_says_so_and_does_not_invoke_itself_without_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Handing on would end in the same place; the sweeper starts the job at its time."""
    bench.relayq.dispatch("greet", job_id="mine", delay=60)
    bench.handoff.offers.clear()
    assert bench.run("mine", NOW + 60 * SECOND, seconds=30).ended is RunOutcome.NOT_CLAIMED
    assert "this runner's timeout is too short" in caplog.text
    assert bench.handoff.offers == []


def test_a_job_is_not_claimed_in_the_last_seconds_of_an_invocation(bench: Bench) -> None:
    """A handler that is killed at once spends an attempt on nothing."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    assert bench.run("mine", seconds=14.9).ended is RunOutcome.NOT_CLAIMED
    assert read_row(bench).attempt == 0
    assert bench.run("mine", seconds=15).ended is RunOutcome.COMPLETED


def test_a_failed_handing_on_is_the_sweepers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A handoff is a hint."""
    bench.relayq.dispatch("greet", job_id="mine", delay=60)
    bench.handoff.error = RuntimeError("throttled")
    assert bench.run("mine", NOW + 30 * SECOND, seconds=60).ended is RunOutcome.NOT_CLAIMED
    assert "the sweeper will start the job" in caplog.text


def test_a_claim_that_is_early_again_and_again_is_left_to_the_sweeper(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that runs backwards must not keep a runner, and its bill, forever."""
    bench.relayq.dispatch("greet", job_id="mine")
    tries: list[int] = []

    def always_early(job_id: str, lease: Lease) -> Answer:
        tries.append(bench.clock.now())
        return Answer(False, read_row(bench).evolve(available_at=bench.clock.now() + SECOND))

    monkeypatch.setattr(bench.store, "claim", always_early)
    assert bench.run("mine").ended is RunOutcome.NOT_CLAIMED
    assert tries == [NOW, NOW + SECOND, NOW + 2 * SECOND]


# --- who may run it ---


def test_a_doubled_handoff_runs_the_job_once(bench: Bench) -> None:
    """Events are delivered at least once."""
    runs: list[int] = []

    @job
    def greet() -> None:
        runs.append(1)

    bench.relayq.dispatch(greet, job_id="mine")
    assert [bench.run("mine").ended for _ in range(3)] == [
        RunOutcome.COMPLETED,
        RunOutcome.NOT_CLAIMED,
        RunOutcome.NOT_CLAIMED,
    ]
    assert runs == [1]
    assert bench.run("nobody").ended is RunOutcome.NOT_CLAIMED


def test_the_outcome_of_a_stale_runner_is_discarded(
    bench: Bench, caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    """It was frozen past its lease; by then another has done the job. Its outcome is discarded, and it says so."""
    results = iter(["from the second", "from the first"])

    @job(backoff=0)
    def slow(context: JobContext) -> str:
        if context.attempt == 1:
            bench.clock.advance(minutes=20)  # the process slept
            bench.sweep()
            assert bench.run("mine").ended is RunOutcome.COMPLETED
        return next(results)

    bench.relayq.dispatch(slow, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert read_row(bench).result == "from the second"
    assert read_row(bench).attempt == 2
    assert "no longer this runner's" in caplog.text
    assert told[-1] == "lease_lost"


def test_the_failure_of_a_stale_runner_neither_retries_nor_buries(bench: Bench) -> None:
    """The row of the job that runs now shows nothing of it either."""

    @job(max_attempts=2, backoff=0)
    def slow(context: JobContext) -> None:
        if context.attempt == 1:
            bench.clock.advance(minutes=20)
            bench.sweep()
            bench.store.claim("mine", a_lease("another", now=bench.clock.now()))
        raise ValueError

    bench.relayq.dispatch(slow, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert (read_row(bench).status, read_row(bench).lease_id) == (Status.PROCESSING, "another")
    assert bench.store.failures == {}


def test_a_claim_whose_answer_came_when_its_lease_was_over_starts_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """The sweeper may have given the job to another by now."""

    @job(timeout=5)
    def greet() -> None:
        raise AssertionError

    bench.relayq.dispatch(greet, job_id="mine")
    original = bench.store.claim

    def slowly(job_id: str, lease: Lease) -> Answer:
        answer = original(job_id, lease)
        bench.clock.advance(seconds=14)
        return answer

    monkeypatch.setattr(bench.store, "claim", slowly)
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert told == ["dispatched", "lease_lost"]


def test_a_job_dispatched_by_name_is_completed_by_its_type(bench: Bench) -> None:
    """The caller knew only the name: tries, backoff and timeout are the type's, wherever the row says nothing."""
    deadlines: list[float] = []
    bench.relayq.dispatch("pay", job_id="mine")
    bench.relayq.dispatch("pay", job_id="other", backoff=7)

    @job(max_attempts=2, backoff=40, timeout=120)
    def pay(context: JobContext) -> None:
        deadlines.append(context.remaining())
        raise ValueError

    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert read_row(bench).available_at == NOW + 40 * SECOND
    assert bench.run("other").ended is RunOutcome.RETRYING
    assert read_row(bench, "other").available_at == NOW + 7 * SECOND
    bench.clock.advance(seconds=40)
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert deadlines == [120, 120, 120]


# --- time ---


def test_a_handler_that_takes_too_long_is_stopped_and_its_error_recorded(bench: Bench) -> None:
    """Lambda's own timeout kills without a word; this one says where the handler was."""

    @job(timeout=0.05, max_attempts=1)
    def slow() -> None:
        time.sleep(20)

    bench.relayq.dispatch(slow, job_id="mine")
    assert next_run(bench) is RunOutcome.FAILED
    assert (read_row(bench).error or "").startswith("JobTimeout: the handler was stopped after 0.05 s")
    assert "in slow" in (read_row(bench).error or "")


def test_a_handler_that_cleans_up_in_time_fails_with_its_timeout(bench: Bench) -> None:
    """JobTimeout is an exception like any other: finally and except work."""
    cleaned: list[str] = []

    @job(timeout=0.05)
    def slow() -> None:
        try:
            time.sleep(20)
        except JobTimeout:
            cleaned.append("caught")
            raise
        finally:
            cleaned.append("finally")

    bench.relayq.dispatch(slow, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert cleaned == ["caught", "finally"]


def test_a_handler_that_is_stopped_may_clean_up_in_peace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm rings again for those who did not hear it, not for those who are leaving."""
    monkeypatch.setattr("relayq_core.process.deadline._AGAIN", 0.01)
    cleaned: list[str] = []

    @job(timeout=0.02)
    def slow() -> None:
        try:
            time.sleep(20)
        finally:
            time.sleep(0.05)
            cleaned.append("all")

    bench.relayq.dispatch(slow, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert cleaned == ["all"]


def test_a_handler_that_waits_in_boto3_is_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore takes the timeout for a failed connection and tries again: it is raised until botocore gives up."""
    monkeypatch.setattr("relayq_core.process.deadline._AGAIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}",
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

        @job(timeout=0.05)
        def upload() -> None:
            client.list_buckets()

        bench.relayq.dispatch(upload, job_id="mine")
        assert next_run(bench) is RunOutcome.RETRYING
        client.close()
    assert "the handler was stopped after 0.05 s" in (read_row(bench).error or "")


def test_an_async_handler_that_takes_too_long_is_stopped(bench: Bench) -> None:
    """Wherever the event loop is."""

    @job(timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(20)

    bench.relayq.dispatch(slow, job_id="mine")
    assert next_run(bench) is RunOutcome.RETRYING
    assert (read_row(bench).error or "").startswith("JobTimeout")


def test_without_a_timeout_a_handler_ends_in_time_for_its_settle(bench: Bench) -> None:
    """Ten seconds of the invocation are kept for what comes after it."""
    deadlines: list[int] = []

    @job
    def greet(context: JobContext) -> None:
        deadlines.append(context.deadline_ms)

    bench.relayq.dispatch(greet, job_id="mine")
    bench.run("mine", seconds=300)
    assert deadlines == [NOW + 290 * SECOND]


def test_the_settings_timeout_is_for_jobs_that_have_none() -> None:
    """The job's own goes first."""
    bench = Bench(timeout=30)
    deadlines: list[int] = []

    @job
    def plain(context: JobContext) -> None:
        deadlines.append(context.deadline_ms - bench.clock.now())

    @job(timeout=45)
    def timed(context: JobContext) -> None:
        deadlines.append(context.deadline_ms - bench.clock.now())

    for each in (plain, timed):
        bench.relayq.dispatch(each)
        next_run(bench)
    assert deadlines == [30 * SECOND, 45 * SECOND]


def test_a_timeout_that_can_never_fit_is_buried_with_the_remedy() -> None:
    """Trying it again in the same runner would end the same way."""
    bench = Bench(runner_timeout_seconds=300)
    told: list[str] = []

    class Report(Job, timeout=600):
        def handle(self) -> None:
            told.append("handled")

        def failed(self, error: BaseException) -> None:
            told.append(type(error).__name__)

    bench.relayq.dispatch(Report(), job_id="mine")
    assert bench.run("mine", seconds=300).ended is RunOutcome.FAILED
    assert told == ["Bury"]
    error = read_row(bench).error or ""
    assert "its timeout of 600 s can never fit: this runner lives 300 s" in error
    assert "raise the runner's timeout" in error


def test_the_settings_timeout_never_buries_a_job(bench: Bench) -> None:
    """It is a wish about all jobs, not a demand of this one."""
    bench = Bench(timeout=600)

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    assert bench.run("mine", seconds=300).ended is RunOutcome.COMPLETED


def test_a_handler_that_ignores_its_timeout_is_ended_with_its_process() -> None:
    """It must not outlive its lease; the exit code says why the process ended."""
    code = """
        import time
        from relayq_core import JobTimeout, job
        from relayq_core.testing import Bench

        @job(timeout=0.05)
        def stubborn() -> None:
            while True:
                try:
                    time.sleep(60)
                except JobTimeout:
                    pass

        bench = Bench(lease_grace_seconds=1)
        bench.relayq.dispatch(stubborn, job_id="mine")
        bench.run("mine")
        print("survived")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 70
    assert "the handler ignored its timeout; its process ends now" in ended.stderr
    assert "survived" not in ended.stdout


# --- crashes ---


def test_attempts_never_exceed_max_attempts_though_runners_die(bench: Bench, crash: Callable[[str], JobRecord]) -> None:
    """A poison job kills each runner that takes it: it is started max_attempts times and no more, and ends failed."""
    told: list[BaseException] = []

    class Poison(Job, max_attempts=3, backoff=0):
        def handle(self) -> None:
            raise AssertionError("the handler is not to be started again")

        def failed(self, error: BaseException) -> None:
            told.append(error)

    bench.relayq.dispatch(Poison(), job_id="mine")
    for attempt in (1, 2, 3):
        assert crash("mine").attempt == attempt
        bench.clock.advance(minutes=20)
        assert bench.sweep().counts == {"released": 1}
    assert read_row(bench).exhausted
    assert next_run(bench) is RunOutcome.FAILED
    (error,) = told
    assert isinstance(error, JobCrashed)
    assert read_row(bench).attempt == 3
    assert (read_row(bench).error or "").startswith("JobCrashed: the runner of attempt 3 ended without settling")
    assert [error["attempt"] for error in read_row(bench).errors] == [1, 2, 3]


def test_a_job_whose_failed_kills_its_runner_too_is_buried_by_the_sweeper(
    bench: Bench, crash: Callable[[str], JobRecord]
) -> None:
    """Nothing is left to be tried."""

    class Poison(Job, max_attempts=1):
        def handle(self) -> None: ...

    bench.relayq.dispatch(Poison(), job_id="mine")
    for _ in range(2):
        crash("mine")
        bench.clock.advance(minutes=20)
        bench.sweep()
    assert bench.store.jobs == {}
    assert (read_row(bench).status, read_row(bench).attempt) == (Status.FAILED, 1)
    assert (read_row(bench).error or "").startswith("JobCrashed")


def test_an_exhausted_job_that_cannot_be_built_is_buried_without_failed(
    bench: Bench, crash: Callable[[str], JobRecord], caplog: pytest.LogCaptureFixture
) -> None:
    """There is no object to call it on; the log says so."""

    class Pay(Job, max_attempts=1):
        amount: int

        def handle(self) -> None: ...

    bench.store.add(a_job(id="mine", name="Pay", queue="default", max_attempts=1, payload_json="{}"))
    bench.store.register_queue("default")
    crash("mine")
    bench.clock.advance(minutes=3)
    bench.sweep()
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert "failed() is not called: the job cannot be built" in caplog.text
    assert (read_row(bench).error or "").startswith("JobCrashed")


def test_the_types_own_bound_holds_for_a_job_dispatched_by_name(
    bench: Bench, crash: Callable[[str], JobRecord]
) -> None:
    """The row does not say how many tries; the sweeper guesses from the settings, the runner knows better."""
    bench.relayq.dispatch("Poison", job_id="mine")

    class Poison(Job, max_attempts=1):
        def handle(self) -> None:
            raise AssertionError("one start is all it has")

    crash("mine")
    bench.clock.advance(minutes=20)
    bench.sweep()
    bench.clock.advance(minutes=1)
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert read_row(bench).attempt == 1


def test_a_runner_that_cannot_settle_says_so_and_does_not_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception would make Lambda count an error of the function; the lease runs out, and the job goes on."""
    bench = FaultyBench()

    @job(timeout=5)
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    bench.faults["settle"] = ["unsent"] * 100
    assert bench.run("mine").ended is RunOutcome.UNSETTLED
    assert bench.clock.now() <= (read_row(bench).lease_until or 0)
    assert "its lease will run out" in caplog.text
    bench.faults["settle"] = []
    bench.clock.advance(minutes=20)
    assert bench.sweep().counts == {"released": 1}


def test_a_settle_that_is_not_answered_is_tried_no_longer_than_the_invocation_lasts() -> None:
    """Else Lambda would end the process in the middle of it, and count an error of the function."""
    bench = FaultyBench()

    @job(timeout=600)
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    bench.faults["settle"] = ["unsent"] * 1000
    began = bench.clock.now()
    assert bench.run("mine", seconds=60).ended is RunOutcome.UNSETTLED
    assert bench.clock.now() - began < 60_000 < (read_row(bench).lease_until or 0) - began


@pytest.mark.parametrize("fault", ["unsent", "lost"])
@pytest.mark.parametrize(
    ("fails", "status"), [(False, Status.COMPLETED), (True, Status.RETRYING)], ids=["a success", "a failure"]
)
def test_a_settle_that_is_not_answered_is_tried_on_while_the_lease_lasts(
    fault: Fault, fails: bool, status: Status
) -> None:
    """DynamoDB may be away for many seconds: what has been done must not be done again for that."""
    bench = FaultyBench()

    @job(timeout=30, backoff=300)
    def greet() -> None:
        if fails:
            raise OSError("away")

    bench.relayq.dispatch(greet, job_id="mine")
    bench.faults["settle"] = [fault] * 20
    assert bench.run("mine").ended.value == status
    assert read_row(bench).status is status
    assert bench.faulty.calls.count("settle") == 21
    assert read_row(bench).attempt == 1


def test_a_burial_that_is_not_answered_is_tried_on_as_well() -> None:
    """`failed()` is called once all the same."""
    bench = FaultyBench()
    told: list[str] = []

    class Doomed(Job, timeout=30, max_attempts=1):
        def handle(self) -> None:
            raise OSError("away")

        def failed(self, error: BaseException) -> None:
            told.append(str(error))

    bench.relayq.dispatch(Doomed(), job_id="mine")
    bench.faults["settle"] = ["lost", "unsent", "lost"]
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert told == ["away"]
    assert bench.store.failures["mine"].attempt == 1


def test_a_settle_is_not_tried_on_beyond_the_invocation() -> None:
    """Lambda would end the process in the middle of it, and bill what led to nothing."""
    bench = FaultyBench()

    @job(timeout=600)
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    bench.faults["settle"] = ["unsent"] * 700
    began = bench.clock.now()
    assert bench.run("mine", seconds=620).ended is RunOutcome.UNSETTLED
    assert bench.clock.now() < began + 620_000
    assert bench.clock.now() < (read_row(bench).lease_until or 0)


@pytest.mark.parametrize("fault", ["denied", "unsent"])
def test_a_claim_that_fails_is_the_functions_error(fault: str) -> None:
    """Nothing is held yet, so nothing is lost: the function's error metric shows it."""
    bench = FaultyBench()
    bench.relayq.dispatch("greet", job_id="mine")
    bench.faults["claim"] = [fault]  # type: ignore[list-item]
    with pytest.raises(StoreError):
        bench.run("mine")
    assert read_row(bench).attempt == 0


def test_a_defect_after_the_claim_is_logged_and_does_not_raise(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even a bug of RelayQ's own must not lose the job."""

    @job
    def greet() -> None: ...

    bench.relayq.dispatch(greet, job_id="mine")
    monkeypatch.setattr("relayq_core.model.settling.settle", None)
    assert bench.run("mine").ended is RunOutcome.UNSETTLED
    assert "a defect of RelayQ; the job's lease will run out" in caplog.text


def test_a_crash_of_a_job_dispatched_by_name_is_noticed_when_no_job_could_still_run(bench: Bench) -> None:
    """Its row has no timeout, since the caller has none of its code: the runner's jobs say how long is too long."""
    bench.relayq.dispatch("greet", {}, job_id="mine")

    @job(timeout=20)
    def greet() -> None:
        raise SystemExit

    @job(timeout=60)
    def count() -> None: ...

    began = bench.clock.now()
    claim = bench.store.claim
    leases: list[int] = []

    def noting(job_id: str, lease: Lease) -> Answer:
        leases.append(lease.until(None) - began)
        return claim(job_id, lease)

    bench.store.claim = noting  # type: ignore[method-assign]
    bench.run("mine")
    assert leases == [70_000]


# --- names ---


def test_an_unknown_name_is_given_back_each_minute_and_buried_after_fifteen(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A deploy may be under way; after a quarter of an hour it is not."""
    bench.relayq.dispatch("send_emial", job_id="mine", max_attempts=2)

    @job
    def send_email() -> None: ...

    for minute in range(15):
        assert bench.run("mine").ended is RunOutcome.GIVEN_BACK
        waiting = read_row(bench)
        assert (waiting.status, waiting.attempt, waiting.error) == (Status.RETRYING, 0, None)
        assert waiting.available_at == bench.clock.now() + MINUTE
        assert bench.clock.now() == NOW + minute * MINUTE
        bench.clock.advance(minutes=1)
    assert "no job named 'send_emial'. Did you mean \"send_email\"?" in caplog.text
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert (read_row(bench).error or "").startswith("UnknownJob: no job named 'send_emial'")


def test_a_claim_that_knows_the_name_clears_the_mark(bench: Bench) -> None:
    """The next time it is unknown, a new quarter of an hour begins."""
    bench.relayq.dispatch("late", job_id="mine", max_attempts=5, backoff=60)
    for _ in range(10):
        assert bench.run("mine").ended is RunOutcome.GIVEN_BACK
        bench.clock.advance(minutes=1)

    @job
    def late() -> None:
        raise ValueError("still starting")

    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert read_row(bench).unknown_since is None
    bench.clock.advance(minutes=1)
    known = registry.swap({})
    for _ in range(15):
        assert bench.run("mine").ended is RunOutcome.GIVEN_BACK
        bench.clock.advance(minutes=1)
    registry.swap(known)
    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert read_row(bench).attempt == 2


def test_failed_is_not_called_where_the_code_is_not_known(bench: Bench, told: list[str]) -> None:
    """There is no code to call."""
    bench.relayq.dispatch("nobody", job_id="mine")
    bench.run("mine")
    bench.clock.advance(minutes=15)
    assert bench.run("mine").ended is RunOutcome.FAILED
    assert told == ["dispatched", "failed"]


def test_nothing_is_imported_or_built_by_a_name_found_in_data(bench: Bench) -> None:
    """An attacker who can write the table could run anything."""
    for name in ("os.system", "builtins.exit", "__class__", "Job"):
        bench.relayq.dispatch(name, job_id="mine")
        assert bench.run("mine").ended is RunOutcome.GIVEN_BACK
        del bench.store.jobs["mine"]


# --- progress ---


def test_progress_is_written_at_most_every_two_seconds(bench: Bench) -> None:
    """A handler may call it in a loop of a million rows; the first and the last always count."""
    written: list[tuple[float, bool]] = []

    @job
    def export(context: JobContext) -> None:
        for percent in range(0, 101, 10):
            written.append((percent / 100, context.progress(percent / 100, f"{percent} %")))
            bench.clock.advance(seconds=0.5)
        assert read_row(bench).progress == {"fraction": 1.0, "note": "100 %"}

    bench.relayq.dispatch(export, job_id="mine")
    next_run(bench)
    assert [fraction for fraction, was in written if was] == [0.0, 0.4, 0.8, 1.0]
    assert read_row(bench).progress == {"fraction": 1.0, "note": "100 %"}


def test_progress_raises_when_the_lease_is_lost(bench: Bench) -> None:
    """It may stop: what it does is not wanted any more."""
    answers: list[bool] = []

    @job(backoff=0)
    def export(context: JobContext) -> None:
        answers.append(context.progress(0.1))
        bench.clock.advance(minutes=20)
        bench.sweep()
        answers.append(context.progress(0.2))

    bench.relayq.dispatch(export, job_id="mine")
    assert bench.run("mine").ended is RunOutcome.LEASE_LOST
    assert answers == [True, False]


def test_progress_that_cannot_be_written_does_not_fail_the_job(caplog: pytest.LogCaptureFixture) -> None:
    """It is a courtesy."""
    bench = FaultyBench()

    @job
    def export(context: JobContext) -> None:
        assert context.progress(0.1) is False

    bench.relayq.dispatch(export, job_id="mine")
    bench.faults["save_progress"] = ["unsent"]
    assert bench.run("mine").ended is RunOutcome.COMPLETED
    assert "progress was not kept" in caplog.text


def test_progress_is_a_fraction(bench: Bench) -> None:
    """Fifty per cent is 0.5: the sentence says so."""

    @job(max_attempts=1)
    def export(context: JobContext) -> None:
        context.progress(50)

    bench.relayq.dispatch(export, job_id="mine")
    assert next_run(bench) is RunOutcome.FAILED
    assert "InvalidOption: progress: expected a fraction from 0 to 1, got 50" in (read_row(bench).error or "")


# --- queues and retries ---


def test_a_retry_is_handed_to_the_runner_of_its_queue(bench: Bench) -> None:
    """A queue may have a function of its own."""

    @job(queue="reports", backoff=5)
    def report() -> None:
        raise ValueError

    bench.relayq.dispatch(report, job_id="mine")
    bench.handoff.offers.clear()
    bench.run("mine")
    assert bench.handoff.offers == [Offer("mine", "reports", NOW + 5 * SECOND)]


def test_a_retry_whose_handoff_fails_is_the_sweepers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The row waits in the index all the same."""

    @job(backoff=5)
    def flaky() -> None:
        raise ValueError

    bench.relayq.dispatch(flaky, job_id="mine")
    bench.handoff.offers.clear()
    bench.handoff.error = RuntimeError("throttled")
    assert bench.run("mine").ended is RunOutcome.RETRYING
    assert read_row(bench).due_at == NOW + 35 * SECOND
    assert "the sweeper will start the job" in caplog.text


def test_no_log_line_and_no_stored_error_shows_the_payload(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A payload may hold what only the handler is to see."""
    caplog.set_level(logging.DEBUG)

    class Login(Job, max_attempts=2, backoff=0):
        password: str

        def handle(self) -> None:
            raise ValueError("wrong")

        def failed(self, error: BaseException) -> None:
            Login.model_validate({"password": {self.password: 1}})

    bench.relayq.dispatch(Login(password="hunter2"), job_id="mine")
    next_run(bench)
    next_run(bench)
    assert "hunter2" in bench.store.failures["mine"].payload_json
    assert "hunter2" not in caplog.text
    assert "hunter2" not in json.dumps([bench.store.failures["mine"].error, bench.store.failures["mine"].errors])


# --- time ---


class Bound:
    """A stop that only notes whether the code that runs is inside of it, and what it was given."""

    def __init__(self) -> None:
        self.inside = False
        self.seconds: list[float] = []
        self.last_words: list[Callable[[], object]] = []

    @contextmanager
    def __call__(
        self, seconds: float, *, patience: float, last_words: Callable[[], object] = lambda: None
    ) -> Iterator[None]:
        self.seconds.append(seconds)
        self.last_words.append(last_words)
        self.inside = True
        try:
            yield
        finally:
            self.inside = False


def bound_runner(bench: Bench, bound: Bound, events: Events) -> Runner:
    """A runner that is stopped by this."""
    relayq = bench.relayq
    return Runner(relayq.store, relayq.handoff, relayq.clock, relayq.policy, registry, events, deadline=bound)


@pytest.mark.parametrize("exhausted", [False, True])
def test_all_code_that_is_not_relayqs_runs_inside_a_bound_before_the_settle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, exhausted: bool
) -> None:
    """A listener, a from_payload() that asks a database, failed(): whatever takes long would outlive the lease."""
    bound, events = Bound(), Events()
    seen: dict[str, bool] = {}
    events.on("started")(lambda event: seen.setdefault("listener", bound.inside))

    class Ask(Job, max_attempts=1):
        def to_payload(self) -> dict[str, str]:
            return {}

        @classmethod
        def from_payload(cls, data: dict[str, str]) -> Ask:
            seen["from_payload"] = bound.inside
            return cls()

        def handle(self) -> None:
            seen["handle"] = bound.inside
            raise ValueError("no")

        def failed(self, error: BaseException) -> None:
            seen["failed"] = bound.inside

    bench.relayq.dispatch(Ask(), job_id="mine")
    if exhausted:
        bench.store.jobs["mine"] = bench.store.jobs["mine"].evolve(exhausted=True, attempt=1)
    bound_runner(bench, bound, events).run("mine", None, lambda: 900_000)
    expected = {"from_payload", "failed"} if exhausted else {"listener", "from_payload", "handle", "failed"}
    assert seen == dict.fromkeys(expected, True)


def test_what_its_listeners_take_is_taken_from_the_handlers_time(bench: Bench) -> None:
    """Its lease was made for the timeout alone."""
    bound, events = Bound(), Events()
    events.on("started")(lambda event: bench.clock.advance(seconds=30))
    left: list[float] = []

    @job(timeout=60)
    def slow(context: JobContext) -> None:
        left.append(context.remaining())

    bench.relayq.dispatch(slow.job(), job_id="mine")
    ran = bound_runner(bench, bound, events).run("mine", None, lambda: 900_000)
    assert (ran.ended, bound.seconds, left) == (RunOutcome.COMPLETED, [60], [30])


def test_a_handler_whose_listeners_have_used_up_its_time_does_not_begin(bench: Bench) -> None:
    """What a listener raises is swallowed, and so is JobTimeout in it."""
    bound, events = Bound(), Events()
    events.on("started")(lambda event: bench.clock.advance(seconds=60))
    began: list[int] = []

    @job(timeout=60, max_attempts=1)
    def slow() -> None:
        began.append(1)

    bench.relayq.dispatch(slow.job(), job_id="mine")
    ran = bound_runner(bench, bound, events).run("mine", None, lambda: 900_000)
    assert (ran.ended, began) == (RunOutcome.FAILED, [])
    assert (read_row(bench).error or "").startswith("JobTimeout: ")


def test_failed_has_no_more_time_than_the_invocation(bench: Bench) -> None:
    """Some of it stays for the burial."""
    bound = Bound()

    class Failing(Job, timeout=600, max_attempts=1):
        def handle(self) -> None:
            raise OSError("away")

        def failed(self, error: BaseException) -> None: ...

    bench.relayq.dispatch(Failing(), job_id="mine")
    assert bound_runner(bench, bound, Events()).run("mine", None, lambda: 30_000).ended is RunOutcome.FAILED
    assert bound.seconds == [20, 27]


def test_a_job_that_had_no_time_to_be_built_hears_in_failed_that_it_failed_for_good(bench: Bench) -> None:
    """Its listeners have used up its time: that keeps it from its handler, and not from failed()."""
    bound, events = Bound(), Events()
    events.on("started")(lambda event: bench.clock.advance(seconds=60))
    heard: list[BaseException] = []

    class Slow(Job, timeout=60, max_attempts=1):
        def handle(self) -> None: ...

        def failed(self, error: BaseException) -> None:
            heard.append(error)

    bench.relayq.dispatch(Slow(), job_id="mine")
    assert bound_runner(bench, bound, events).run("mine", None, lambda: 900_000).ended is RunOutcome.FAILED
    assert [type(error) for error in heard] == [JobTimeout]


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_last_words_of_a_handler_that_will_not_stop_say_why_it_was_ended(bench: Bench, attempts: int) -> None:
    """No other handler begins before the lease of this one would have run out: it still runs at that moment."""
    bound, events = Bound(), Events()
    told: list[str] = []

    class Stubborn(Job, timeout=60, max_attempts=attempts, backoff=0):
        def handle(self) -> None:
            if not told:
                bench.clock.advance(seconds=65)
                bound.last_words[0]()
                told.append("")
                raise SystemExit

        def failed(self, error: BaseException) -> None:
            told.append(str(error))

    bench.relayq.dispatch(Stubborn(), job_id="mine")
    bench.handoff.offers.clear()
    lease_ends = NOW + 70 * SECOND
    ran = bound_runner(bench, bound, events).run("mine", None, lambda: 900_000)
    assert ran.ended is RunOutcome.LEASE_LOST, "what it does afterwards counts no more"
    record = read_row(bench)
    why = "the runner of attempt 1 was ended: its handler overran its time of 60 s and did not stop"
    assert record.error == f"JobCrashed: {why}"
    assert (record.status, record.attempt, record.exhausted) == (Status.RETRYING, 1, attempts == 1)
    assert record.available_at >= lease_ends
    assert record.due_at == record.available_at
    assert bench.handoff.offers == []
    bench.clock.advance(seconds=10)
    ended = bench.run("mine", 0).ended
    assert ended is (RunOutcome.FAILED if attempts == 1 else RunOutcome.COMPLETED)
    assert (told[-1] == why) is (attempts == 1), "failed() hears the same"


def test_failed_ends_before_its_lease_so_that_the_burial_is_its_runners(bench: Bench) -> None:
    """Else another runner would call failed() again: a fifth of the grace is kept for writing it down."""
    bound = Bound()

    class Slow(Job, timeout=60, max_attempts=1):
        def handle(self) -> None:
            bench.clock.advance(seconds=58)
            raise ValueError("no")

        def failed(self, error: BaseException) -> None:
            pass

    bench.relayq.dispatch(Slow(), job_id="mine")
    bound_runner(bench, bound, Events()).run("mine", None, lambda: 900_000)
    assert bound.seconds == [60, 70 - 58 - 2]


def test_what_an_alarm_of_the_caller_raises_is_the_callers(bench: Bench) -> None:
    """pytest-timeout stops a test in a handler: that is no failure of the job, but of the test."""

    @job(max_attempts=1)
    def hang() -> None:
        time.sleep(100)

    class Stopped(BaseException):
        pass

    def ring(signum: int, frame: object) -> None:
        raise Stopped

    bench.relayq.dispatch(hang.job(), job_id="mine")
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0.05)
    earlier = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(Stopped):
            bench.run("mine", 0)
    finally:
        signal.signal(signal.SIGALRM, earlier)
        signal.setitimer(signal.ITIMER_REAL, left, interval)
    assert read_row(bench).status is Status.PROCESSING
