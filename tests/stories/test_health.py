"""Health: whether the tables answer, the sweeper ticks, and nothing is long overdue."""

from __future__ import annotations

import pytest

from relayq_core import RelayQ, Settings
from relayq_core.operations.health import QueueView
from relayq_core.operations.serialize import serialize_health
from relayq_core.testing import Bench
from tests.support.factories import NOW
from tests.support.faulty_bench import FaultyBench


def test_a_system_that_ticks_with_nothing_overdue_is_healthy(bench: Bench) -> None:
    """What waits for its time is no problem."""
    bench.relayq.dispatch("greet", delay=3_600)
    bench.sweep()
    bench.clock.advance(seconds=100)
    health = bench.relayq.health()
    assert serialize_health(health) == {
        "healthy": True,
        "problems": [],
        "last_sweep_age_ms": bench.clock.now() - NOW,
        "sweep_is_late": False,
        "oldest_due_age_ms": 0,
        "queues": [{"queue": "default", "live": 1, "overdue": 0, "oldest_due_age_ms": 0, "capped": False}],
    }


def test_a_system_that_was_never_swept_is_unhealthy(bench: Bench) -> None:
    """A lost handoff would not be made good."""
    health = bench.relayq.health()
    (problem,) = health.problems
    assert "has not run yet; it ticks each minute, so right after the first deploy ask again" in problem
    assert health.sweep_is_late


@pytest.mark.parametrize(("minutes", "late"), [(3, False), (4, True)])
def test_a_sweeper_that_is_silent_for_more_than_three_minutes_is_reported(
    bench: Bench, minutes: int, late: bool
) -> None:
    """One tick may be late; three are not chance."""
    bench.store.record_tick(NOW, {})
    bench.clock.advance(minutes=minutes)
    health = bench.relayq.health()
    assert (health.sweep_is_late, health.healthy) == (late, not late)
    assert [problem for problem in health.problems if f"has not run for {minutes} minutes" in problem] == [
        *health.problems
    ]


def test_a_job_that_is_long_overdue_is_reported_with_its_queue(bench: Bench) -> None:
    """The sweeper ticks, and yet no runner runs it."""
    bench.relayq.dispatch("greet", queue="emails")
    bench.clock.advance(minutes=10)
    bench.store.record_tick(bench.clock.now(), {})
    health = bench.relayq.health()
    (problem,) = health.problems
    assert problem.startswith("a job in queue 'emails' has been overdue for 9 minutes: ")
    assert health.oldest_due_age_ms == 570_000


def test_a_table_that_does_not_answer_is_reported_and_nothing_is_raised() -> None:
    """Both are asked: one may be there without the other."""
    bench = FaultyBench()
    bench.sweep()
    bench.faults["get_failed"] = ["denied", "denied"]
    assert bench.relayq.health().problems == ("get_failed was denied; grant it",)
    bench.faults["read_last_tick"] = ["denied"]
    health = bench.relayq.health()
    assert health.problems == ("read_last_tick was denied; grant it", "get_failed was denied; grant it")
    assert (health.queues, health.last_sweep_age_ms) == ((), None)


def test_the_oldest_is_found_in_a_queue_that_is_too_long_to_count(bench: Bench) -> None:
    """Wherever in the index it stands: counting ends before."""
    for n in range(200):
        bench.relayq.dispatch("greet", job_id=f"job-{n}", delay=600)
    oldest = [f"old-{n}" for n in range(16)]  # in shards first and last
    for job_id in oldest:
        bench.relayq.dispatch("greet", job_id=job_id)
        bench.clock.advance(seconds=1)
    bench.clock.advance(seconds=84)
    (view,) = bench.relayq.queues(limit=5)
    assert view == QueueView(queue="default", live=5, overdue=view.overdue, oldest_due_age_ms=70_000, capped=True)


def test_health_reads_no_more_of_a_long_queue_than_of_a_short_one() -> None:
    """A monitor asks each minute, also on the worst of days."""
    bench = FaultyBench()
    for n in range(3_000):
        bench.relayq.dispatch("greet", job_id=f"job-{n}", delay=600)
    bench.faulty.calls.clear()
    bench.relayq.health()
    assert bench.faulty.calls.count("list_due") <= 16


def test_two_stacks_on_one_table_are_unhealthy() -> None:
    """Each would bury the other's jobs. Two ticks of one stack after that, and all is well."""
    bench = Bench()
    here, there = (
        RelayQ(
            Settings(jobs_table="jobs", failed_table="failed", runner_function=name),
            store=bench.store,
            handoff=bench.handoff,
            clock=bench.clock,
        )
        for name in ("arn:aws:lambda:eu-west-1:123456789012:function:runner", "other-runner")
    )
    here.sweeper.sweep(lambda: 60_000)
    assert here.health().healthy
    there.sweeper.sweep(lambda: 60_000)
    (problem,) = here.health().problems
    assert "two stacks sweep these tables, those of the runners runner and other-runner" in problem
    for _ in range(2):
        here.sweeper.sweep(lambda: 60_000)
    assert here.health().healthy
