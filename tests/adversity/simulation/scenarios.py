"""What is played: the base scenarios, each a small story, and random schedules made of the same parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from relayq_core.model.backoff import Exponential, Fixed
from relayq_core.model.policy import Policy
from relayq_core.model.record import Status
from tests.adversity.simulation.cast import OTHER_QUEUE, QUEUE, TICK, Stage
from tests.adversity.simulation.faulty import LOST_HANDOFF
from tests.adversity.simulation.pace import PROMPT_MS
from tests.adversity.simulation.world import Faults

Scenario = Callable[[Stage], None]


def _ticks(stage: Stage, *delays: int) -> None:
    for delay in delays or (61_000, 122_000):
        stage.sweep(delay)


def plain(stage: Stage) -> None:
    """A job that is dispatched and runs."""
    stage.dispatch(["ok"])
    _ticks(stage)


def dispatched_ahead(stage: Stage) -> None:
    """Callers whose clocks are half a minute ahead, and behind, dispatch without a delay."""
    for ahead in (30_000, -30_000):
        stage.dispatch(["ok"], ahead=ahead)
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
    """Reports how far it is."""
    stage.dispatch(["progress"])
    _ticks(stage)


def long_running(stage: Stage) -> None:
    """Takes nearly all the time it has, and completes."""
    stage.dispatch(["sleep:55"])
    _ticks(stage)


def cancelled_at_its_start(stage: Stage) -> None:
    """Cancelled in the very moment in which it is claimed: one comes first."""
    for number, moment in enumerate((9_990, 10_000, 10_010), start=1):
        stage.dispatch(["sleep:1"], options_delay=10)
        stage.operate("cancel", f"job{number}", moment)
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


def failing_slowly(stage: Stage) -> None:
    """Fails for good; its failed() takes longer than its lease lasts, and is stopped."""
    stage.dispatch(["fail"], max_attempts=1, failed="sleep:100")
    _ticks(stage)


def killed_in_failed(stage: Stage) -> None:
    """Fails for good, and its runner is killed in failed(): the next one calls it again."""
    stage.dispatch(["fail"], max_attempts=1, failed="die")
    _ticks(stage, 80_000, 140_000)


def dispatched_by_name(stage: Stage) -> None:
    """Its type allows more attempts than the settings, and its caller knows nothing of it."""
    stage.dispatch(["die", "fail", "fail", "ok"], name="patient", by_name=True, backoff=[7, 2])
    _ticks(stage, 80_000, 150_000)


def cancelled_as_it_is_released(stage: Stage) -> None:
    """Their runners die, and each is cancelled in the very moment in which a sweep ends its lease."""
    for number in range(1, 7):
        stage.dispatch(["die", "ok"])
        stage.operate("cancel", f"job{number}", 80_000 + 10 * number)
    _ticks(stage, 80_000, 150_000)


def half_done(stage: Stage) -> None:
    """Reports progress, and fails for good."""
    stage.dispatch(["progress:fail"], max_attempts=1)
    _ticks(stage)


def two_queues(stage: Stage) -> None:
    """A backlog in one queue, and one job in another; no handoffs, so all of it is the sweeper's."""
    stage.policy = stage.policy.evolve(hands_off=False)
    stage.shards = 2
    for _ in range(9):
        stage.dispatch(["ok"])
    stage.dispatch(["ok"], queue=OTHER_QUEUE)
    _ticks(stage)


def untimed(stage: Stage) -> None:
    """Two jobs without a timeout: one runs for minutes, one dies."""
    stage.knows_untimed()
    stage.dispatch(["sleep:200"], name="untimed")
    stage.dispatch(["die", "ok"], name="untimed", by_name=True)
    _ticks(stage)


def worked(stage: Stage) -> None:
    """A worker's jobs: one outlives its first lease, one fails, one dies with its process."""
    stage.policy = stage.policy.evolve(hands_off=False)
    stage.knows_untimed()
    stage.dispatch(["sleep:110"], name="untimed")
    stage.dispatch(["fail", "ok"])
    stage.dispatch(["die", "ok"], delay=500)
    stage.work(100, leaves_after=40_000)
    _ticks(stage, 80_000, 90_000, 140_000)


def left_by_a_worker(stage: Stage) -> None:
    """A worker is asked to leave, twice: what it has in hand goes back, and a runner does it."""
    stage.knows_untimed()
    stage.policy = stage.policy.evolve(hands_off=False)
    stage.dispatch(["sleep:120"], name="untimed")
    stage.work(100, leaves_after=10_000)
    _ticks(stage, 40_000, 110_000)


def listened_to(stage: Stage) -> None:
    """Every listener takes five seconds, and those of the start are given them from its handler's time."""
    stage.listens_for = 5_000
    stage.dispatch(["sleep:54"])
    stage.dispatch(["fail", "ok"])
    _ticks(stage)


def overloaded(stage: Stage) -> None:
    """More jobs than runners."""
    stage.slots = 1
    stage.checker.pace.most_late_ms = None
    for script in (["sleep:20"], ["fail:5", "ok"], ["die", "ok"], ["ok"]):
        stage.dispatch(script)
    _ticks(stage, 61_000, 122_000, 183_000)


def spoilt(stage: Stage) -> None:
    """Rows that cannot be read for a while, one of them as it runs; one beside them can be."""
    stage.dispatch(["ok"], options_delay=30)
    stage.dispatch(["sleep:5"])
    stage.dispatch(["ok"], options_delay=70)
    stage.spoil("job1", 1_000, lasts=120_000)
    stage.spoil("job2", 1_000, lasts=120_000)
    _ticks(stage)


def expired(stage: Stage) -> None:
    """What has ended is deleted when its time is up, and a key's window too."""
    stage.policy = stage.policy.evolve(retention_ms=120_000)
    stage.dispatch(["ok"], unique="k", unique_for=20)
    stage.dispatch(["ok"], unique="k", unique_for=20, delay=30_000)
    for at in (60_000, 130_000, 200_000, 290_000):
        stage.operate("get", "job1", at - 20_000)
        stage.expire(at)
    _ticks(stage)


def asked_for(stage: Stage) -> None:
    """Asked for at every turn: as it waits, runs, has failed, and was brought back."""
    stage.dispatch(["fail"], max_attempts=1)
    stage.operate("redrive", "job1", 5_000)
    for at in (50, 100, 4_000, 5_005, 5_010, 5_020, 6_000):
        stage.operate("get", "job1", at)
    _ticks(stage)


#: How the stories end where nothing goes wrong; a job that is not named here may end in more than one way.
ENDS: dict[str, dict[str, Status | None]] = {
    "plain": {"job1": Status.COMPLETED},
    "short_delay": {"job1": Status.COMPLETED},
    "dispatched_ahead": {"job1": Status.COMPLETED, "job2": Status.COMPLETED},
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
    "failing_slowly": {"job1": Status.FAILED},
    "killed_in_failed": {"job1": Status.FAILED},
    "dispatched_by_name": {"job1": Status.COMPLETED},
    "cancelled_as_it_is_released": {},
    "half_done": {"job1": Status.FAILED},
    "two_queues": {f"job{number}": Status.COMPLETED for number in range(1, 11)},
    "untimed": {"job1": Status.COMPLETED, "job2": Status.COMPLETED},
    "worked": {"job1": Status.COMPLETED, "job2": Status.COMPLETED, "job3": Status.COMPLETED},
    "left_by_a_worker": {"job1": Status.COMPLETED},
    "listened_to": {"job1": Status.COMPLETED, "job2": Status.COMPLETED},
    "overloaded": {f"job{number}": Status.COMPLETED for number in range(1, 5)},
    "spoilt": {"job1": Status.COMPLETED, "job2": Status.COMPLETED, "job3": Status.COMPLETED},
    "expired": {},
    "asked_for": {"job1": Status.FAILED},
}

#: Played with every fault and every two of them.
SMALL: dict[str, Scenario] = {
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

#: Played with every fault: two at a time would be too many.
LARGER: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        failing_slowly,
        killed_in_failed,
        dispatched_by_name,
        cancelled_as_it_is_released,
        half_done,
        two_queues,
        untimed,
        worked,
        left_by_a_worker,
        listened_to,
        overloaded,
        spoilt,
        expired,
        asked_for,
        dispatched_ahead,
    )
}
SCENARIOS = {**SMALL, **LARGER}

#: Those in which docs/units.json says what each write costs, and in which every claim finds its job waiting.
COSTED = ("plain", "short_delay", "retried", "snoozed", "progressing", "long_running", "deployed")
#: Ticks find these late: they wait for a deploy, a worker or a free runner, or listeners keep them.
_NOT_PROMPT = ("overrun", "two_queues", "worked", "left_by_a_worker", "listened_to", "overloaded", "spoilt")

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
    "progress:fail",
    "child:ok",
    "child:fail",
)


def play_scenario(name: str, planned: dict[int, str] | None = None, *, seed: int = 1) -> Stage:
    """One base scenario, with faults at the calls of these numbers."""
    stage = Stage(seed, Faults(planned or {}))
    SCENARIOS[name](stage)
    if not planned and name not in _NOT_PROMPT:
        stage.checker.pace.most_late_ms = PROMPT_MS
    stage.play(minutes=5)
    if not planned:
        stage.checker.ended_as(stage.memory, ENDS[name])
        if name in COSTED:
            stage.checker.pace.judge_cost("job1")
    return stage


def lost_handoffs(name: str) -> Iterator[dict[int, str]]:
    """Each handoff of a scenario lost, one at a time."""
    sites = play_scenario(name).faults.sites
    for number, site in enumerate(sites):
        if site.endswith(".offer"):
            yield from ({number: fault} for fault in LOST_HANDOFF)


def play_lost_handoff(name: str, planned: dict[int, str]) -> Stage:
    """One base scenario in which only handoffs are lost, and a tick comes each minute: how late is its job?"""
    stage = Stage(1, Faults(planned))
    SCENARIOS[name](stage)
    _ticks(stage, *range(30_000, 300_000, 60_000))
    # the sweeper looks at a caller's moment: where the handoff is lost, the clock of the caller shifts the start
    if name not in (*_NOT_PROMPT, "dispatched_ahead"):
        stage.checker.pace.most_late_ms = stage.policy.stale_ms + TICK + PROMPT_MS
    stage.play(minutes=5)
    return stage


def play_random(seed: int) -> Stage:
    """One random schedule."""
    stage = random_stage(seed)
    stage.play(minutes=stage.minutes)
    return stage


def random_stage(seed: int) -> Stage:
    """Jobs, ticks, workers, operators, deploys and faults as the seed has them."""
    stage = Stage(seed, Faults())
    random = stage.world.random
    stage.minutes = random.choice((3, 6, 12))
    stage.faults.chance = random.choice((0.01, 0.03, 0.08, 0.15))
    _draw_world(stage)
    for _ in range(random.choice((1, 2, 2, 3, 4, 5, 9))):
        _draw_job(stage)
    if random.random() < 0.2:
        scripts = [[random.choice(_STEPS)] for _ in range(random.randint(1, 4))]
        stage.dispatch_many(scripts, delay=random.randint(0, 60_000), unique=random.choice((None, "a", "c")))
    for minute in range(12):
        for _ in range(random.choice((0, 1, 1, 1, 2))):
            stage.sweep(minute * 60_000 + random.randint(0, 20_000))
    _draw_operators(stage)
    return stage


def _draw_world(stage: Stage) -> None:
    """Clocks, settings, and what is rare about this schedule."""
    random = stage.world.random
    stage.most_skew = stage.checker.book.most_skew = random.choice((0, 0, 500, 2_500))
    stage.shards = random.choice((1, 1, 1, 2, 8))
    stage.cold_starts = random.choice(((0,), (10,), (15, 300, 5_000)))
    stage.policy = Policy(
        max_attempts=3,
        backoff=random.choice((Fixed(0), Fixed(5), Fixed(40), Exponential(2, cap=30, jitter=0.5))),
        retention_ms=random.choice((604_800_000, 604_800_000, 600_000, 0)),
        hands_off=random.random() > 0.1,
        stale_ms=random.choice((30_000, 30_000, 5_000)),
        max_wait_ms=random.choice((65_000, 65_000, 20_000, 0, 840_000)),
        grace_ms=random.choice((10_000, 10_000, 2_000)),
    )
    if random.random() < 0.15:
        stage.knows_untimed()
    if random.random() < 0.15:
        stage.listens_for = random.choice((100, 5_000, 30_000))
    if random.random() < 0.1:
        stage.slots = random.choice((1, 2, 3))
        stage.checker.pace.most_late_ms = None
    if random.random() < 0.1:
        stage.set_clocks(random.randint(0, 200_000))
    if random.random() < 0.1:
        stage.work(random.randint(0, 100_000), leaves_after=random.choice((5_000, 40_000, 100_000)))
    for minute in range(0, 12, random.choice((3, 12))):
        stage.expire(minute * 60_000 + 30_000)


def _draw_job(stage: Stage) -> None:
    random = stage.world.random
    options: dict[str, Any] = {}
    if random.random() < 0.3:
        options["options_delay"] = random.choice((1, 20, 64, 66, 120))
    if random.random() < 0.4:
        options["unique"] = random.choice("ab")
        if random.random() < 0.5:
            options["unique_for"] = random.choice((10, 60, 200))
    if random.random() < 0.5:
        options["max_attempts"] = random.choice((1, 2, 4))
    if random.random() < 0.2:
        options["backoff"] = random.choice((0, 9))
    name = random.choice(("scripted", "scripted", "patient", "untimed" if "untimed" in stage.known else "scripted"))
    stage.dispatch(
        [random.choice(_STEPS) for _ in range(random.randint(1, 4))],
        delay=random.randint(0, 120_000),
        again=random.random() < 0.8,
        name=name,
        by_name=random.random() < 0.3,
        queue=random.choice((QUEUE, QUEUE, OTHER_QUEUE)),
        failed=random.choice(("", "", "sleep:100", "raise", "die")),
        **options,
    )


def _draw_operators(stage: Stage) -> None:
    random = stage.world.random
    for _ in range(random.choice((0, 0, 1, 3))):
        verb = random.choice(("cancel", "cancel", "redrive", "forget"))
        stage.operate(verb, random.choice(stage.ids), random.randint(0, 300_000))
    for _ in range(random.choice((0, 1, 3))):
        stage.operate("get", random.choice(stage.ids), random.randint(0, 300_000))
    if random.random() < 0.08:
        stage.spoil(random.choice(stage.ids), random.randint(0, 120_000), lasts=random.choice((5_000, 200_000)))
    if random.random() < 0.15:
        swap = random.randint(0, 100_000)
        stage.deploy(stage.unknown, swap)
        stage.deploy(stage.known, swap + random.choice((5_000, 100_000, 1_200_000)))
