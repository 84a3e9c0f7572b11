"""Many jobs in one call: all are checked, each has an outcome, and handoffs are spread over time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from relayq_core import ChainTooDeep, Dispatched, DispatchIncomplete, InvalidPayload, Job, PayloadTooLarge, Status, job
from relayq_core.engine.dispatch_many import BURST
from relayq_core.engine.sweeper import Scope
from relayq_core.errors import DispatchUnknown
from relayq_core.model.record import JobRecord
from relayq_core.process.concurrency import spread_in_threads
from relayq_core.testing import Bench
from tests.support.faulty_bench import FaultyBench
from tests.support.rows import read_row


def define() -> tuple[Any, Any]:
    """A class and a function."""

    class Greet(Job, queue="emails", max_attempts=5):
        name: str

        def handle(self) -> str:
            return f"Hello, {self.name}!"

    @job(queue="parts")
    def part(name: str) -> str:
        return f"Bye, {name}!"

    return Greet, part


def test_jobs_of_every_kind_are_dispatched_in_one_call(bench: Bench, told: list[str]) -> None:
    """Objects, requests, pairs of name or type and arguments; the answers are in their order."""
    Greet, part = define()
    answers = bench.relayq.dispatch_many(
        [
            Greet(name="Ada"),
            part.job(name="Bob").with_options(queue="vip", delay=5),
            ("elsewhere", {"n": 1}),
            (Greet, {"name": "Eve"}),
            ("nothing", None),
        ]
    )
    records = [read_row(bench, answer.job_id) for answer in answers]
    assert [(record.name, record.payload, record.queue) for record in records] == [
        ("Greet", {"name": "Ada"}, "emails"),
        ("part", {"name": "Bob"}, "vip"),
        ("elsewhere", {"n": 1}, "default"),
        ("Greet", {"name": "Eve"}, "emails"),
        ("nothing", {}, "default"),
    ]
    assert all(answer.handed_off for answer in answers)
    assert [offer.job_id for offer in bench.handoff.offers] == [answer.job_id for answer in answers]
    assert told == ["dispatched"] * 5
    assert bench.store.list_queues() == ["default", "emails", "vip"]


def test_none_at_all_is_no_error(bench: Bench) -> None:
    """A list that happened to be empty."""
    assert bench.relayq.dispatch_many([]) == []
    assert bench.relayq.dispatch_many(iter([])) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (("Greet", {"nmae": "Ada"}), InvalidPayload),
        (("elsewhere", {"text": "x" * 300_001}), PayloadTooLarge),
        (("elsewhere", {"thing": {1}}), InvalidPayload),
        (7, TypeError),
        (("Greet", {"name": "Ada"}, "more"), TypeError),
    ],
)
def test_one_wrong_job_is_reported_before_anything_is_written(
    bench: Bench, bad: Any, error: type[Exception], told: list[str]
) -> None:
    """Half a list dispatched would have to be found out and dispatched by hand."""
    Greet, _ = define()
    with pytest.raises(error):
        bench.relayq.dispatch_many([Greet(name="Ada"), bad])
    assert (bench.store.jobs, bench.store.list_queues(), told) == ({}, [], [])


def test_a_chain_ends_for_many_too(bench: Bench) -> None:
    """Their parent is the job whose handler dispatches them."""
    bench = Bench(max_depth=1)
    raised: list[BaseException] = []

    @job
    def fan(left: int) -> None:
        try:
            bench.relayq.dispatch_many([("fan", {"left": left - 1})] * 2)
        except ChainTooDeep as error:
            raised.append(error)

    first = bench.relayq.dispatch("fan", {"left": 2}).job_id
    bench.run(first)
    children = [record for record in bench.store.jobs.values() if record.parent_id == first]
    assert len(children) == 2
    bench.run(children[0].id)
    assert len(raised) == 1


def test_unique_keys_are_honoured(bench: Bench) -> None:
    """Also between jobs of one call: the first wins, in the order of the call."""
    first, second, third = bench.relayq.dispatch_many(
        [
            _request(bench, "greet", unique="k"),
            _request(bench, "greet", unique="k"),
            _request(bench, "greet", unique="other"),
        ]
    )
    assert (first.duplicate, second, third.duplicate) == (
        False,
        Dispatched(first.job_id, duplicate=True, handed_off=False),
        False,
    )


def test_an_id_of_ones_own_is_as_safe_as_ever(bench: Bench) -> None:
    """The same id again is the same job, in either table."""

    @job(max_attempts=1)
    def fail() -> None:
        raise OSError

    ids = ["one", "two"]
    requests = [fail.job().with_options(job_id=job_id) for job_id in ids]
    bench.relayq.dispatch_many(requests)
    bench.run("one")
    again = bench.relayq.dispatch_many(requests)
    assert [answer.job_id for answer in again] == ids
    assert read_row(bench, "one").status is Status.FAILED
    assert list(bench.store.jobs) == ["two"]


def test_the_first_jobs_are_handed_off_and_the_sweeper_starts_the_rest(bench: Bench) -> None:
    """Due once their write is surely over, and not only when they are overdue."""
    answers = bench.relayq.dispatch_many(("greet", {"n": n}) for n in range(BURST + 50))
    assert [answer.handed_off for answer in answers] == [True] * BURST + [False] * 50
    assert len(bench.handoff.offers) == BURST
    bench.handoff.offers.clear()
    assert bench.sweep(Scope()).counts == {}
    bench.clock.advance(seconds=15)
    assert bench.sweep(Scope()).counts == {"nudged": 50}
    assert {offer.job_id for offer in bench.handoff.offers} == {answer.job_id for answer in answers[BURST:]}


def test_a_long_delay_has_no_handoff(bench: Bench) -> None:
    """It does not count for the burst either."""
    later = _request(bench, "greet", delay=3600)
    answers = bench.relayq.dispatch_many([later] * BURST + [("greet", {})])
    assert [answer.handed_off for answer in answers] == [False] * BURST + [True]
    assert read_row(bench, answers[0].job_id).due_at == bench.clock.now() + 3_600_000


def test_ten_thousand_jobs_are_dispatched_and_none_is_lost() -> None:
    """In batches of twenty-five, some at a time."""
    bench = FaultyBench()
    batches: list[int] = []
    lock = threading.Lock()
    add_many = bench.faulty._store.add_many

    def counting(records: list[JobRecord]) -> list[bool]:
        with lock:
            batches.append(len(records))
        return add_many(records)

    bench.faulty._store.add_many = counting  # type: ignore[method-assign,assignment]
    bench.relayq._spreading = spread_in_threads
    answers = bench.relayq.dispatch_many(("greet", {"n": n}) for n in range(10_000))
    assert batches == [25] * 400
    assert [bench.store.jobs[answer.job_id].payload["n"] for answer in answers] == list(range(10_000))
    assert len(bench.handoff.offers) == BURST
    assert bench.faulty.calls.count("add") == 0
    bench.clock.advance(minutes=1)
    assert bench.sweep(Scope()).counts["nudged"] == 10_000


# --- what goes wrong ---


def test_a_batch_that_was_not_answered_is_put_one_by_one(told: list[str]) -> None:
    """Each then recognises its own first try, or is written: which of both is unknown, and does not matter."""
    bench = FaultyBench()
    answers = iter([[True, False], [False, False]])
    add_many = bench.faulty._store.add_many

    def forgetting(records: list[JobRecord]) -> list[bool]:
        written = next(answers)
        add_many(records)
        return written

    bench.faulty._store.add_many = forgetting  # type: ignore[method-assign,assignment]
    dispatched = bench.relayq.dispatch_many([("greet", {"n": 1}), ("greet", {"n": 2})])
    assert len({answer.job_id for answer in dispatched}) == len(bench.store.jobs) == 2
    assert not any(answer.duplicate for answer in dispatched)
    assert told == ["dispatched"] * 2


def test_one_that_has_failed_before_its_batch_was_answered_does_not_reset(told: list[str]) -> None:
    """An answer may be lost for seconds: its tries are spent, and it stands in the failed table."""
    bench = FaultyBench()
    add_many = bench.faulty._store.add_many

    def late(records: list[JobRecord]) -> list[bool]:
        assert add_many(records) == [True]
        bench.run(records[0].id)
        return [False]

    bench.faulty._store.add_many = late  # type: ignore[method-assign,assignment]

    @job(max_attempts=1)
    def charge() -> None:
        raise ValueError("no money")

    (dispatched,) = bench.relayq.dispatch_many([("charge", {})])
    assert not dispatched.handed_off
    assert bench.store.get_failed(dispatched.job_id) is not None
    assert bench.store.get(dispatched.job_id) is None


def test_a_job_that_cannot_be_looked_for_is_unknown() -> None:
    """It may be written, so that it is not said to be refused."""
    bench = FaultyBench()
    bench.faulty._store.add_many = lambda records: [False] * len(records)  # type: ignore[method-assign]
    bench.faults["get_failed"] = ["unsent"]
    with pytest.raises(DispatchIncomplete) as incomplete:
        bench.relayq.dispatch_many([("greet", {})])
    assert [type(outcome) for outcome in incomplete.value.outcomes] == [DispatchUnknown]


def test_a_batch_accepted_in_part_raises_with_an_outcome_for_each_job() -> None:
    """The others are on their way; what is unknown can be dispatched again with its id."""
    bench = FaultyBench()
    bench.faulty._store.add_many = lambda records: [False] * len(records)  # type: ignore[method-assign]
    bench.faults["add"] = ["denied", "lost"]
    bench.faults["get"] = ["unsent"]
    with pytest.raises(DispatchIncomplete, match="2 of 3 jobs may not have been accepted") as incomplete:
        bench.relayq.dispatch_many([("greet", {"n": n}) for n in range(3)])
    denied, unknown, accepted = incomplete.value.outcomes
    assert "denied" in str(denied)
    assert isinstance(unknown, DispatchUnknown)
    assert isinstance(accepted, Dispatched)
    again = bench.relayq.dispatch("greet", {"n": 1}, job_id=unknown.job_id)
    assert not again.duplicate
    assert len(bench.store.jobs) == 2


def test_a_batch_whose_handoffs_fail_loses_nothing(bench: Bench) -> None:
    """As with one job."""
    bench.handoff.error = OSError("no runner")
    answers = bench.relayq.dispatch_many([("greet", {})] * 3)
    assert [answer.handed_off for answer in answers] == [False] * 3
    bench.handoff.error = None
    bench.clock.advance(seconds=31)
    assert bench.sweep(Scope()).counts == {"nudged": 3}


def _request(bench: Bench, name: str, **options: Any) -> Any:
    from relayq_core import JobRequest

    return JobRequest(name, "{}").with_options(**options)
