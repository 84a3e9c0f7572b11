"""The test kit: what it records, runs, and lets go wrong, in memory and on moto alike."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from enum import Enum

import pytest

from relayq_core import (
    Bury,
    InvalidPayload,
    Job,
    JobContext,
    Snooze,
    Status,
    UnknownJob,
    cancel,
    dispatch,
    get,
    job,
)
from relayq_core.testing import Kit, fake, inline, perform
from relayq_core.testing.kit import JobsWithoutEnd


class Colour(Enum):
    """An enum, which is text in a payload."""

    RED = "red"


@pytest.fixture(params=["memory", "moto"])
def kit(request: pytest.FixtureRequest) -> Kit:
    """A kit that runs nothing by itself, on either store."""
    found: Kit = request.getfixturevalue("relayq_fake" if request.param == "memory" else "relayq")
    return found


def define_greet() -> list[str]:
    """A job that notes whom it greeted."""
    greeted: list[str] = []

    @job(queue="emails", max_attempts=3, backoff=60, timeout=20)
    def greet(name: str, greeting: str = "Hello") -> str:
        greeted.append(name)
        if name == "Nobody":
            raise LookupError("nobody is here")
        return f"{greeting}, {name}!"

    return greeted


# --- what was dispatched ---


def test_a_dispatch_is_found_by_name_and_some_of_its_arguments(kit: Kit) -> None:
    """It returns the rows, to look at queue, delay and all else."""
    dispatch("greet", {"name": "Ada", "greeting": "Hi"}, queue="vip", delay=60)
    dispatch("greet", {"name": "Bob"})
    (record,) = kit.assert_dispatched("greet", name="Ada")
    assert (record.queue, record.available_at - record.created_at) == ("vip", 60_000)
    assert len(kit.assert_dispatched("greet")) == 2
    assert [record.payload["name"] for record in kit.all_dispatched()] == ["Ada", "Bob"]


def test_a_job_class_a_function_and_a_job_that_was_made_are_found(kit: Kit) -> None:
    """Of one that was made the whole payload is compared."""

    class Part(Job):
        name: str
        at: datetime
        colour: Colour = Colour.RED

        def handle(self) -> None: ...

    define_greet()
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    dispatch(Part(name="Ada", at=moment))
    kit.assert_dispatched(Part, name="Ada", colour=Colour.RED)
    kit.assert_dispatched(Part(name="Ada", at=moment))
    kit.refute_dispatched(Part(name="Ada", at=moment + timedelta(days=1)))
    kit.refute_dispatched(Part, name="Bob")
    with pytest.raises(TypeError, match="leave out the others"):
        kit.all_dispatched(Part(name="Ada", at=moment), name="Ada")


def test_a_failure_says_what_was_dispatched_the_nearest_first(kit: Kit) -> None:
    """A developer should not have to add a print to a test to find that out."""
    define_greet()
    dispatch("tell", {"text": "hi"}, unique="k", unique_for=5)
    dispatch("greet", {"name": "Bob", "greeting": "Hi"})
    dispatch("greet", {"name": "Ada"}, queue="vip", delay=5)
    with pytest.raises(AssertionError) as failure:
        kit.assert_dispatched("greet", name="Ada", greeting="Hi")
    assert str(failure.value).splitlines() == [
        "expected a dispatch of greet(name='Ada', greeting='Hi'); these were dispatched:",
        "  greet(name='Bob', greeting='Hi'), queue='emails'   <- name is 'Bob'",
        "  greet(name='Ada'), queue='vip', delay=5   <- greeting is missing",
        "  tell(text='hi'), queue='default', unique='k'",
    ]


def test_a_failure_of_none_at_all_says_so() -> None:
    """The shortest sentence that helps."""
    with fake() as kit, pytest.raises(AssertionError, match=r"greet\(\), but nothing was dispatched"):
        kit.assert_dispatched("greet")


def test_refuting_fails_with_what_was_dispatched(kit: Kit) -> None:
    """Of that job, or at all."""
    kit.refute_dispatched()
    dispatch("greet", {"name": "Ada"})
    kit.refute_dispatched("tell")
    with pytest.raises(AssertionError, match="expected no dispatch of anything; these were dispatched:\n  greet"):
        kit.refute_dispatched()
    with pytest.raises(AssertionError, match=r"expected no dispatch of greet\(name='Ada'\)"):
        kit.refute_dispatched("greet", name="Ada")


def test_a_job_that_was_made_has_nothing_more() -> None:
    """A field too many is a difference too."""

    @job
    def greet(name: str, greeting: str = "Hello") -> None: ...

    with fake() as kit:
        dispatch("greet", {"name": "Ada", "greeting": "Hi"})
        with pytest.raises(AssertionError, match="greeting='Hi' is there too"):
            kit.assert_dispatched(greet.job(name="Ada"))


def test_a_duplicate_is_not_dispatched(kit: Kit) -> None:
    """It was turned away; and the first's key is held until its time."""
    assert not dispatch("greet", unique="k", unique_for=300).duplicate
    assert dispatch("greet", unique="k", unique_for=300).duplicate
    assert len(kit.all_dispatched()) == 1
    kit.time_travel(minutes=6)
    assert not dispatch("greet", unique="k", unique_for=300).duplicate


# --- running ---


def test_nothing_runs_until_it_is_drained(kit: Kit) -> None:
    """Then what was dispatched by what ran, too."""
    greeted = define_greet()

    @job
    def invite(names: list[str]) -> None:
        for name in names:
            dispatch("greet", {"name": name})

    dispatch(invite.job(names=["Ada", "Bob"]))
    assert greeted == []
    ended = kit.drain()
    assert greeted == ["Ada", "Bob"]
    assert [(record.name, record.status) for record in ended] == [
        ("invite", Status.COMPLETED),
        ("greet", Status.COMPLETED),
        ("greet", Status.COMPLETED),
    ]
    assert kit.drain() == []


def test_what_waits_is_drained_only_if_asked_for(kit: Kit) -> None:
    """A short delay, a long one, and a retry: the time moves on to each."""
    greeted = define_greet()
    began = kit.clock.now()
    for name, delay in (("Ada", 30), ("Bob", 86_400), ("Nobody", 0)):
        dispatch("greet", {"name": name}, delay=delay)
    kit.drain()
    assert greeted == ["Nobody"]
    kit.drain(delayed=True)
    assert greeted == ["Nobody", "Ada", "Nobody", "Nobody", "Bob"]
    assert kit.clock.now() - began == 86_400_000
    assert kit.get(kit.all_dispatched("greet", name="Nobody")[0].id).status is Status.FAILED


def test_jobs_without_an_end_are_a_failure_that_names_them(kit: Kit) -> None:
    """Such a test would never end."""

    @job
    def nap() -> None:
        raise Snooze(60)

    dispatch(nap)
    with pytest.raises(AssertionError, match=r"after 20 runs and sweeps there is still more to do:\n  nap\(\)"):
        kit.drain(delayed=True, limit=20)


def test_a_limit_reads_the_same_where_handoffs_alone_pass_it(kit: Kit) -> None:
    """As an AssertionError, with what is left."""
    define_greet()
    for name in "abcdef":
        dispatch("greet", {"name": name})
    with pytest.raises(AssertionError, match=r"after 5 runs and sweeps there is still more to do:\n  greet"):
        kit.drain(limit=5)


def test_one_job_is_run_and_looked_at(kit: Kit) -> None:
    """By its id; and one that is not there is an error of the test."""
    define_greet()
    job_id = dispatch("greet", {"name": "Ada"}).job_id
    ran = kit.run(job_id)
    assert ran is not None
    assert ran.result == "Hello, Ada!"
    assert kit.get(job_id) == ran == get(job_id)
    with pytest.raises(LookupError, match="there is no job 'nobody'"):
        kit.get("nobody")


def test_cancel_and_get_are_the_kits(kit: Kit) -> None:
    """Code under test calls them as everywhere."""
    job_id = dispatch("greet", delay=600).job_id
    cancelled = cancel(job_id)
    assert cancelled is not None
    assert cancelled.status is Status.CANCELLED
    assert kit.drain(delayed=True) == []


def test_time_travel_lets_the_sweeper_do_its_work(kit: Kit) -> None:
    """A long delay is handed off at its moment; here it then waits to be drained."""
    greeted = define_greet()
    dispatch("greet", {"name": "Ada"}, delay=3_600)
    kit.time_travel(minutes=59)
    kit.drain()
    assert greeted == []
    kit.time_travel(minutes=1)
    kit.drain()
    assert greeted == ["Ada"]


# --- inline ---


def test_inline_a_job_has_run_when_dispatch_answers(relayq_inline: Kit) -> None:
    """Through JSON and the real runner; what a handler dispatches runs after it, as in production."""
    order: list[str] = []

    @job
    def parent() -> None:
        dispatch("child")
        order.append("parent")

    @job
    def child(context: JobContext) -> None:
        order.append("child")

    job_id = dispatch(parent).job_id
    assert order == ["parent", "child"]
    assert relayq_inline.get(job_id).status is Status.COMPLETED
    assert relayq_inline.all_dispatched("child")[0].parent_id == job_id


def test_inline_a_failure_does_not_reach_the_caller(relayq_inline: Kit) -> None:
    """As in production: the row has the error, and it is retried in its time."""
    greeted = define_greet()
    job_id = dispatch("greet", {"name": "Nobody"}).job_id
    record = relayq_inline.get(job_id)
    assert (record.status, record.attempt) == (Status.RETRYING, 1)
    assert "nobody is here" in record.errors[0]["error"]
    relayq_inline.time_travel(seconds=59)
    assert len(greeted) == 1
    relayq_inline.time_travel(seconds=1)
    assert len(greeted) == 2
    relayq_inline.time_travel(minutes=5)
    assert relayq_inline.get(job_id).status is Status.FAILED


def test_the_error_of_a_job_names_the_handlers_cause_alone(relayq_inline: Kit) -> None:
    """A developer who reads it must not be sent to look into the kit."""

    @job(max_attempts=1)
    def fail() -> None:
        raise ConnectionError("the bank does not answer")

    job_id = dispatch(fail.job()).job_id
    assert "while handling" not in str(relayq_inline.get(job_id).error)


@pytest.mark.parametrize("delay", [30, 600])
def test_inline_a_delay_is_waited_for_by_travelling(relayq_inline: Kit, delay: int) -> None:
    """Runner or sweeper starts it at its moment."""
    began = relayq_inline.clock.now()

    @job
    def greet() -> int:
        return relayq_inline.clock.now() - began

    job_id = dispatch(greet, delay=delay).job_id
    relayq_inline.time_travel(hours=1)
    assert relayq_inline.get(job_id).result == delay * 1000
    assert relayq_inline.clock.now() == began + 3_600_000


def test_inline_jobs_without_an_end_are_a_failure(relayq_inline: Kit) -> None:
    """Each dispatches the next: the test fails and says so, instead of hanging."""

    @job
    def again(left: int) -> None:
        if left:
            dispatch("fan", {})

    @job
    def fan() -> None:
        for _ in range(4):
            dispatch(again.job(left=1))

    with pytest.raises(JobsWithoutEnd, match="1000 jobs have run"):
        dispatch(again.job(left=1))


# --- performing ---


def test_perform_gives_back_what_a_handler_returned_or_lets_through_what_it_raised() -> None:
    """It has a context, sync or async; its payload has been through JSON, and nothing was written."""

    class Pay(Job, queue="billing", max_attempts=2):
        cents: int

        async def handle(self, context: JobContext) -> tuple[int, bool, str]:
            if not self.cents:
                raise Bury("nothing to pay")
            assert context.progress(0.5)
            return self.cents, context.is_last_attempt, context.queue

    assert perform(Pay(cents=5)) == (5, False, "billing")
    assert perform(Pay, {"cents": 5}, attempt=2) == (5, True, "billing")
    with pytest.raises(Bury, match="nothing to pay"):
        perform("Pay", {"cents": 0})
    with pytest.raises(InvalidPayload, match="cents"):
        perform("Pay", {"cents": "much"})
    with pytest.raises(UnknownJob):
        perform("nobody", {})


def test_perform_is_the_kits_too(kit: Kit) -> None:
    """Then what the handler dispatches is recorded, and its time is the kit's."""

    @job(timeout=60)
    def tell(context: JobContext, text: str) -> float:
        dispatch("greet", {"name": text})
        return context.remaining()

    assert kit.perform(tell.job(text="Ada")) == 60.0
    kit.assert_dispatched("greet", name="Ada")
    assert len(kit.all_dispatched()) == 1


def test_in_an_async_test_jobs_run_as_elsewhere() -> None:
    """A runner has no loop of its own running, so a job's asyncio.run() must work in a test that has one."""

    @job
    async def greet(name: str) -> str:
        await asyncio.sleep(0)
        return f"Hello, {name}!"

    async def story() -> None:
        with inline() as kit:
            job_id = dispatch(greet.job(name="Ada")).job_id
            assert kit.get(job_id).result == "Hello, Ada!"
            assert kit.perform(greet.job(name="Bob")) == "Hello, Bob!"
            with pytest.raises(InvalidPayload):
                kit.perform("greet", {"nmae": "Bob"})

    asyncio.run(story())


def test_threads_of_the_code_under_test_dispatch_into_the_kit() -> None:
    """The plain functions are the kit's in every thread."""
    greeted = define_greet()
    with fake() as kit:
        threads = [threading.Thread(target=dispatch, args=("greet", {"name": str(n)})) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kit.drain()
    assert sorted(greeted) == [str(n) for n in range(8)]


# --- faults ---


def test_a_handoff_that_arrives_twice_runs_the_job_once(kit: Kit) -> None:
    """The second is refused by the claim."""
    greeted = define_greet()
    kit.deliver_twice()
    job_id = dispatch("greet", {"name": "Ada"}).job_id
    dispatch("greet", {"name": "Bob"})
    kit.drain()
    assert greeted == ["Ada", "Bob"]
    assert kit.get(job_id).attempt == 1


def test_a_handoff_that_is_lost_is_made_good_by_the_sweeper(kit: Kit) -> None:
    """Within a minute or two."""
    greeted = define_greet()
    kit.lose_handoff()
    assert dispatch("greet", {"name": "Ada"}).handed_off
    kit.drain()
    assert greeted == []
    kit.time_travel(minutes=2)
    kit.drain()
    assert greeted == ["Ada"]


@pytest.mark.parametrize(("when", "starts"), [("after", 2), ("before", 1)])
def test_a_runner_that_dies_costs_an_attempt_and_no_job(kit: Kit, when: str, starts: int) -> None:
    """After its handler's work that work is done again: the moment for which handlers must be safe to repeat."""
    greeted = define_greet()
    job_id = dispatch("greet", {"name": "Ada"}).job_id
    kit.crash_runner(when)  # type: ignore[arg-type]
    kit.drain()
    assert kit.get(job_id).status is Status.PROCESSING
    kit.drain(delayed=True)
    record = kit.get(job_id)
    assert (record.status, record.attempt, greeted) == (Status.COMPLETED, 2, ["Ada"] * starts)
    assert "ended without settling" in record.errors[0]["error"]


def test_faults_happen_inline_too(relayq_inline: Kit) -> None:
    """There time travel alone makes them good."""
    greeted = define_greet()
    relayq_inline.lose_handoff()
    dispatch("greet", {"name": "Ada"})
    relayq_inline.deliver_twice()
    dispatch("greet", {"name": "Bob"})
    relayq_inline.crash_runner()
    crashed = dispatch("greet", {"name": "Eve"}).job_id
    assert greeted == ["Bob", "Eve"]
    assert relayq_inline.get(crashed).status is Status.PROCESSING
    relayq_inline.time_travel(minutes=5)
    assert sorted(greeted) == ["Ada", "Bob", "Eve", "Eve"]
    assert relayq_inline.get(crashed).status is Status.COMPLETED


def test_settings_are_given_by_name() -> None:
    """As to Bench: `fake(max_attempts=1)`."""
    define_greet()
    with fake(default_queue="misc") as kit:
        dispatch("tell")
        assert kit.all_dispatched()[0].queue == "misc"
