"""Run: what a handler has of time, and how it is stopped when that is over."""

from __future__ import annotations

import asyncio
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

from relayq_core import Job, JobContext, JobTimeout, job
from relayq_core.engine.results import RunOutcome
from relayq_core.engine.runner import Runner
from relayq_core.events.listeners import Events
from relayq_core.jobs.registry import registry
from relayq_core.model.record import Status
from relayq_core.process.budget import seconds_left
from relayq_core.testing import Bench
from tests.stories.running import SECOND, next_run
from tests.support.factories import NOW
from tests.support.rows import read_row

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


def test_a_settle_may_be_repeated_while_its_invocation_lasts_even_after_its_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner that was frozen past its lease learns from the refusal that it lost the job."""

    @job(timeout=5)
    def quick() -> None: ...

    budgets: list[float] = []
    settle = bench.store.settle

    def note(*args: Any) -> Any:
        budgets.append(seconds_left())
        return settle(*args)

    monkeypatch.setattr(bench.store, "settle", note)
    job_id = bench.relayq.dispatch(quick).job_id
    bench.run(job_id, seconds=100)
    assert len(budgets) == 1
    assert 90 < budgets[0] <= 100


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
