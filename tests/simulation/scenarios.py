"""What is played: the base scenarios, each a small story, and random schedules made of the same parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relayq_core.backoff import Fixed
from relayq_core.lifecycle import Policy
from relayq_core.record import Status
from tests.simulation.cast import Stage
from tests.simulation.world import Faults

Scenario = Callable[[Stage], None]


def _ticks(stage: Stage, *delays: int) -> None:
    for delay in delays or (61_000, 122_000):
        stage.sweep(delay)


def plain(stage: Stage) -> None:
    """A job that is dispatched and runs."""
    stage.dispatch(["ok"])
    _ticks(stage)


def short_delay(stage: Stage) -> None:
    """A delay that a runner sleeps."""
    stage.dispatch(["ok"], options_delay=20)
    _ticks(stage)


def long_delay(stage: Stage) -> None:
    """A delay that is the sweeper's."""
    stage.dispatch(["ok"], options_delay=100)
    _ticks(stage)


def window(stage: Stage) -> None:
    """Two dispatches in one window, and one after it."""
    for delay in (0, 300, 40_000):
        stage.dispatch(["ok"], delay=delay, unique="k", unique_for=30)
    _ticks(stage)


def until_done(stage: Stage) -> None:
    """A key held until its job has ended, and taken again after that."""
    stage.dispatch(["sleep:5"], unique="k")
    stage.dispatch(["ok"], delay=1_000, unique="k")
    stage.dispatch(["ok"], delay=30_000, unique="k")
    _ticks(stage)


def retried(stage: Stage) -> None:
    """Fails once, then succeeds."""
    stage.dispatch(["fail", "ok"])
    _ticks(stage)


def buried(stage: Stage) -> None:
    """Fails for good while it holds a key."""
    stage.dispatch(["fail"], max_attempts=2, unique="k")
    _ticks(stage)


def snoozed(stage: Stage) -> None:
    """Asks to be run later, twice, at no cost."""
    stage.dispatch(["snooze:5", "ok"], max_attempts=2)
    _ticks(stage)


def crashed(stage: Stage) -> None:
    """Its runner is killed in the handler, once."""
    stage.dispatch(["die", "ok"])
    _ticks(stage, 80_000, 140_000)


def poison(stage: Stage) -> None:
    """Kills every runner: failed() still gets its chance, and it ends in the failed table."""
    stage.dispatch(["die"], max_attempts=2)
    _ticks(stage, 80_000, 170_000, 260_000)


def overrun(stage: Stage) -> None:
    """Runs into its time-out, then ignores it."""
    stage.dispatch(["sleep:100", "stubborn", "ok"])
    _ticks(stage, 70_000, 150_000)


def cancelled_waiting(stage: Stage) -> None:
    """Cancelled before its time has come."""
    stage.dispatch(["ok"], options_delay=30, unique="k")
    stage.operate("cancel", "job1", 10_000)
    _ticks(stage)


def cancelled_running(stage: Stage) -> None:
    """Cancelled while it runs: its failure ends it."""
    stage.dispatch(["sleep:1", "ok"])
    stage.dispatch(["fail:1", "ok"])
    for job in ("job1", "job2"):
        stage.operate("cancel", job, 500)
    _ticks(stage)


def redriven(stage: Stage) -> None:
    """Buried, redriven, and done; another is forgotten."""
    stage.dispatch(["bury"], unique="k")
    stage.operate("redrive", "job1", 5_000)
    stage.dispatch(["bury"], delay=100)
    stage.operate("forget", "job2", 20_000)
    _ticks(stage)


def chained(stage: Stage) -> None:
    """A job that dispatches a job."""
    stage.dispatch(["child:ok"])
    _ticks(stage)


def deployed(stage: Stage) -> None:
    """Runners that do not know the job's name yet; a moment later they do."""
    stage.deploy(stage.unknown, 0)
    stage.dispatch(["ok"], delay=10)
    stage.deploy(stage.known, 90_000)
    _ticks(stage)


def progressing(stage: Stage) -> None:
    """Tells how far it is."""
    stage.dispatch(["progress"])
    _ticks(stage)


def long_running(stage: Stage) -> None:
    """Takes nearly all the time it has, and completes."""
    stage.dispatch(["sleep:55"])
    _ticks(stage)


def cancelled_at_its_start(stage: Stage) -> None:
    """Cancelled in the very moment in which it is claimed: one comes first."""
    for number in range(1, 8):
        stage.dispatch(["sleep:1"], options_delay=10)
        stage.operate("cancel", f"job{number}", 9_980 + number * 5)
    _ticks(stage)


def redriven_too_late(stage: Stage) -> None:
    """Buried; another takes its key; the redrive is refused while that one lives."""
    stage.dispatch(["bury"], unique="k")
    stage.dispatch(["sleep:40"], delay=2_000, unique="k")
    stage.operate("redrive", "job1", 10_000)
    _ticks(stage)


def many(stage: Stage) -> None:
    """Two jobs written together, and a third alone, since it has a key; all in one call."""
    stage.dispatch_many([["ok"], ["fail", "ok"], ["ok"]], unique="k")
    _ticks(stage)


#: How the stories end where nothing goes wrong; a job that is not named here may end in more than one way.
ENDS: dict[str, dict[str, Status | None]] = {
    "plain": {"job1": Status.COMPLETED},
    "short_delay": {"job1": Status.COMPLETED},
    "long_delay": {"job1": Status.COMPLETED},
    "window": {"job1": Status.COMPLETED, "job2": None, "job3": Status.COMPLETED},
    "until_done": {"job1": Status.COMPLETED, "job2": None, "job3": Status.COMPLETED},
    "retried": {"job1": Status.COMPLETED},
    "buried": {"job1": Status.FAILED},
    "snoozed": {"job1": Status.COMPLETED},
    "crashed": {"job1": Status.COMPLETED},
    "poison": {"job1": Status.FAILED},
    "overrun": {"job1": Status.COMPLETED},
    "cancelled_waiting": {"job1": Status.CANCELLED},
    "cancelled_running": {"job1": Status.COMPLETED, "job2": Status.CANCELLED},
    "redriven": {"job1": Status.FAILED, "job2": None},
    "chained": {"job1": Status.COMPLETED, "job2": Status.COMPLETED},
    "deployed": {"job1": Status.COMPLETED},
    "progressing": {"job1": Status.COMPLETED},
    "long_running": {"job1": Status.COMPLETED},
    "cancelled_at_its_start": {},
    "redriven_too_late": {"job1": Status.FAILED, "job2": Status.COMPLETED},
    "many": {"job1": Status.COMPLETED, "job2": Status.COMPLETED, "job3": Status.COMPLETED},
}

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        short_delay,
        long_delay,
        window,
        until_done,
        retried,
        buried,
        snoozed,
        crashed,
        poison,
        overrun,
        cancelled_waiting,
        cancelled_running,
        redriven,
        chained,
        deployed,
        progressing,
        long_running,
        cancelled_at_its_start,
        redriven_too_late,
        many,
    )
}

_STEPS = (
    "ok",
    "ok",
    "ok",
    "fail",
    "fail:2",
    "sleep:1",
    "sleep:30",
    "sleep:100",
    "later:7",
    "snooze:20",
    "bury",
    "die",
    "die",
    "stubborn",
    "progress",
    "child:ok",
    "child:fail",
)


def play_scenario(name: str, planned: dict[int, str] | None = None, *, seed: int = 1) -> Stage:
    """One base scenario, with faults at the calls of these numbers."""
    stage = Stage(seed, Faults(planned or {}))
    SCENARIOS[name](stage)
    stage.play(minutes=5)
    if not planned:
        stage.checker.ended_as(stage.memory, ENDS[name])
    return stage


def play_random(seed: int) -> Stage:
    """One random schedule."""
    stage = random_stage(seed)
    stage.play(minutes=stage.minutes)
    return stage


def random_stage(seed: int) -> Stage:
    """Jobs, ticks, operators, deploys and faults as the seed has them."""
    stage = Stage(seed, Faults())
    random = stage.world.random
    stage.minutes = random.choice((3, 6, 12))
    stage.faults.chance = random.choice((0.01, 0.03, 0.08, 0.15))
    stage.most_skew = stage.checker.most_skew = random.choice((0, 0, 500, 2_500))
    stage.policy = Policy(
        max_attempts=3,
        backoff=Fixed(random.choice((0, 5, 40))),
        retention_ms=random.choice((604_800_000, 604_800_000, 0)),
        hands_off=random.random() > 0.1,
        stale_ms=random.choice((30_000, 5_000)),
    )
    for _ in range(random.randint(1, 5)):
        options: dict[str, Any] = {}
        if random.random() < 0.3:
            options["options_delay"] = random.choice((1, 20, 64, 66, 120))
        if random.random() < 0.4:
            options["unique"] = random.choice("ab")
            if random.random() < 0.5:
                options["unique_for"] = random.choice((10, 60, 200))
        if random.random() < 0.5:
            options["max_attempts"] = random.choice((1, 2, 4))
        script = [random.choice(_STEPS) for _ in range(random.randint(1, 4))]
        stage.dispatch(script, delay=random.randint(0, 120_000), again=random.random() < 0.8, **options)
    for minute in range(12):
        for _ in range(random.choice((0, 1, 1, 1, 2))):
            stage.sweep(minute * 60_000 + random.randint(0, 20_000))
    for _ in range(random.choice((0, 0, 1, 3))):
        verb = random.choice(("cancel", "cancel", "redrive", "forget"))
        stage.operate(verb, random.choice(stage.ids), random.randint(0, 300_000))
    if random.random() < 0.15:
        swap = random.randint(0, 100_000)
        stage.deploy(stage.unknown, swap)
        stage.deploy(stage.known, swap + random.choice((5_000, 100_000, 1_200_000)))
    if random.random() < 0.2:  # drawn last: what a seed did before there were batches it does still
        scripts = [[random.choice(_STEPS)] for _ in range(random.randint(1, 4))]
        stage.dispatch_many(scripts, delay=random.randint(0, 60_000), unique=random.choice((None, "a", "c")))
    return stage
