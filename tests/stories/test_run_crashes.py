"""Run: runners that die, and names whose code is not there; the job ends somewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relayq_core import Job, StoreError, job
from relayq_core.engine.results import RunOutcome
from relayq_core.errors import JobCrashed
from relayq_core.jobs.registry import registry
from relayq_core.model.leases import Lease
from relayq_core.model.record import JobRecord, Status
from relayq_core.ports import Answer
from relayq_core.testing import Bench
from tests.stories.running import MINUTE, next_run
from tests.support.factories import NOW, a_job
from tests.support.faulty_bench import Fault, FaultyBench
from tests.support.rows import read_row

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
