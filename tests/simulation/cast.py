"""The cast: dispatchers, runners, sweepers and operators, each running the real code against faulty ports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from relayq_core.backoff import Fixed
from relayq_core.batch import BatchDispatcher
from relayq_core.context import JobContext
from relayq_core.dispatcher import Dispatched, Dispatcher
from relayq_core.errors import BatchIncomplete, Bury, DispatchUnknown, KeyTaken, RetryAfter, Snooze, StoreError
from relayq_core.events import Events
from relayq_core.lifecycle import Policy
from relayq_core.lineage import current_job
from relayq_core.operations import Operations
from relayq_core.options import Options
from relayq_core.record import JobRecord, Status
from relayq_core.registry import Origin, Registry, RunnableJob
from relayq_core.request import JobRequest
from relayq_core.runner import Runner
from relayq_core.spreading import one_by_one
from relayq_core.sweeper import Scope, Sweeper
from relayq_core.testing import MemoryStore
from tests.simulation.checker import Checker
from tests.simulation.faulty import FaultyHandoff, FaultyStore, LaggingIndex
from tests.simulation.world import EPOCH, Actor, Faults, SimClock, World

QUEUE = "q"
#: Lambda's: the runner's and the sweeper's time-outs, milliseconds.
RUNNER_LIVES = 900_000
SWEEPER_LIVES = 150_000
TICK = 60_000
_MINUTE = 60_000


class _Naming(Dispatcher):
    """Gives its jobs the ids that a schedule knows them by, as if they were its own."""

    def __init__(self, *parts: Any, names: list[str], **options: Any) -> None:
        super().__init__(*parts, **options)
        self._names = names

    def record(self, request: JobRequest, options: Options) -> tuple[JobRecord, bool]:
        record, hand_off_now = super().record(request, options)
        return record.evolve(id=self._names.pop(0)), hand_off_now


@dataclass(frozen=True)
class SimType:
    """A job type without pydantic: its payload is a script, one step for each attempt, the last one repeated."""

    stage: Stage
    name: str = "scripted"
    options: Options = field(default_factory=lambda: Options(timeout=60.0))
    origin: Origin = field(default_factory=lambda: Origin("simulation", "scripted"))

    def encode(self, args: Any) -> str:
        return json.dumps(args)

    def recheck(self, payload_json: str) -> str:
        return payload_json

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        return SimJob(self.stage, json.loads(payload_json)["script"]), []

    def same(self, mine: str, other: str) -> bool:
        return mine == other

    def schema(self) -> dict[str, Any]:
        return {}


@dataclass
class SimJob:
    """A handler that does what its script says."""

    stage: Stage
    script: list[str]

    def handle(self, make_context: Callable[[], JobContext]) -> Any:
        context = make_context()
        stage, actor = self.stage, self.stage.world.actor
        record = current_job.get()
        assert record is not None
        stage.checker.handler_starts(actor, context.job_id, context.attempt, record)
        step = self.script[min(context.attempt, len(self.script)) - 1]
        stage.world.note(f"{actor.name} runs {context.job_id} attempt {context.attempt}: {step}")
        try:
            return self._do(step, actor, context)
        finally:
            stage.checker.handler_ends(context.job_id, record.lease_id or "")

    def _do(self, step: str, actor: Actor, context: JobContext) -> Any:
        verb, _, argument = step.partition(":")
        clock = self.stage.clock(actor)
        clock.sleep(10)
        match verb:
            case "ok":
                return {"ok": context.attempt}
            case "sleep":
                clock.sleep(int(argument) * 1000)
                return None
            case "fail":
                clock.sleep(int(argument or 0) * 1000)
                raise ValueError("scripted failure")
            case "later":
                raise RetryAfter(int(argument))
            case "snooze":
                # a snooze keeps the attempt, so the script would never move on: the first that is awake ends it
                if self.stage.snoozed(context.job_id) > 2:
                    return None
                raise Snooze(int(argument))
            case "bury":
                raise Bury("scripted burial")
            case "die":
                self.stage.world.kill(actor)
            case "stubborn":
                actor.stopped_at = None
                clock.sleep(1_000_000)
            case "progress":
                context.progress(0.5, "half")
                clock.sleep(3_000)
                context.progress(1.0)
            case "child":
                self.stage.dispatch_inside(actor, argument)
        return None

    def failed(self, error: BaseException) -> Any:
        actor = self.stage.world.actor
        self.stage.clock(actor).sleep(10)


class Stage:
    """One schedule: the shared tables, and everybody who may act on them."""

    def __init__(self, seed: int, faults: Faults, *, policy: Policy | None = None, most_skew: int = 0) -> None:
        self.world = World(seed)
        self.faults = faults
        self.most_skew = most_skew
        self.policy = policy or Policy(max_attempts=3, backoff=Fixed(5), timeout_ms=None)
        self.memory = MemoryStore(SimClock(self.world))
        self.index = LaggingIndex(self.world, faults)
        self.checker = Checker(self.world, most_skew=most_skew)
        self.known = Registry()
        self.known.register(SimType(self))
        self.unknown = Registry()
        self.deployed: Registry = self.known
        self.snoozes: dict[str, int] = {}
        self.ids: list[str] = []
        #: how long a random schedule's chaos lasts
        self.minutes = 5

    # --- parts ---

    def clock(self, actor: Actor) -> SimClock:
        return SimClock(self.world, actor.skew)

    def store(self) -> FaultyStore:
        return FaultyStore(self.world, self.memory, self.index, self.faults, self.checker)

    def handoff(self) -> FaultyHandoff:
        return FaultyHandoff(self.world, self.faults, self.deliver)

    def skew(self) -> int:
        return self.world.random.randint(-self.most_skew, self.most_skew) if self.most_skew else 0

    def dispatcher(self, actor: Actor, kind: type[Dispatcher] = Dispatcher, **more: Any) -> Dispatcher:
        return kind(
            self.store(),
            self.handoff(),
            self.clock(actor),
            self.policy,
            self.known,
            Events(),
            default_queue=QUEUE,
            max_depth=100,
            **more,
        )

    # --- actors ---

    def dispatch(
        self,
        script: list[str],
        *,
        delay: int = 0,
        options_delay: float | None = None,
        again: bool = True,
        **options: Any,
    ) -> None:
        """A caller dispatches a scripted job; one that is told "unknown" does it again with the same id."""
        wanted = f"job{len(self.ids) + 1}"
        self.ids.append(wanted)

        def body(actor: Actor) -> None:
            given = Options.given(job_id=wanted, queue=QUEUE, delay=options_delay, **options)
            for _ in range(3 if again else 1):
                try:
                    answer = self.dispatcher(actor).dispatch(
                        "scripted", {"script": script, "note": "canary-b7f3"}, given
                    )
                except DispatchUnknown:
                    continue
                except StoreError:
                    return
                self.checker.answered(wanted, answer.job_id, duplicate=answer.duplicate)
                return

        self.world.spawn("dispatcher", body, delay=delay, skew=self.skew(), lives=120_000)

    def dispatch_many(self, scripts: list[list[str]], *, delay: int = 0, unique: str | None = None) -> None:
        """A caller dispatches several jobs in one call; the last one has the unique key."""
        wanted = [f"job{len(self.ids) + number}" for number in range(1, len(scripts) + 1)]
        self.ids += wanted

        def body(actor: Actor) -> None:
            requests = [
                JobRequest(
                    "scripted", json.dumps({"script": script}), Options.given(queue=QUEUE), self.known["scripted"]
                )
                for script in scripts
            ]
            if unique is not None:
                requests[-1] = requests[-1].with_options(unique=unique)
            store = self.store()
            dispatcher = self.dispatcher(actor, _Naming, names=list(wanted))
            try:
                with one_by_one() as spread:
                    batch = BatchDispatcher(store, dispatcher, self.known, spread)
                    outcomes: list[object] = [*batch.dispatch(requests)]
            except BatchIncomplete as incomplete:
                outcomes = incomplete.outcomes
            except StoreError:
                return
            for job_id, outcome in zip(wanted, outcomes, strict=True):
                if isinstance(outcome, Dispatched):
                    self.checker.answered(job_id, outcome.job_id, duplicate=outcome.duplicate)

        self.world.spawn("dispatcher", body, delay=delay, skew=self.skew(), lives=120_000)

    def dispatch_inside(self, actor: Actor, step: str) -> None:
        """A handler dispatches a job of its own."""
        wanted = f"job{len(self.ids) + 1}"
        self.ids.append(wanted)
        answer = self.dispatcher(actor).dispatch(
            "scripted", {"script": [step or "ok"]}, Options.given(job_id=wanted, queue=QUEUE)
        )
        self.checker.answered(wanted, answer.job_id, duplicate=answer.duplicate)

    def deliver(self, job_id: str, run_at: int, delay: int, name: str | None = None) -> None:
        """A handoff arrives: Lambda starts a runner."""

        def body(actor: Actor) -> None:
            clock = self.clock(actor)
            ends = clock.now() + RUNNER_LIVES
            runner = Runner(self.store(), self.handoff(), clock, self.policy, self.deployed, Events(), stop=clock.stop)
            try:
                ran = runner.run(job_id, run_at, lambda: ends - clock.now(), name)
            except StoreError:
                return
            self.world.note(f"{actor.name} ended: {ran.ended}")

        self.world.spawn("runner", body, delay=delay, skew=self.skew(), lives=RUNNER_LIVES)

    def sweep(self, delay: int = 0, scope: Scope | None = None) -> None:
        """A tick of the schedule."""

        def body(actor: Actor) -> None:
            clock = self.clock(actor)
            ends = clock.now() + SWEEPER_LIVES
            sweeper = Sweeper(self.store(), self.handoff(), clock, self.policy, Events(), page=2)
            try:
                sweeper.sweep(lambda: ends - clock.now(), scope or Scope(lookahead_ms=75_000))
            except StoreError:
                return

        self.world.spawn("sweeper", body, delay=delay, skew=self.skew(), lives=SWEEPER_LIVES)

    def operate(self, verb: str, job_id: str, delay: int = 0) -> None:
        """An operator cancels, redrives or forgets."""

        def body(actor: Actor) -> None:
            operations = Operations(self.store(), self.handoff(), self.clock(actor), self.policy, Events())
            try:
                if verb == "cancel":
                    record = operations.cancel(job_id)
                    if record is not None and record.status is Status.CANCELLED:
                        self.checker.stories[job_id].cancel_told = True
                elif verb == "redrive":
                    operations.redrive(job_id)
                else:
                    operations.forget(job_id)
            except (StoreError, KeyTaken):
                return

        self.world.spawn("operator", body, delay=delay, skew=self.skew(), lives=300_000)

    def deploy(self, registry: Registry, delay: int) -> None:
        """From then on runners start with this code."""

        def swap() -> None:
            self.deployed = registry

        self.world.at(delay, swap)

    def snoozed(self, job_id: str) -> int:
        self.snoozes[job_id] = self.snoozes.get(job_id, 0) + 1
        return self.snoozes[job_id]

    # --- the play ---

    def play(self, minutes: int) -> None:
        """Chaos for so long, then calm: no faults, punctual ticks, until nothing is left to do."""
        world = self.world
        try:
            world.play(EPOCH + minutes * _MINUTE)
            self.faults.on = False
            self.deployed = self.known
            world.note("calm")
            for _ in range(180):
                self.sweep()
                world.play(world.now + TICK)
                if all(row.status.is_ended for row in self.rows()) and not world.busy:
                    break
            world.play()
            self.checker.settled_down(self.memory)
        finally:
            world.close()

    def rows(self) -> Iterator[JobRecord]:
        return iter(self.memory.jobs.values())


@contextmanager
def story(stage: Stage) -> Iterator[Stage]:
    """Print the history of a schedule that broke a law."""
    try:
        yield stage
    except BaseException:
        print("\n".join(stage.world.history[-120:]))
        raise
