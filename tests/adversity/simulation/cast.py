"""The cast: dispatchers, runners, sweepers, workers and operators, each running the real code against faulty ports."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from relayq_core.engine.dispatch_many import BulkDispatcher
from relayq_core.engine.dispatcher import Dispatched, Dispatcher, Prepared
from relayq_core.engine.runner import Runner
from relayq_core.engine.sweeper import Scope, Sweeper
from relayq_core.errors import DispatchIncomplete, DispatchUnknown, KeyTaken, StoreError
from relayq_core.events.listeners import Events, JobEvent
from relayq_core.jobs.lineage import current_job
from relayq_core.jobs.registry import Registry
from relayq_core.jobs.request import JobRequest, resolve_request
from relayq_core.model import record as records
from relayq_core.model.backoff import Fixed
from relayq_core.model.options import NO_OPTIONS, Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, Status, build_unique_pk
from relayq_core.operations.jobs import Operations
from relayq_core.process.concurrency import spread_serially
from relayq_core.testing import MemoryStore
from tests.adversity.simulation.book import Promised
from tests.adversity.simulation.checker import Checker
from tests.adversity.simulation.faulty import FaultyHandoff, FaultyStore, LaggingIndex
from tests.adversity.simulation.scripts import SimType, payload
from tests.adversity.simulation.workers import work
from tests.adversity.simulation.world import EPOCH, Actor, Faults, SimClock, World

QUEUE, OTHER_QUEUE = "q", "r"
#: Lambda's: the runner's and the sweeper's time-outs, milliseconds.
RUNNER_LIVES = 900_000
SWEEPER_LIVES = 150_000
TICK = 60_000
_MINUTE = 60_000
#: Lambda keeps an invocation for this long while no runner is free, and tries it at these intervals.
_EVENT_AGE = 300_000
_TRY_AGAIN = 10_000
_HEARD = ("dispatched", "processed", "failed", "snoozed", "started", "cancelled")
_CALM_TICKS = 180


class _Naming(Dispatcher):
    """Gives its jobs the ids that a schedule knows them by, as if they were its own."""

    def __init__(self, *parts: Any, names: list[str], **options: Any) -> None:
        super().__init__(*parts, **options)
        self._names = names

    def prepare(self, request: JobRequest, call: Options = NO_OPTIONS) -> Prepared:
        prepared = super().prepare(request, call)
        return prepared._replace(record=prepared.record.evolve(id=self._names.pop(0)))


class Stage:
    """One schedule: the shared tables, and everybody who may act on them."""

    def __init__(self, seed: int, faults: Faults, *, policy: Policy | None = None, most_skew: int = 0) -> None:
        self.seed = seed
        self.world = World(seed)
        self.faults = faults
        self.most_skew = most_skew
        self.policy = policy or Policy(max_attempts=3, backoff=Fixed(5), timeout_ms=None)
        self.memory = MemoryStore(SimClock(self.world))
        self.index = LaggingIndex(self.world, faults)
        self.checker = Checker(self.world, most_skew=most_skew, promised=self.promised)
        self.known = Registry()
        self.known.register(SimType(self))
        #: a type that says how often and how soon it is tried; callers without the code know nothing of it
        patient = Options(timeout=60.0, max_attempts=5, backoff=Fixed(3))
        self.known.register(SimType(self, "patient", patient))
        self.unknown = Registry()
        self.deployed: Registry = self.known
        self.snoozes: dict[str, int] = {}
        self.died_in_failed: set[str] = set()
        self.ids: list[str] = []
        #: how long a random schedule's chaos lasts
        self.minutes = 5
        self.shards = 1
        #: how many runners may run at once; None: any number
        self.slots: int | None = None
        #: how long a listener takes, milliseconds
        self.listens_for = 0
        #: what a cold start may use up of an invocation's time before the runner is called, milliseconds
        self.cold_starts: tuple[int, ...] = (0,)

    def knows_untimed(self) -> None:
        """Runners also know a type without a timeout: every lease is as long as its runner lives."""
        self.known.register(SimType(self, "untimed", Options()))

    # --- parts ---

    def clock(self, actor: Actor) -> SimClock:
        return SimClock(self.world, actor, self._allowed)

    def store(self) -> FaultyStore:
        return FaultyStore(self.world, self.memory, self.index, self.faults, self.checker)

    def handoff(self) -> FaultyHandoff:
        return FaultyHandoff(self.world, self.faults, self.deliver)

    def skew(self) -> int:
        return self.world.random.randint(-self.most_skew, self.most_skew) if self.most_skew else 0

    def events(self, actor: Actor) -> Events:
        """Listeners that judge what they hear, and take their time."""
        events = Events()

        def listen(event: JobEvent) -> None:
            self.checker.answers.heard(event)
            if self.listens_for:
                self.clock(actor).sleep(self.listens_for)

        for kind in _HEARD:
            events.on(kind)(listen)
        return events

    def promised(self, record: JobRecord) -> Promised:
        """What the row, else its type, else the settings promise a job."""
        known = self.known.get(record.name)
        of_type = Options() if known is None else known.options
        without_type = record.backoff or self.policy.backoff
        return Promised(
            record.max_attempts or of_type.max_attempts or self.policy.max_attempts,
            record.backoff or of_type.backoff or self.policy.backoff,
            without_type,
        )

    def dispatcher(
        self, actor: Actor, kind: type[Dispatcher] = Dispatcher, *, by_name: bool = False, **more: Any
    ) -> Dispatcher:
        return kind(
            self.store(),
            self.handoff(),
            self.clock(actor),
            self.policy,
            self.unknown if by_name else self.known,
            self.events(actor),
            default_queue=QUEUE,
            max_depth=100,
            **more,
        )

    def runner(self, actor: Actor) -> Runner:
        """A runner with the code that is deployed now; its clock stops its handlers."""
        clock = self.clock(actor)
        policy = self.policy.evolve(renews=True) if actor.renews else self.policy
        return Runner(
            self.store(), self.handoff(), clock, policy, self.deployed, self.events(actor), deadline=clock.stop
        )

    def _allowed(self, actor: Actor, ends: int) -> None:
        record = current_job.get()
        if record is not None and actor.kind == "runner":
            self.checker.handlers.allowed(actor, record, ends)

    # --- actors ---

    def dispatch(
        self,
        script: list[str],
        *,
        delay: int = 0,
        options_delay: float | None = None,
        again: bool = True,
        name: str = "scripted",
        by_name: bool = False,
        queue: str = QUEUE,
        failed: str = "",
        ahead: int | None = None,
        **options: Any,
    ) -> None:
        """A caller dispatches a scripted job; one whose outcome is unknown does it again with the same id.

        `by_name`: the caller has none of the job's code; `failed`: what the job's failed() does; `ahead`: how many
        milliseconds the caller's clock is ahead of the true time.
        """
        wanted = f"job{len(self.ids) + 1}"
        self.ids.append(wanted)
        key = options.get("unique")
        self.checker.asks_for(wanted, options_delay)

        def body(actor: Actor) -> None:
            given = Options.validate(job_id=wanted, queue=queue, delay=options_delay, **options)
            since = self.world.now
            for _ in range(3 if again else 1):
                try:
                    dispatcher = self.dispatcher(actor, by_name=by_name)
                    registry = self.unknown if by_name else self.known
                    request = resolve_request(name, payload(script, failed), registry)
                    answer = dispatcher.dispatch(request, given)
                except DispatchUnknown:
                    continue
                except StoreError:
                    return
                self._answered(wanted, answer, None if key is None else build_unique_pk(name, key), since)
                return

        skew = self.skew() if ahead is None else ahead
        self.world.spawn("dispatcher", body, delay=delay, skew=skew, lives=120_000)

    def dispatch_many(self, scripts: list[list[str]], *, delay: int = 0, unique: str | None = None) -> None:
        """A caller dispatches several jobs in one call; the last one has the unique key."""
        wanted = [f"job{len(self.ids) + number}" for number in range(1, len(scripts) + 1)]
        self.ids += wanted

        def body(actor: Actor) -> None:
            requests = [
                JobRequest(
                    "scripted", json.dumps(payload(script)), Options.validate(queue=QUEUE), self.known["scripted"]
                )
                for script in scripts
            ]
            if unique is not None:
                requests[-1] = requests[-1].with_options(unique=unique)
            store, since = self.store(), self.world.now
            dispatcher = self.dispatcher(actor, _Naming, names=list(wanted))
            try:
                with spread_serially() as spread:
                    batch = BulkDispatcher(store, dispatcher, self.known, spread)
                    outcomes: list[object] = [*batch.dispatch(requests)]
            except DispatchIncomplete as incomplete:
                outcomes = incomplete.outcomes
            except StoreError:
                return
            for job_id, outcome in zip(wanted, outcomes, strict=True):
                if isinstance(outcome, Dispatched):
                    self._answered(
                        job_id, outcome, None if unique is None else build_unique_pk("scripted", unique), since
                    )

        self.world.spawn("dispatcher", body, delay=delay, skew=self.skew(), lives=120_000)

    def dispatch_inside(self, actor: Actor, step: str) -> None:
        """A handler dispatches a job of its own."""
        wanted = f"job{len(self.ids) + 1}"
        self.ids.append(wanted)
        given = Options.validate(job_id=wanted, queue=QUEUE)
        request = resolve_request("scripted", payload([step or "ok"]), self.known)
        answer = self.dispatcher(actor).dispatch(request, given)
        self._answered(wanted, answer, None, self.world.now)

    def _answered(self, job_id: str, answer: Dispatched, pk: str | None, since: int) -> None:
        self.checker.answers.dispatched(job_id, answer.job_id, duplicate=answer.duplicate, pk=pk, since=since)

    def deliver(self, job_id: str, run_at: int, delay: int, name: str | None = None) -> None:
        """A handoff arrives: Lambda starts a runner, or keeps it a while where all that may run are busy."""
        if self.slots is None:
            self._start_runner(job_id, run_at, delay, name)
        else:
            self.world.at(delay, lambda: self._start_when_free(job_id, run_at, name, self.world.now + _EVENT_AGE))

    def _start_when_free(self, job_id: str, run_at: int, name: str | None, until: int) -> None:
        busy = sum(actor.kind == "runner" and not actor.renews for actor in self.world.actors)
        if busy < (self.slots or 0):
            self._start_runner(job_id, run_at, 0, name)
        elif self.world.now < until:
            self.world.at(_TRY_AGAIN, lambda: self._start_when_free(job_id, run_at, name, until))

    def _start_runner(self, job_id: str, run_at: int, delay: int, name: str | None) -> None:
        def body(actor: Actor) -> None:
            ends = self.world.now + RUNNER_LIVES - self.world.random.choice(self.cold_starts)
            try:
                ran = self.runner(actor).run(job_id, run_at, lambda: ends - self.world.now, name)
            except StoreError:
                return
            self.world.note(f"{actor.name} ended: {ran.ended}")

        self.world.spawn("runner", body, delay=delay, skew=self.skew(), lives=RUNNER_LIVES)

    def work(self, delay: int, *, leaves_after: int, slots: int = 2) -> None:
        """A worker runs beside the runners for a while."""

        def body(actor: Actor) -> None:
            work(self, actor, slots=slots, leaves_after=leaves_after, hurries_after=leaves_after + 80_000)

        self.world.spawn("worker", body, delay=delay, skew=self.skew(), lives=leaves_after + 110_000)

    def sweep(self, delay: int = 0, scope: Scope | None = None) -> None:
        """A tick of the schedule."""

        def body(actor: Actor) -> None:
            clock = self.clock(actor)
            ends = self.world.now + SWEEPER_LIVES
            sweeper = Sweeper(self.store(), self.handoff(), clock, self.policy, self.events(actor), page=2)
            try:
                sweeper.sweep(lambda: ends - self.world.now, scope or Scope(lookahead_ms=75_000))
            except StoreError:
                return

        self.world.spawn("sweeper", body, delay=delay, skew=self.skew(), lives=SWEEPER_LIVES)

    def operate(self, verb: str, job_id: str, delay: int = 0) -> None:
        """An operator cancels, redrives, forgets, or asks for a job."""

        def body(actor: Actor) -> None:
            operations = Operations(self.store(), self.handoff(), self.clock(actor), self.policy, self.events(actor))
            try:
                match verb:
                    case "cancel":
                        record = operations.cancel(job_id)
                        if record is not None and record.status is Status.CANCELLED:
                            self.checker.book.stories[job_id].cancel_acknowledged = True
                    case "redrive":
                        operations.redrive(job_id)
                    case "forget":
                        operations.forget(job_id)
                    case "get":
                        self._look_for(job_id, operations)
            except (StoreError, KeyTaken):
                return

        self.world.spawn("operator", body, delay=delay, skew=self.skew(), lives=300_000)

    def _look_for(self, job_id: str, operations: Operations) -> None:
        question = self.checker.answers.asks(job_id)
        found = operations.get(job_id)
        rows = (self.memory.jobs.get(job_id), self.memory.failures.get(job_id))
        expired = any(row is not None and (row.expires_at or 1 << 53) <= self.world.now // 1000 for row in rows)
        self.checker.answers.found(question, found, expired=expired)

    def expire(self, delay: int) -> None:
        """TTL deletes what has expired by then."""
        self.world.at(delay, self._expire)

    def _expire(self) -> None:
        seconds = self.world.now // 1000
        for job_id, row in list(self.memory.jobs.items()):
            if row.expires_at is not None and row.expires_at <= seconds:
                self.checker.rows.expires(row)
                del self.memory.jobs[job_id]
        for pk, key in list(self.memory._keys.items()):
            if key.expires_at is not None and key.expires_at <= seconds:
                del self.memory._keys[pk]

    def spoil(self, job_id: str, delay: int, *, lasts: int) -> None:
        """An edit by hand leaves a row that cannot be read; later it is mended."""
        self.checker.pace.most_late_ms = None

        def spoil() -> None:
            if job_id in self.memory.jobs:
                self.memory.spoil(job_id)

        self.world.at(delay, spoil)
        self.world.at(delay + lasts, lambda: self.memory._spoilt.discard(job_id))

    def set_clocks(self, delay: int) -> None:
        """All clocks are set, while their actors run."""
        self.checker.book.clocks_step = True

        def set_all() -> None:
            for actor in self.world.actors:
                actor.skew = self.skew()

        self.world.at(delay, set_all)

    def deploy(self, registry: Registry, delay: int) -> None:
        """From then on runners start with this code."""

        def swap() -> None:
            self.deployed = registry

        self.world.at(delay, swap)

    def snoozed(self, job_id: str) -> int:
        self.snoozes[job_id] = self.snoozes.get(job_id, 0) + 1
        return self.snoozes[job_id]

    def dies_in_failed(self, job_id: str) -> bool:
        """A runner dies in the job's failed(), once."""
        first = job_id not in self.died_in_failed
        self.died_in_failed.add(job_id)
        return first

    # --- the play ---

    def play(self, minutes: int) -> None:
        """Chaos for this long, then calm: no faults, punctual ticks, until nothing is left to do."""
        world, shards = self.world, records.SHARDS
        records.SHARDS = self.shards
        random.seed(self.seed)  # what RelayQ itself draws: jitter, and where a sweep begins
        try:
            world.play(EPOCH + minutes * _MINUTE)
            self._calm()
            for _ in range(_CALM_TICKS):
                self.sweep()
                world.play(world.now + TICK)
                if all(row.status.is_ended for row in self.rows()) and not world.busy:
                    break
            world.play()
            self.checker.settled_down(self.memory)
        finally:
            records.SHARDS = shards
            world.close()

    def _calm(self) -> None:
        self.faults.on = False
        self.deployed = self.known
        self.memory._spoilt.clear()
        self.world.note("calm")

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
