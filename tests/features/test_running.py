"""Rows 26 to 37 and what belongs to them: a job's states, its runs, its failures, and the events about them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relayq_core import Job, JobContext, JobEvent, Status, dispatch, job, on
from relayq_core.engine.results import RunOutcome
from relayq_core.engine.sweeper import Scope
from relayq_core.testing import Bench
from tests.support.factories import a_lease
from tests.support.rows import read_row


def test_row_26_a_job_is_pending_processing_retrying_completed_failed_or_cancelled(bench: Bench) -> None:
    """Its row says since when, and with which error."""
    seen: list[Status] = []

    @job(max_attempts=2, backoff=0)
    def stumble(fatal: bool) -> None:
        seen.append(read_row(bench, job_id).status)
        if fatal or len(seen) < 3:
            raise OSError("no")

    job_id = bench.relayq.dispatch(stumble.job(fatal=False)).job_id
    seen.append(read_row(bench, job_id).status)
    bench.run(job_id)
    waiting = read_row(bench, job_id)
    assert (waiting.status, waiting.updated_at) == (Status.RETRYING, bench.clock.now())
    bench.run(job_id)
    assert seen == [Status.PENDING, Status.PROCESSING, Status.PROCESSING]
    assert read_row(bench, job_id).status is Status.COMPLETED

    lost = bench.relayq.dispatch(stumble.job(fatal=True), max_attempts=1).job_id
    job_id = lost
    bench.run(lost)
    assert (read_row(bench, lost).status, read_row(bench, lost).error) == (Status.FAILED, read_row(bench, lost).error)
    assert "no" in (read_row(bench, lost).error or "")
    given_up = bench.relayq.dispatch("greet").job_id
    bench.relayq.cancel(given_up)
    assert read_row(bench, given_up).status is Status.CANCELLED


def test_row_27_a_job_is_found_by_its_id_or_is_none(bench: Bench) -> None:
    """Whichever table has it."""

    @job(max_attempts=1)
    def stumble() -> None:
        raise OSError

    job_id = bench.relayq.dispatch(stumble).job_id
    bench.run(job_id)
    assert read_row(bench, job_id).status is Status.FAILED
    assert bench.relayq.get("nobody") is None


def test_row_28_a_claim_is_atomic(bench: Bench) -> None:
    """Of two runners one gets the job, and the other leaves quietly."""
    job_id = bench.relayq.dispatch("greet").job_id
    assert bench.store.claim(job_id, a_lease("first", now=bench.clock.now())).done
    assert not bench.store.claim(job_id, a_lease("second", now=bench.clock.now())).done
    assert bench.run(job_id).ended is RunOutcome.NOT_CLAIMED


def test_row_29_a_claim_that_ran_out_is_released(bench: Bench) -> None:
    """Its lease says when: as long as the job may run, and a grace."""
    job_id = bench.relayq.dispatch("greet", timeout=60, backoff=0).job_id
    bench.store.claim(job_id, a_lease("dead", now=bench.clock.now()))
    bench.clock.advance(seconds=69)
    bench.sweep(Scope())
    assert read_row(bench, job_id).status is Status.PROCESSING
    bench.clock.advance(seconds=4)
    bench.sweep(Scope())
    assert read_row(bench, job_id).status is Status.RETRYING


def test_row_30_the_sweeper_takes_stale_vt_limit_and_queue(bench: Bench) -> None:
    """As `relayq sweep --stale --vt --limit --queue` does; without any, as the schedule does."""
    for queue in ("a", "a", "b"):
        bench.relayq.dispatch("greet", queue=queue)
    bench.handoff.offers.clear()
    bench.clock.advance(seconds=10)
    assert bench.sweep(Scope()).counts == {}
    assert bench.sweep(Scope(stale_ms=10_000, queues=["a"], limit=1)).counts == {"nudged": 1}
    assert bench.sweep(Scope(stale_ms=10_000, queues=["b"])).counts == {"nudged": 1}
    running = bench.relayq.dispatch("greet", queue="c", timeout=1).job_id
    bench.store.claim(running, a_lease("dead", now=bench.clock.now()))
    bench.clock.advance(seconds=60)
    assert bench.sweep(Scope(queues=["c"], claimed_before_ms=120_000)).counts == {"left": 1}
    assert bench.sweep(Scope(queues=["c"], claimed_before_ms=30_000)).counts == {"released": 1}


def test_row_31_what_a_crash_left_behind_is_recovered(bench: Bench) -> None:
    """Any next sweep does it."""
    ran: list[int] = []

    @job(timeout=5, backoff=0)
    def greet() -> None:
        ran.append(1)

    job_id = bench.relayq.dispatch(greet).job_id
    bench.store.claim(job_id, a_lease("dead", now=bench.clock.now()))
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts == {"released": 1}
    bench.run(job_id)
    assert (len(ran), read_row(bench, job_id).status, read_row(bench, job_id).attempt) == (1, Status.COMPLETED, 2)


def test_row_32_a_job_out_of_tries_moves_to_the_failed_table(bench: Bench) -> None:
    """It keeps its error and its payload, in one step; from there it can be brought back."""

    @job(max_attempts=2, backoff=0)
    def stumble(n: int) -> None:
        raise OSError("no paper")

    job_id = bench.relayq.dispatch(stumble.job(n=7)).job_id
    bench.run(job_id)
    assert list(bench.store.failures) == []
    bench.run(job_id)
    failure = bench.store.failures[job_id]
    assert list(bench.store.jobs) == []
    assert (failure.payload, "OSError: no paper" in (failure.error or "")) == ({"n": 7}, True)
    bench.relayq.redrive(job_id)
    assert read_row(bench, job_id).status is Status.PENDING


def test_row_33_failed_is_called_once_the_job_has_failed_for_good(bench: Bench) -> None:
    """It gets the exception; it may dispatch, and what it raises changes nothing."""
    told: list[str] = []

    class Stumble(Job, max_attempts=2, backoff=0):
        def handle(self) -> None:
            raise OSError("no paper")

        def failed(self, error: BaseException) -> None:
            told.append(str(error))
            dispatch("tell_somebody", {"what": "Stumble"})
            raise ValueError("and this too")

    job_id = bench.relayq.dispatch(Stumble()).job_id
    bench.run(job_id)
    assert told == []
    bench.run(job_id)
    assert (told, read_row(bench, job_id).status) == (["no paper"], Status.FAILED)
    assert [child.name for child in bench.store.jobs.values()] == ["tell_somebody"]


@pytest.mark.parametrize("kept", [True, False])
def test_row_34_a_completed_job_is_kept_for_a_while_or_deleted_at_once(kept: bool) -> None:
    """RELAYQ_RETENTION_SECONDS; 0 deletes it."""
    bench = Bench(retention_seconds=3600 if kept else 0)

    @job
    def greet() -> None: ...

    job_id = bench.relayq.dispatch(greet).job_id
    bench.run(job_id)
    assert (bench.relayq.get(job_id) is not None) is kept
    bench.clock.advance(hours=2)
    assert bench.relayq.get(job_id) is None


@pytest.mark.parametrize("raised", [OSError("no"), SystemExit(1), KeyboardInterrupt(), BaseException("odd")], ids=repr)
def test_row_35_one_bad_job_harms_no_other(bench: Bench, raised: BaseException) -> None:
    """The runner answers whatever a handler raises, and the next job runs."""

    @job
    def stumble() -> None:
        raise raised

    @job
    def greet() -> None: ...

    assert bench.run(bench.relayq.dispatch(stumble).job_id).ended is RunOutcome.RETRYING
    assert bench.run(bench.relayq.dispatch(greet).job_id).ended is RunOutcome.COMPLETED


def test_row_36_listeners_hear_of_each_step(bench: Bench) -> None:
    """dispatched, started, processed with its duration, failed with its error and whether it is tried again."""
    told: list[tuple[str, object]] = []

    @on("dispatched")
    def dispatched(event: JobEvent) -> None:
        told.append((event.kind, event.job.queue))

    @on("processed")
    def processed(event: JobEvent) -> None:
        told.append((event.kind, event.duration_ms))

    @on("failed")
    def failed(event: JobEvent) -> None:
        told.append((event.kind, event.will_retry))

    @job(queue="emails", max_attempts=2, backoff=0)
    def greet(fails: bool) -> None:
        bench.clock.sleep(5)
        if fails:
            raise OSError

    for fails in (False, True):
        job_id = bench.relayq.dispatch(greet.job(fails=fails)).job_id
        bench.run(job_id)
        bench.run(job_id)
    assert told == [
        ("dispatched", "emails"),
        ("processed", 5.0),
        ("dispatched", "emails"),
        ("failed", True),
        ("failed", False),
    ]


def test_row_37_a_handler_knows_which_job_and_which_try_it_is(bench: Bench) -> None:
    """id, attempt, queue and how much time is left, read-only."""

    class Greet(Job, queue="emails", timeout=30):
        def handle(self, context: JobContext) -> list[object]:
            with pytest.raises(AttributeError):
                context.attempt = 9  # type: ignore[misc]
            return [context.job_id, context.attempt, context.max_attempts, context.queue, round(context.remaining())]

    job_id = bench.relayq.dispatch(Greet()).job_id
    bench.run(job_id)
    assert read_row(bench, job_id).result == [job_id, 1, 3, "emails", 30]


def test_row_44_there_is_one_clock_and_it_is_utc(bench: Bench) -> None:
    """Epoch milliseconds in every row, from one port; no local time anywhere."""
    job_id = bench.relayq.dispatch("greet", delay=timedelta(hours=1)).job_id
    record = read_row(bench, job_id)
    assert (record.created_at, record.available_at) == (bench.clock.now(), bench.clock.now() + 3_600_000)


def test_row_47_a_handler_has_a_key_that_is_the_same_at_each_try(bench: Bench) -> None:
    """To give to whatever must not happen twice."""
    keys: list[str] = []

    @job(backoff=0)
    def pay(context: JobContext) -> None:
        keys.append(context.idempotency_key)
        if len(keys) == 1:
            raise OSError

    job_id = bench.relayq.dispatch(pay).job_id
    bench.run(job_id)
    bench.run(job_id)
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_row_52_a_job_is_tested_by_calling_it() -> None:
    """A function is a function, a class has its handle and its options."""

    class Greet(Job, max_attempts=5):
        name: str

        def handle(self) -> str:
            return f"Hello, {self.name}!"

    @job
    def part(name: str) -> str:
        return f"Bye, {name}!"

    assert Greet(name="Ada").handle() == "Hello, Ada!"
    assert part("Ada") == "Bye, Ada!"
    request = Greet(name="Ada").with_options(queue="vip")
    assert (request.name, request.options.queue) == ("Greet", "vip")


def test_row_55_a_job_may_dispatch_jobs(bench: Bench) -> None:
    """They know their parent and root, and a chain has an end."""

    @job
    def chain(left: int) -> None:
        if left:
            dispatch("chain", {"left": left - 1})

    first = bench.relayq.dispatch("chain", {"left": 2}).job_id
    ran: list[str] = []
    while waiting := [record for record in bench.store.jobs.values() if record.status is Status.PENDING]:
        ran.append(waiting[0].id)
        bench.run(waiting[0].id)
    second, third = read_row(bench, ran[1]), read_row(bench, ran[2])
    assert ran[0] == first
    assert (second.parent_id, third.parent_id, third.root_id, third.depth) == (first, second.id, first, 2)
