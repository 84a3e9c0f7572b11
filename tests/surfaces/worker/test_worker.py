"""The worker on fakes: what it takes, how long it holds it, and what becomes of it, with a clock set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from relayq_core import Job, Status, job
from relayq_core.errors import StoreError, StoreUnavailable
from relayq_core.events.listeners import events
from relayq_core.model.leases import RENEWED_MS
from relayq_core.model.record import JobRecord
from relayq_core.process.deadline import STUBBORN_EXIT
from relayq_core.process.fuse import OVERRUN_SIGNAL
from relayq_core.testing import Bench
from relayq_core.worker.child import Report
from relayq_core.worker.pool import ProcessExit, ProcessStartFailed, Slot
from relayq_core.worker.worker import Worker, WorkerEvent
from tests.support.factories import a_lease
from tests.support.faulty_bench import FaultyBench
from tests.support.rows import read_row
from tests.support.slots import HOUR, FakeSlot, FakeSlots


def worker(
    bench: Bench, slots: FakeSlots, *, stopping: Callable[[], int] = lambda: 0, told: list[str] | None = None
) -> Worker:
    """Make a worker on the bench; its news are appended to `told`."""

    def tell(news: WorkerEvent) -> None:
        if told is not None:
            told.append(f"{news.what} {news.job.id}")

    relayq = bench.relayq
    return Worker(
        relayq,
        slots,
        stopping=stopping,
        notify=tell,
    )


def define_greet() -> list[str]:
    """A job that notes whom it greeted."""
    greeted: list[str] = []

    @job(max_attempts=3, backoff=10)
    def greet(name: str = "Ada") -> str:
        greeted.append(name)
        return f"Hello, {name}!"

    return greeted


def alone() -> Bench:
    """There are no handoffs: the worker is all there is."""
    return Bench(handoff="none")


def test_a_worker_runs_what_is_due_and_leaves_after_max_jobs() -> None:
    """Claimed, performed and settled as by a runner."""
    greeted = define_greet()
    bench = alone()
    ids = [bench.relayq.dispatch("greet", {"name": name}).job_id for name in ("Ada", "Bob", "Eve")]
    told: list[str] = []
    counts = worker(bench, FakeSlots(bench), told=told).work(most=2)
    assert counts == {"completed": 2}
    assert len(greeted) == 2
    assert [what.split()[0] for what in told] == ["started", "completed"] * 2
    statuses = sorted(read_row(bench, job_id).status for job_id in ids)
    assert statuses == [Status.COMPLETED, Status.COMPLETED, Status.PENDING]


def test_once_it_leaves_when_nothing_is_due() -> None:
    """A job that waits for its time is not due."""
    greeted = define_greet()
    bench = alone()
    bench.relayq.dispatch("greet", delay=600)
    assert worker(bench, FakeSlots(bench)).work(once=True, most=1) == {}
    assert greeted == []


def test_queues_go_in_the_order_in_which_they_are_named() -> None:
    """However long the others have waited; queues that are not named are left alone."""
    greeted = define_greet()
    bench = alone()
    for name, queue in (("low", "low"), ("high", "high"), ("other", "other")):
        bench.relayq.dispatch("greet", {"name": name}, queue=queue)
        bench.clock.advance(seconds=1)
    worker(bench, FakeSlots(bench)).work(["high", "low"], most=2)
    assert greeted == ["high", "low"]


def test_a_delayed_job_starts_within_a_second_of_its_time() -> None:
    """That is the longest pause between two polls."""
    greeted = define_greet()
    bench = alone()
    began = bench.clock.now()
    bench.relayq.dispatch("greet", delay=3600)
    worker(bench, FakeSlots(bench)).work(most=1)
    assert greeted == ["Ada"]
    assert HOUR <= bench.clock.now() - began <= HOUR + 2_000


def test_an_idle_worker_asks_the_index_once_a_second() -> None:
    """Eight queries for each queue, and hardly ever what queues there are."""
    bench = FaultyBench(handoff="none")
    bench.relayq.dispatch("greet", delay=3600)
    asked = bench.faulty.calls
    asked.clear()
    ends = bench.clock.now() + 60_000
    worker(bench, FakeSlots(bench), stopping=lambda: int(bench.clock.now() >= ends)).work()
    assert 60 * 8 <= asked.count("list_due") <= 66 * 8
    assert asked.count("list_queues") == 4


def test_beside_runners_a_worker_takes_what_no_runner_took_in_time() -> None:
    """A job that was handed off is a runner's, until STALE has passed."""
    greeted = define_greet()
    bench = Bench()
    began = bench.clock.now()
    bench.relayq.dispatch("greet")
    worker(bench, FakeSlots(bench)).work(most=1)
    assert greeted == ["Ada"]
    assert bench.clock.now() - began >= 30_000


# --- leases ---


def test_a_long_job_keeps_its_lease_and_is_not_met_again() -> None:
    """Two hours, with a timeout far shorter than its lease would have been; the sweeper finds nothing to release."""
    define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet", timeout=3 * 3600).job_id
    slots = FakeSlots(bench, lasts={"greet": 2 * HOUR})
    swept: list[int] = []

    def stopping() -> int:
        record = read_row(bench, job_id)
        if record.status is Status.PROCESSING:
            assert (record.lease_until or 0) > bench.clock.now()
            assert (record.lease_until or 0) <= bench.clock.now() + RENEWED_MS + 10_000
            swept.append(bench.relayq.sweeper.sweep(lambda: 60_000).counts["released"])
        return 0

    assert worker(bench, slots, stopping=stopping).work(most=1) == {"completed": 1}
    assert set(swept) == {0}
    assert read_row(bench, job_id).attempt == 1


def test_a_job_without_a_timeout_is_not_stopped_when_its_first_lease_would_end() -> None:
    """Its handler's deadline is the job's, not the lease's: that is renewed."""
    bench = alone()
    left: list[float] = []

    class Long(Job):
        def handle(self, context) -> None:  # type: ignore[no-untyped-def]
            left.append(context.remaining())

    bench.relayq.dispatch(Long())
    worker(bench, FakeSlots(bench)).work(most=1)
    assert left[0] > 3000


def test_who_loses_its_lease_ends_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    """Another runner has the job: to go on would be to work beside it."""
    define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet").job_id
    slots = FakeSlots(bench, lasts={"greet": HOUR})

    def stopping() -> int:
        record = bench.store.jobs[job_id]
        if record.status is Status.PROCESSING and record.lease_id != "another's":
            bench.store.jobs[job_id] = record.evolve(lease_id="another's")
        return int(slots.slots[0].kills > 0)

    assert worker(bench, slots, stopping=stopping).work() == {"lease lost": 1}
    assert slots.slots[0].kills == 1
    assert read_row(bench, job_id).lease_id == "another's"


def test_who_cannot_renew_a_lease_ends_the_handler_before_it_is_over() -> None:
    """DynamoDB is away: from the end of the lease on another runner may run the job."""
    define_greet()
    bench = FaultyBench(handoff="none")
    job_id = bench.relayq.dispatch("greet").job_id
    slots = FakeSlots(bench, lasts={"greet": HOUR})
    bench.faults["renew_lease"] = ["unsent"] * 1000
    ended: list[int] = []

    def stopping() -> int:
        if slots.slots[0].kills and not ended:
            ended.append(bench.clock.now())
        return int(bool(ended))

    assert worker(bench, slots, stopping=stopping).work() == {"lease lost": 1}
    assert ended[0] <= (bench.store.jobs[job_id].lease_until or 0) - 2_000
    assert bench.faulty.calls.count("renew_lease") > 5


def test_a_call_that_takes_long_never_lets_a_handler_outlive_its_lease() -> None:
    """Each unanswered call may take as long as all tries of the SDK, and there is one for each job in hand."""
    define_greet()
    bench = FaultyBench(handoff="none")
    for _ in range(4):
        bench.relayq.dispatch("greet", timeout=600)
    slots = FakeSlots(bench, count=4, lasts={"greet": HOUR})
    store = bench.faulty

    def slow_heartbeat(*args: object) -> bool:
        bench.clock.sleep(24_000)
        raise StoreUnavailable("UpdateItem", "a test")

    store.renew_lease = slow_heartbeat  # type: ignore[attr-defined]
    late: list[int] = []
    kill = FakeSlot.kill

    def killing(slot: FakeSlot) -> None:
        record = min(row.lease_until or 0 for row in bench.store.jobs.values())
        late.append(bench.clock.now() - record)
        kill(slot)

    for slot in slots.slots:
        slot.kill = killing.__get__(slot)  # type: ignore[method-assign]
    counts = worker(bench, slots, stopping=lambda: int(len(late) == 4)).work()
    assert counts == {"lease lost": 4}
    assert max(late) <= -2_000


def test_an_index_that_answers_slowly_never_lets_a_handler_outlive_its_lease() -> None:
    """A worker with a free process looks for more, while it holds a job: eight shards, each of which may take long."""
    define_greet()
    bench = FaultyBench(handoff="none")
    bench.relayq.dispatch("greet", timeout=600)
    slots = FakeSlots(bench, count=2, lasts={"greet": HOUR})
    store, due = bench.faulty, bench.store.list_due

    def slow_due(*args: Any) -> Any:
        if slots.slots[0].job is not None:
            bench.clock.sleep(24_000)
        return due(*args)

    store.list_due = slow_due  # type: ignore[attr-defined]
    late: list[int] = []

    def killing() -> None:
        (record,) = bench.store.jobs.values()
        late.append(bench.clock.now() - (record.lease_until or 0))

    slots.slots[0].kill = killing  # type: ignore[method-assign]
    assert worker(bench, slots, stopping=lambda: int(bool(late))).work() == {"lease lost": 1}
    assert late[0] <= -2_000


def test_a_process_is_kept_as_long_as_its_lease_and_no_longer() -> None:
    """The watchdog may rely on nothing else: the worker itself may be stopped."""
    define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet", timeout=3 * 3600).job_id
    slots = FakeSlots(bench, lasts={"greet": HOUR})
    kept: set[int] = set()

    def stopping() -> int:
        record = read_row(bench, job_id)
        if record.status is Status.PROCESSING:
            assert slots.slots[0].kept_until == (record.lease_until or 0) - 2_000
            kept.add(slots.slots[0].kept_until)
        return 0

    assert worker(bench, slots, stopping=stopping).work(most=1) == {"completed": 1}
    assert len(kept) >= HOUR / 20_000 - 1


def test_a_claim_that_was_answered_late_is_renewed_the_sooner() -> None:
    """Its lease began when it was asked for."""
    define_greet()
    bench = FaultyBench(handoff="none")
    bench.relayq.dispatch("greet", timeout=600)
    slots = FakeSlots(bench, lasts={"greet": 120_000})
    store, claim = bench.faulty, bench.store.claim

    def slow_claim(*args: Any) -> Any:
        answer = claim(*args)
        bench.clock.sleep(24_000)
        return answer

    store.claim = slow_claim  # type: ignore[attr-defined]
    assert worker(bench, slots).work(most=1) == {"completed": 1}


def test_a_claim_that_was_answered_when_its_lease_was_over_starts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Another may have run the job by then, and completed it."""
    greeted = define_greet()
    bench = FaultyBench(handoff="none")
    job_id = bench.relayq.dispatch("greet", timeout=600).job_id
    store, claim = bench.faulty, bench.store.claim
    late = [100_000]

    def slow_claim(*args: Any) -> Any:
        answer = claim(*args)
        bench.clock.sleep(late.pop() if late else 0)
        return answer

    store.claim = slow_claim  # type: ignore[attr-defined]
    assert worker(bench, FakeSlots(bench)).work(most=1) == {"completed": 1}
    assert "the claim was answered too late" in caplog.text
    assert (greeted, read_row(bench, job_id).attempt) == (["Ada"], 2)


def test_an_exception_gives_back_what_is_held() -> None:
    """A process that cannot start, or a defect: the leases of what runs would not be renewed."""
    define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet").job_id
    slots = FakeSlots(bench, lasts={"greet": HOUR})
    heard = slots.collect

    def failing(seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | ProcessExit]]:
        if bench.clock.now() > (read_row(bench, job_id).started_at or 0) + 5_000:
            raise ProcessStartFailed("a bad deploy")
        return heard(seconds)

    slots.collect = failing  # type: ignore[method-assign]
    with pytest.raises(ProcessStartFailed):
        worker(bench, slots).work()
    record = read_row(bench, job_id)
    assert (record.status, record.attempt, slots.slots[0].kills) == (Status.RETRYING, 0, 1)


def test_a_worker_whose_output_is_closed_finishes_and_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """`relayq work --json | head -1`: the job in hand is done all the same."""
    greeted = define_greet()
    bench = alone()
    for name in ("Ada", "Bob"):
        bench.relayq.dispatch("greet", {"name": name})

    def tell(news: WorkerEvent) -> None:
        raise BrokenPipeError

    slots = FakeSlots(bench)
    made = worker(bench, slots)
    made._notify = tell
    assert made.work() == {"completed": 1}
    assert len(greeted) == 1
    assert caplog.text.count("the worker's output cannot be written") == 1


# --- what dies ---


def test_a_handler_that_kills_its_process_costs_an_attempt_at_once() -> None:
    """The worker does not wait for the lease to run out: it knows."""
    define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet").job_id
    assert worker(bench, FakeSlots(bench, dies={"greet"})).work(most=1) == {"crashed": 1}
    record = read_row(bench, job_id)
    assert (record.status, record.attempt) == (Status.RETRYING, 1)
    assert record.available_at == bench.clock.now() + 10_000
    assert "ended without settling" in record.errors[0]["error"]


def test_what_another_worker_left_behind_is_released_and_run() -> None:
    """It polls what the sweeper would look at, so it does the sweeper's work too."""
    greeted = define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet", timeout=5).job_id
    bench.store.claim(job_id, a_lease("dead", now=bench.clock.now()))
    assert worker(bench, FakeSlots(bench)).work(most=1) == {"completed": 1}
    assert (greeted, read_row(bench, job_id).attempt) == (["Ada"], 2)


def test_a_live_lease_of_another_is_left_alone() -> None:
    """The worker looks at it again when it may have run out."""
    greeted = define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet", timeout=600).job_id
    claim = bench.store.claim(job_id, a_lease("another's", now=bench.clock.now())).record
    assert claim is not None
    assert worker(bench, FakeSlots(bench)).work(once=True, most=1) == {}
    assert greeted == []
    assert read_row(bench, job_id).due_at == (claim.lease_until or 0) + 2_000


def test_a_row_that_makes_no_sense_costs_itself() -> None:
    """It is put aside for an hour, and the next one runs."""
    greeted = define_greet()
    bench = alone()
    spoilt = bench.relayq.dispatch("greet", {"name": "spoilt"}).job_id
    bench.store.spoil(spoilt)
    bench.clock.advance(seconds=1)
    bench.relayq.dispatch("greet", {"name": "Ada"})
    assert worker(bench, FakeSlots(bench)).work(most=1) == {"completed": 1}
    assert greeted == ["Ada"]
    assert (bench.store.jobs[spoilt].due_at or 0) >= bench.clock.now() + HOUR - 10_000


def test_tables_that_are_away_for_a_while_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It says so and tries again."""
    greeted = define_greet()
    bench = FaultyBench(handoff="none")
    bench.relayq.dispatch("greet")
    bench.faults["list_due"] = ["unsent", "unsent"]
    bench.faults["claim"] = ["unsent"]
    assert worker(bench, FakeSlots(bench)).work(most=1) == {"completed": 1}
    assert greeted == ["Ada"]
    assert "trying again" in caplog.text


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_what_waiting_does_not_mend_ends_the_worker(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role without the right to look for jobs, say: a worker that goes on would only seem to work."""
    define_greet()
    bench = alone()
    bench.relayq.dispatch("greet")

    def refuse(*_: object) -> None:
        raise StoreError("Query on 'jobs' was denied", "attach WorkerPolicyArn", code=code)

    monkeypatch.setattr(bench.store, "list_due", refuse)
    with pytest.raises(StoreError, match="attach WorkerPolicyArn"):
        worker(bench, FakeSlots(bench)).work()


@pytest.mark.parametrize("call", ["list_due", "claim", "list_queues"])
@pytest.mark.parametrize("once", [False, True])
def test_what_the_tables_refuse_for_good_ends_it(call: str, *, once: bool) -> None:
    """A right that is missing will not come by asking again."""
    define_greet()
    bench = FaultyBench(handoff="none")
    bench.relayq.dispatch("greet")
    bench.faults[call] = ["denied"] * 100
    with pytest.raises(StoreError, match="was denied; grant it"):
        worker(bench, FakeSlots(bench)).work(once=once)
    assert bench.faulty.calls.count(call) == 1


def test_a_right_that_is_taken_away_lets_the_job_in_hand_end() -> None:
    """It can be renewed and settled still."""
    greeted = define_greet()
    bench = FaultyBench(handoff="none")
    bench.relayq.dispatch("greet", {"name": "Ada"})
    slots = FakeSlots(bench, count=2, lasts={"greet": 60_000})

    def stopping() -> int:
        if slots.slots[0].job is not None and not bench.faults["list_due"]:
            bench.faults["list_due"] = ["denied"] * 100
        return 0

    made = worker(bench, slots, stopping=stopping)
    with pytest.raises(StoreError, match="list_due was denied"):
        made.work()
    assert (greeted, made.counts) == (["Ada"], {"completed": 1})


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (STUBBORN_EXIT, "was ended: its handler overran its time and did not stop"),
        (-OVERRUN_SIGNAL, "was ended: its handler overran its time and did not stop"),
        (-9, "ended without settling (its process was ended by SIGKILL)"),
        (3, "ended without settling (its process ended with status 3)"),
    ],
)
def test_how_a_process_ended_is_the_jobs_error(status: int, how: str) -> None:
    """The worker knows: time, memory, or the handler itself."""
    define_greet()
    bench = alone()
    job_id = bench.relayq.dispatch("greet").job_id
    slots = FakeSlots(bench, dies={"greet"}, status=status)
    assert worker(bench, slots).work(most=1) == {"crashed": 1}
    assert read_row(bench, job_id).error == f"JobCrashed: the runner of attempt 1 {how}"


# --- stopping ---


def test_asked_to_stop_it_finishes_what_it_has_in_hand() -> None:
    """It takes nothing more."""
    greeted = define_greet()
    bench = alone()
    for name in ("Ada", "Bob"):
        bench.relayq.dispatch("greet", {"name": name})
    slots = FakeSlots(bench, lasts={"greet": 60_000})
    assert worker(bench, slots, stopping=lambda: int(slots.slots[0].job is not None or bool(greeted))).work() == {
        "completed": 1
    }
    assert len(greeted) == 1


@pytest.mark.parametrize("cancelled", [False, True])
def test_asked_twice_it_ends_the_handlers_and_gives_their_jobs_back_uncounted(*, cancelled: bool) -> None:
    """First the process is gone, then the job is free; one that is to be cancelled is cancelled."""
    define_greet()
    bench = alone()
    ids = [bench.relayq.dispatch("greet").job_id for _ in range(2)]
    slots = FakeSlots(bench, count=2, lasts={"greet": HOUR})
    announced: list[str] = []
    events.on("cancelled")(lambda event: announced.append(event.job.id))
    order: list[str] = []
    settle = bench.store.settle

    def settling(*args):  # type: ignore[no-untyped-def]
        order.append(f"settled after {sum(slot.kills for slot in slots.slots)} kills")
        return settle(*args)

    bench.store.settle = settling  # type: ignore[method-assign]

    def stopping() -> int:
        if all(slot.job for slot in slots.slots):
            if cancelled:
                for job_id in ids:
                    bench.relayq.cancel(job_id)
            return 2
        return 2 if order else 0

    assert worker(bench, slots, stopping=stopping).work() == {"interrupted": 2}
    assert order[0] == "settled after 1 kills"
    for job_id in ids:
        record = read_row(bench, job_id)
        assert record.status is (Status.CANCELLED if cancelled else Status.RETRYING)
        assert record.attempt == (1 if cancelled else 0)
    assert sorted(announced) == (sorted(ids) if cancelled else [])


def test_what_cannot_be_given_back_runs_out_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Its handler is gone all the same."""
    define_greet()
    bench = FaultyBench(handoff="none")
    job_id = bench.relayq.dispatch("greet").job_id
    slots = FakeSlots(bench, lasts={"greet": HOUR})
    bench.faults["settle"] = ["unsent"]
    assert worker(bench, slots, stopping=lambda: 2 if slots.slots[0].job or slots.slots[0].kills else 0).work() == {
        "interrupted": 1
    }
    assert "its lease will run out" in caplog.text
    assert read_row(bench, job_id).status is Status.PROCESSING
