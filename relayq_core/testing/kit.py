"""The kit for users' tests: assert what was dispatched, run it, move the time, and cause faults."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from relayq_core import api
from relayq_core.client import RelayQ
from relayq_core.engine.dispatcher import Dispatched
from relayq_core.engine.runner import Runner
from relayq_core.engine.sweeper import Scope
from relayq_core.errors import Seconds
from relayq_core.events.listeners import JobEvent, events
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import JobRequest
from relayq_core.model.options import Options
from relayq_core.model.record import JobRecord
from relayq_core.ports import JobStore
from relayq_core.settings import Settings
from relayq_core.testing import matching
from relayq_core.testing.clock import ManualClock, StandingNow, convert_to_milliseconds
from relayq_core.testing.faults import Moment, RunnerKilled, build_dying_store
from relayq_core.testing.handoff import Offer, RecordingHandoff
from relayq_core.testing.matching import Expected
from relayq_core.testing.memory import MemoryStore
from relayq_core.testing.performing import perform, run_outside_loop

#: The timeouts of sweeper and runner on Lambda, in seconds.
_SWEEPER_SECONDS = 150
_RUNNER_SECONDS = 900
#: More runs than this mean that jobs dispatch each other without end.
_MOST_RUNS = 1_000


class JobsWithoutEnd(BaseException):
    """Jobs dispatch each other without end. A BaseException, because dispatch() swallows errors of a handoff."""


class _InFlight(RecordingHandoff):
    """Records each handoff, and keeps those that have not arrived yet, each with its moment."""

    def __init__(self, on_offer: Callable[[], None]) -> None:
        super().__init__()
        self._on_offer = on_offer
        self._numbers = itertools.count()
        self._flying: list[tuple[int, int, Offer]] = []
        #: how many times the next one arrives
        self.copies = 1

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Send the offer off, once unless the kit causes a fault."""
        super().offer(job_id, queue, run_at, name=name, here=here)
        copies, self.copies = self.copies, 1
        for _ in range(copies):
            heapq.heappush(self._flying, (run_at, next(self._numbers), self.offers[-1]))
        self._on_offer()

    @property
    def next_at(self) -> int | None:
        """The moment at which the next one arrives."""
        return self._flying[0][0] if self._flying else None

    def land(self) -> Offer:
        """Remove and return the next offer."""
        return heapq.heappop(self._flying)[-1]


class _RelayQ(RelayQ):
    """RelayQ whose clock reaches a moment that has passed in real time."""

    def dispatch(self, job: Any, args: Mapping[str, Any] | None = None, **options: Any) -> Dispatched:
        at = Options.validate(**options).at if options.get("at") is not None else None
        if at is None and isinstance(job, JobRequest):
            at = job.options.at
        if at is not None and isinstance(self.clock, StandingNow):
            self.clock.reach(at)
        return super().dispatch(job, args, **options)


class Kit:
    """RelayQ for tests: real dispatch, claim, lease, retries and settling, on a store of your choice.

    `inline`: a due job runs as soon as it is handed off, inside dispatch(); otherwise `drain()` runs it. Keyword
    arguments are those of Settings. Its parts are `relayq`, `store`, `clock` and `handoff`.
    """

    def __init__(
        self, *, inline: bool = False, store: JobStore | None = None, clock: ManualClock | None = None, **settings: Any
    ) -> None:
        self.clock = clock or StandingNow()
        self.store: JobStore = store or MemoryStore(self.clock)
        self.handoff = _InFlight(self._run_inline)
        values = {"jobs_table": "jobs", "failed_table": "failed", "runner_function": "runner", **settings}
        # as in the template, so that tests too report a timeout that can never fit
        values.setdefault("runner_timeout_seconds", _RUNNER_SECONDS)
        self.relayq: RelayQ = _RelayQ(Settings(**values), store=self.store, handoff=self.handoff, clock=self.clock)
        self._inline = inline
        self._is_delivering = False
        self._dispatched: list[JobRecord] = []
        self._death: Moment | None = None

    @contextmanager
    def installed(self) -> Iterator[Kit]:
        """While the block runs, make `dispatch()`, `get()` and `cancel()` those of this kit. Yield the kit."""

        def note(event: JobEvent) -> None:
            self._dispatched.append(event.job)

        former = api.use(self.relayq)
        events.on("dispatched")(note)
        try:
            yield self
        finally:
            events.off(note)
            api.use(former)

    def get(self, job_id: str) -> JobRecord:
        """Return the job's current record. Raises LookupError if there is none."""
        record = self.relayq.get(job_id)
        if record is None:
            raise LookupError(f"there is no job {job_id!r}")
        return record

    # --- what was dispatched ---

    def all_dispatched(self, job: Expected | None = None, /, **args: Any) -> list[JobRecord]:
        """Return the records of all dispatches so far, as they were written, in order; or of those that match.

        `job` and `args` are as in `assert_dispatched`. A refused duplicate counts as not dispatched.
        """
        if job is None:
            return list(self._dispatched)
        expected = matching.build_expectation(job, args)
        return [record for record in self._dispatched if expected.matches(record)]

    def assert_dispatched(self, job: Expected, /, **args: Any) -> list[JobRecord]:
        """Fail unless such a job was dispatched; return the records of all that match.

        `job` is a name, a job class or a function, and its payload must contain `args`; or a job object, whose payload
        must be equal. Raises AssertionError, which says what was dispatched instead.
        """
        matches = self.all_dispatched(job, **args)
        if not matches:
            raise AssertionError(matching.describe_absence(matching.build_expectation(job, args), self._dispatched))
        return matches

    def refute_dispatched(self, job: Expected | None = None, /, **args: Any) -> None:
        """Fail if such a job was dispatched; without `job`, if anything was."""
        matches = self.all_dispatched(job, **args)
        if matches:
            expected = "anything" if job is None else str(matching.build_expectation(job, args))
            raise AssertionError(matching.describe_presence(expected, matches))

    # --- run jobs ---

    def perform(self, job: Any, args: Mapping[str, Any] | None = None, *, attempt: int = 1) -> Any:
        """Run one job's handler by itself; return what it returns, and raise what it raises. Writes nothing."""
        return perform(job, args, attempt=attempt, clock=self.clock)

    def run(self, job_id: str, run_at: int | None = None, *, name: str | None = None) -> JobRecord | None:
        """Run one job once, as the runner function does; return its record as it is now, or None if it is gone.

        `run_at` (epoch milliseconds) and `name` are those of a handoff.
        """
        runner, self._death = self._build_runner(self._death), None
        with suppress(RunnerKilled):
            run_outside_loop(lambda: runner.run(job_id, run_at, self.clock.countdown(seconds=_RUNNER_SECONDS), name))
        return self.relayq.get(job_id)

    def _build_runner(self, death: Moment | None) -> Runner:
        if death is None:
            return self.relayq.runner
        store = build_dying_store(self.store, death)
        return Runner(store, self.handoff, self.clock, self.relayq.policy, registry, events)

    def drain(self, *, delayed: bool = False, limit: int = _MOST_RUNS) -> list[JobRecord]:
        """Deliver every due handoff, and those that these runs cause; return the jobs that ran, as they are now.

        `delayed`: also run what waits for a delay, a retry or the sweeper, until every job has ended; the time moves on
        to each. Raises AssertionError after `limit` runs or sweeps, as jobs that dispatch each other never end.
        """
        ran: list[str] = []
        for _ in range(limit):
            moment = self._next_moment() if delayed else self.handoff.next_at
            if moment is None or (moment > self.clock.now() and not delayed):
                return [job for job_id in dict.fromkeys(ran) if (job := self.relayq.get(job_id)) is not None]
            self.clock.sleep(moment - self.clock.now())
            try:
                delivered = self._deliver(limit)
            except JobsWithoutEnd:
                break
            ran += delivered
            if not delivered:
                self.sweep()
        waiting = "\n".join(f"  {matching.describe_dispatch(job)}" for job in self.relayq.live(limit=20))
        raise AssertionError(f"after {limit} runs and sweeps there is still more to do:\n{waiting}")

    def sweep(self) -> dict[str, int]:
        """Sweep once, as the schedule does; return how many jobs were nudged, released and so on."""
        return dict(self.relayq.sweeper.sweep(self.clock.countdown(seconds=_SWEEPER_SECONDS), Scope()).counts)

    def time_travel(self, seconds: Seconds = 0, **duration: float) -> None:
        """Move on by seconds, a timedelta, or the arguments of one: `time_travel(minutes=5)`.

        On the way the sweeper handles what becomes due; an inline kit runs each job at its moment.
        """
        end = self.clock.now() + convert_to_milliseconds(seconds, **duration)
        while (moment := self._next_moment(sweeps_only=not self._inline)) is not None and moment <= end:
            self.clock.sleep(moment - self.clock.now())
            if not (self._inline and self._deliver(_MOST_RUNS)):
                self.sweep()
        self.clock.sleep(end - self.clock.now())

    def _next_moment(self, *, sweeps_only: bool = False) -> int | None:
        """Return when the next handoff arrives or the next row is due for the sweeper; None if neither will."""
        handoff = None if sweeps_only else self.handoff.next_at
        due = [job.due_at for job in self.relayq.live(limit=1) if job.due_at is not None]
        moments = [moment for moment in (handoff, *due) if moment is not None]
        return max(min(moments), self.clock.now()) if moments else None

    def _run_inline(self) -> None:
        if self._inline:
            self._deliver(_MOST_RUNS)

    def _deliver(self, limit: int) -> list[str]:
        """Run the due handoffs and return the ids; what a handler dispatches runs after it, not inside it."""
        ran: list[str] = []
        if self._is_delivering:
            return ran
        self._is_delivering = True
        try:
            while (moment := self.handoff.next_at) is not None and moment <= self.clock.now():
                if len(ran) >= limit:
                    raise JobsWithoutEnd(f"{limit} jobs have run, and they dispatched still more")
                offer = self.handoff.land()
                ran.append(offer.job_id)
                self.run(offer.job_id, offer.run_at, name=offer.name)
        finally:
            self._is_delivering = False
        return ran

    # --- faults ---

    def deliver_twice(self) -> None:
        """Let the next handoff arrive twice, as Lambda's may: the job must run once."""
        self.handoff.copies = 2

    def lose_handoff(self) -> None:
        """Lose the next handoff after accepting it: the sweeper must start the job."""
        self.handoff.copies = 0

    def crash_runner(self, when: Moment = "after") -> None:
        """Let the next run die like a killed process: after the handler ends, and before that is written.

        `when="before"`: before the handler begins. The sweeper finds the job once its lease has expired.
        """
        self._death = when


@contextmanager
def fake(**settings: Any) -> Iterator[Kit]:
    """While the block runs, write dispatches to memory; only `drain()` and `run()` run jobs. Yield the kit."""
    with Kit(**settings).installed() as kit:
        yield kit


@contextmanager
def inline(**settings: Any) -> Iterator[Kit]:
    """While the block runs, run each job as it is dispatched, through JSON and the real runner. Yield the kit."""
    with Kit(inline=True, **settings).installed() as kit:
        yield kit
