"""Run: claim the job, perform it, settle it; however it ends, failed() is called when it should be."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from relayq_core import Bury, Job, JobContext, RetryAfter, Snooze, job
from relayq_core.engine.results import RunOutcome
from relayq_core.model.record import Status
from relayq_core.testing import Bench
from tests.stories.running import MINUTE, SECOND, next_run
from tests.support.factories import NOW
from tests.support.rows import read_row

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
    assert [offer.run_at for offer in bench.handoff.offers] == [0, NOW + 10 * SECOND, NOW + 70 * SECOND]
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
