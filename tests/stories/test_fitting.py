"""Stories of time: what a handler is given, whatever its invocation has left, and what a lease is taken for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from relayq_core import Job, JobContext, RetryAfter, Snooze, job
from relayq_core.engine.results import RunOutcome
from relayq_core.model import bounds
from relayq_core.model.bounds import SETTLE_BUDGET_MS
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import Status
from relayq_core.testing import Bench
from tests.support.factories import NOW, a_lease
from tests.support.rows import read_row

SECOND = 1_000
GRACE = 10 * SECOND
LAMBDAS_LONGEST = 900

#: What an invocation has left when its handler begins: never all of it, and less after a slow start.
STARTS = [900, 899.999, 899.99, 894.8, 870]


def deliver(bench: Bench, *, seconds: float = LAMBDAS_LONGEST) -> list[RunOutcome]:
    """Let each handoff arrive in an invocation of its own, until none is left; how each ended."""
    ended = []
    while bench.handoff.offers:
        offer = bench.handoff.offers.pop(0)
        ended.append(bench.run(offer.job_id, offer.run_at, seconds=seconds, name=offer.name).ended)
        assert len(ended) < 10, "runners hand a job on to each other"
    return ended


@pytest.fixture
def given() -> list[float]:
    """The seconds that each handler was given."""
    return []


@pytest.fixture(params=["the function says how long it lives", "it does not"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """As the template deploys it, and as a function of an older template is."""
    return Bench(runner_timeout_seconds=LAMBDAS_LONGEST if "says" in request.param else 0)


@pytest.mark.parametrize("seconds", STARTS)
@pytest.mark.parametrize("own", ["type", "call"])
def test_the_longest_timeout_runs_in_whatever_an_invocation_has_left(
    bench: Bench, given: list[float], seconds: float, own: str
) -> None:
    """A start that took long costs the handler that much of its time, and never the job."""

    @job(timeout=890 if own == "type" else None)
    def longest(context: JobContext) -> None:
        given.append(context.remaining())

    options: dict[str, Any] = {} if own == "type" else {"timeout": 890}
    bench.relayq.dispatch(longest, job_id="mine", **options)
    assert deliver(bench, seconds=seconds) == [RunOutcome.COMPLETED]
    assert given == [pytest.approx(seconds - SETTLE_BUDGET_MS / SECOND)]


def test_a_short_runner_with_a_slow_start_runs_what_fits_it_when_it_is_warm(given: list[float]) -> None:
    """Buried for a cold start, it would never see the warm one."""
    bench = Bench(runner_timeout_seconds=60)

    @job(timeout=45)
    def quick(context: JobContext) -> None:
        given.append(context.remaining())

    bench.relayq.dispatch(quick, job_id="mine")
    assert deliver(bench, seconds=54.9) == [RunOutcome.COMPLETED]
    assert given == [pytest.approx(44.9)]


@pytest.mark.parametrize("timeout", [890, 880, 840, 60])
@pytest.mark.parametrize("delay", [0, 3, 10, 60])
@pytest.mark.parametrize("known", ["by its type", "by the call", "by name"])
def test_a_handler_gets_its_whole_timeout_after_a_wait_in_the_runner(
    bench: Bench, given: list[float], timeout: int, delay: int, known: str
) -> None:
    """The invocation that slept for it hands it on once where a fresh one has more to give."""
    if known == "by name":
        bench.relayq.dispatch("long", job_id="mine", delay=delay)

    @job(name="long", timeout=None if known == "by the call" else timeout)
    def long(context: JobContext) -> None:
        given.append(context.remaining())

    if known != "by name":
        options: dict[str, Any] = {"timeout": timeout} if known == "by the call" else {}
        bench.relayq.dispatch(long, job_id="mine", delay=delay, **options)
    ended = deliver(bench)
    lacks = timeout > LAMBDAS_LONGEST - delay - SETTLE_BUDGET_MS / SECOND
    assert ended == ([RunOutcome.HANDED_ON] if lacks else []) + [RunOutcome.COMPLETED]
    assert given == [timeout]
    assert read_row(bench).attempt == 1


@pytest.mark.parametrize("again", ["retry", "snooze"])
def test_a_retry_and_a_snooze_get_the_whole_timeout_too(bench: Bench, given: list[float], again: str) -> None:
    """They wait in a runner as a delay does."""

    @job(timeout=885)
    def long(context: JobContext) -> None:
        given.append(context.remaining())
        if len(given) == 1:
            raise RetryAfter(50) if again == "retry" else Snooze(50)

    bench.relayq.dispatch(long, job_id="mine")
    deliver(bench)
    assert given == [885, 885]


def test_the_settings_timeout_is_given_whole_after_a_wait_as_well(given: list[float]) -> None:
    """It is a wish about all jobs."""
    bench = Bench(timeout=880, runner_timeout_seconds=900)

    @job
    def long(context: JobContext) -> None:
        given.append(context.remaining())

    bench.relayq.dispatch(long, job_id="mine", delay=60)
    assert deliver(bench) == [RunOutcome.HANDED_ON, RunOutcome.COMPLETED]
    assert given == [880]


def test_a_job_without_a_timeout_runs_where_it_was_waited_for(bench: Bench, given: list[float]) -> None:
    """It asked for no time of its own, so another start would buy it nothing."""

    @job
    def any_length(context: JobContext) -> None:
        given.append(context.remaining())

    bench.relayq.dispatch(any_length, job_id="mine", delay=60)
    assert deliver(bench) == [RunOutcome.COMPLETED]
    assert given == [830]


def test_a_job_is_never_handed_to_and_fro_for_a_timeout_that_no_runner_can_give() -> None:
    """Where a runner does not know how long it may live: once for each wait, then it runs with what there is."""
    bench = Bench()

    @job(timeout=100_000)
    def endless() -> None: ...

    bench.relayq.dispatch(endless, job_id="mine", delay=60)
    assert deliver(bench) == [RunOutcome.HANDED_ON, RunOutcome.COMPLETED]


def test_a_wait_that_lost_its_time_does_not_keep_a_cancelled_job(bench: Bench) -> None:
    """Given back for a fresh start, it gives way to the cancel that came in between."""

    @job
    def long() -> None: ...

    bench.relayq.dispatch(long, job_id="mine", delay=60, timeout=885)
    claim: Callable[..., Any] = bench.store.claim

    def claimed_then_cancelled(*args: Any) -> Any:
        answer = claim(*args)
        bench.relayq.cancel("mine")
        return answer

    bench.store.claim = claimed_then_cancelled  # type: ignore[method-assign, assignment]
    assert deliver(bench) == [RunOutcome.CANCELLED]
    assert read_row(bench).status is Status.CANCELLED


# --- the name that a handoff carries ---


def _leases(bench: Bench) -> list[float]:
    """Seconds beyond the grace for which each claim took its lease."""
    taken = []
    claim: Callable[..., Any] = bench.store.claim

    def noted(*args: Any) -> Any:
        answer = claim(*args)
        if answer.done:
            taken.append((answer.record.lease_until - bench.clock.now() - GRACE) / SECOND)
        return answer

    bench.store.claim = noted  # type: ignore[method-assign, assignment]
    return taken


def _types(given: list[float]) -> None:
    @job(name="quick", timeout=5)
    def quick(context: JobContext) -> None:
        given.append(context.remaining())

    @job(name="long", timeout=600)
    def long(context: JobContext) -> None:
        given.append(context.remaining())

    @job(name="any_length")
    def any_length(context: JobContext) -> None:
        given.append(context.remaining())


@pytest.mark.parametrize(("name", "seconds"), [("quick", 5), ("long", 600), ("any_length", 890)])
@pytest.mark.parametrize("hint", ["right", None, "quick", "long", "any_length", "unknown.to.all"])
def test_no_hint_takes_time_from_the_handler_that_runs(
    given: list[float], name: str, seconds: int, hint: str | None
) -> None:
    """Right, wrong, missing or of a job that is not known here: the handler has what its own type asks for."""
    bench = Bench()
    bench.relayq.dispatch(name, job_id="mine")
    _types(given)
    leases = _leases(bench)
    assert bench.run("mine", name=name if hint == "right" else hint).ended is RunOutcome.COMPLETED
    assert given == [seconds]
    assert leases[0] >= seconds
    assert read_row(bench).attempt == 1


@pytest.mark.parametrize(("name", "seconds"), [("quick", 5), ("long", 600), ("any_length", 890)])
def test_a_job_dispatched_by_name_gets_the_lease_of_its_type(given: list[float], name: str, seconds: int) -> None:
    """So its crash is noticed as soon as that of one that was dispatched by type; one claim, and no further call."""
    bench = Bench()
    bench.relayq.dispatch(name, job_id="mine")
    (offer,) = bench.handoff.offers
    _types(given)
    leases, calls = _leases(bench), _counted(bench, "claim")
    bench.run(offer.job_id, offer.run_at, name=offer.name)
    assert (leases, len(calls)) == ([seconds], 1)


def test_the_settings_timeout_bounds_the_lease_of_a_type_that_has_none(given: list[float]) -> None:
    """As it bounds the handler."""
    bench = Bench(timeout=30)
    bench.relayq.dispatch("any_length", job_id="mine")
    _types(given)
    leases = _leases(bench)
    bench.run("mine", name="any_length")
    assert (leases, given) == ([30], [30])


def _counted(bench: Bench, verb: str) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    ask = getattr(bench.store, verb)

    def counting(*args: Any) -> Any:
        calls.append(args)
        return ask(*args)

    setattr(bench.store, verb, counting)
    return calls


def test_a_crash_of_a_job_dispatched_by_name_is_noticed_as_soon_as_its_type_allows(given: list[float]) -> None:
    """A runner is killed in a job of five seconds: it is tried again within a minute, and not when Lambda would end."""
    bench = Bench()
    bench.relayq.dispatch("quick", job_id="mine")
    _types(given)
    bench.store.settle = _killed  # type: ignore[method-assign, assignment]
    assert bench.run("mine", name="quick").ended is RunOutcome.UNSETTLED
    del bench.store.settle
    bench.clock.advance(seconds=30)
    assert bench.sweep().counts["released"] == 1


def _killed(*args: Any) -> Any:
    raise RuntimeError("the process is gone")


# --- every handoff says the name ---


def _fail(bench: Bench) -> None:
    bench.relayq.dispatch("break_down", job_id="mine", max_attempts=1)
    bench.run("mine")
    bench.handoff.offers.clear()


def _dispatch(bench: Bench) -> None:
    bench.relayq.dispatch("greet", job_id="mine")


def _dispatch_many(bench: Bench) -> None:
    bench.relayq.dispatch_many([("greet", {})])


def _retry(bench: Bench) -> None:
    bench.relayq.dispatch("break_down", job_id="mine")
    bench.handoff.offers.clear()
    bench.run("mine")


def _snooze(bench: Bench) -> None:
    bench.relayq.dispatch("sleepy", job_id="mine")
    bench.handoff.offers.clear()
    bench.run("mine")


def _redrive(bench: Bench) -> None:
    _fail(bench)
    bench.relayq.redrive("mine")


def _release(bench: Bench) -> None:
    bench.relayq.dispatch("greet", job_id="mine", backoff=0)
    bench.handoff.offers.clear()
    bench.store.claim("mine", a_lease())
    bench.clock.advance(minutes=5)
    bench.sweep()


def _nudge(bench: Bench) -> None:
    bench.relayq.dispatch("greet", job_id="mine")
    bench.handoff.offers.clear()
    bench.clock.advance(minutes=1)
    bench.sweep()


def _give_back(bench: Bench) -> None:
    bench.relayq.dispatch("unknown", job_id="mine")
    bench.handoff.offers.clear()
    bench.run("mine")


def _hand_on(bench: Bench) -> None:
    bench.relayq.dispatch("greet", job_id="mine", delay=60)
    bench.handoff.offers.clear()
    bench.run("mine", NOW + 30 * SECOND, seconds=60)


@pytest.mark.parametrize(
    "act", [_dispatch, _dispatch_many, _retry, _snooze, _redrive, _release, _nudge, _give_back, _hand_on]
)
def test_every_handoff_carries_the_jobs_name(act: Callable[[Bench], None]) -> None:
    """Else the next claim takes the longest lease there is."""
    bench = Bench()

    @job(name="greet")
    def greet() -> None: ...

    class Broken(Job, name="break_down"):
        def handle(self) -> None:
            raise ValueError("no")

    @job(name="sleepy")
    def sleepy() -> None:
        raise Snooze(5)

    act(bench)
    (offer,) = bench.handoff.offers
    (record,) = bench.store.jobs.values()
    assert offer.name == record.name


def test_the_longest_timeout_of_all_types_is_computed_again_only_after_a_registration(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with hundreds of job types would compute it in each of its runs."""
    computed: list[int] = []
    original = bounds.find_longest_timeout

    def count(types: Sequence[Options], policy: Policy) -> bounds.LongestTimeout:
        computed.append(len(types))
        return original(types, policy)

    monkeypatch.setattr(bounds, "find_longest_timeout", count)

    @job(timeout=30)
    def short() -> None: ...

    for _ in range(3):
        bench.run(bench.relayq.dispatch(short).job_id)
    assert computed == [1]

    @job(timeout=600)
    def long() -> None: ...

    for _ in range(3):
        bench.run(bench.relayq.dispatch(long).job_id)
    assert computed == [1, 2]
