"""The kit that users test with: what was dispatched, running it, moving the time, and faults at a test's wish."""

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
from relayq_core.testing.clock import ManualClock, StandingNow, milliseconds
from relayq_core.testing.faults import Moment, RunnerKilled, dying
from relayq_core.testing.handoff import Offer, RecordingHandoff
from relayq_core.testing.matching import Expected
from relayq_core.testing.memory import MemoryStore
from relayq_core.testing.performing import apart_from_loops, perform

#: A sweep and an invocation of the runner live as long as on Lambda (seconds).
_SWEEPER_LIVES = 150
_RUNNER_LIVES = 900
#: Jobs that dispatch each other for ever are a defect of theirs.
_MOST_RUNS = 1_000


class JobsWithoutEnd(BaseException):
    """Jobs dispatch each other for ever. No Exception: dispatch() lets no failure of a handoff through."""


class _InFlight(RecordingHandoff):
    """Remembers each handoff; those that have not arrived yet are in flight, each with its moment."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        super().__init__()
        self._arrived = arrived
        self._numbers = itertools.count()
        self._flying: list[tuple[int, int, Offer]] = []
        #: how often the next one arrives
        self.copies = 1

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Send it off: once, unless the kit was asked for a fault."""
        super().offer(job_id, queue, run_at, name=name, here=here)
        copies, self.copies = self.copies, 1
        for _ in range(copies):
            heapq.heappush(self._flying, (run_at, next(self._numbers), self.offers[-1]))
        self._arrived()

    @property
    def next_at(self) -> int | None:
        """The moment of the next one."""
        return self._flying[0][0] if self._flying else None

    def land(self) -> Offer:
        """The next one; it is in flight no longer."""
        return heapq.heappop(self._flying)[-1]


class _RelayQ(RelayQ):
    """RelayQ, for which a moment that is past has come, though the kit's clock stands."""

    def dispatch(self, job: Any, args: Mapping[str, Any] | None = None, **options: Any) -> Dispatched:
        at = Options.validate(**options).at if options.get("at") is not None else None
        if at is None and isinstance(job, JobRequest):
            at = job.options.at
        if at is not None and isinstance(self.clock, StandingNow):
            self.clock.reach(at)
        return super().dispatch(job, args, **options)


class Kit:
    """RelayQ for tests: real dispatch, claim, lease, retries and settling, on a store of your choice.

    `inline`: a job that is due is run as soon as it is handed off, inside dispatch(); else by `drain()`. Keyword
    arguments are those of Settings. The parts are at hand: `relayq`, `store`, `clock` and `handoff`.
    """

    def __init__(
        self, *, inline: bool = False, store: JobStore | None = None, clock: ManualClock | None = None, **settings: Any
    ) -> None:
        self.clock = clock or StandingNow()
        self.store: JobStore = store or MemoryStore(self.clock)
        self.handoff = _InFlight(self._arrived)
        named = {"jobs_table": "jobs", "failed_table": "failed", "runner_function": "runner", **settings}
        # as the template has it: a timeout that can never fit is told in tests, too
        named.setdefault("runner_timeout_seconds", _RUNNER_LIVES)
        self.relayq: RelayQ = _RelayQ(Settings(**named), store=self.store, handoff=self.handoff, clock=self.clock)
        self._inline = inline
        self._delivers = False
        self._dispatched: list[JobRecord] = []
        self._death: Moment | None = None

    @contextmanager
    def installed(self) -> Iterator[Kit]:
        """Inside, `dispatch()`, `get()` and `cancel()` are this kit's, and it sees what is dispatched."""

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
        """The job as it now is. Raises LookupError where there is none: a test that asks expects one."""
        record = self.relayq.get(job_id)
        if record is None:
            raise LookupError(f"there is no job {job_id!r}")
        return record

    # --- what was dispatched ---

    def all_dispatched(self, job: Expected | None = None, /, **args: Any) -> list[JobRecord]:
        """Everything that was dispatched so far, as it was written, in order; or only what is like this.

        A duplicate that was turned away is not dispatched.
        """
        if job is None:
            return list(self._dispatched)
        expected = matching.expectation(job, args)
        return [record for record in self._dispatched if expected.meets(record)]

    def assert_dispatched(self, job: Expected, /, **args: Any) -> list[JobRecord]:
        """Fail unless such a job was dispatched; answers with all that are like it, to look at further.

        `job` is a name, a job class or function, whose payload must hold `args`; or a job that was made, whose
        payload must be equal. The failure says what was dispatched instead.
        """
        like_it = self.all_dispatched(job, **args)
        if not like_it:
            raise AssertionError(matching.not_found(matching.expectation(job, args), self._dispatched))
        return like_it

    def refute_dispatched(self, job: Expected | None = None, /, **args: Any) -> None:
        """Fail if such a job was dispatched; without one, if anything was."""
        like_it = self.all_dispatched(job, **args)
        if like_it:
            what = "anything" if job is None else str(matching.expectation(job, args))
            raise AssertionError(matching.found(what, like_it))

    # --- running it ---

    def perform(self, job: Any, args: Mapping[str, Any] | None = None, *, attempt: int = 1) -> Any:
        """Run one job's handler by itself: what it returns, or what it raises. Nothing is written."""
        return perform(job, args, attempt=attempt, clock=self.clock)

    def run(self, job_id: str, run_at: int | None = None, *, name: str | None = None) -> JobRecord | None:
        """Run one job once, as the runner function does; the job as it then is.

        `run_at` (epoch milliseconds) and `name` are what a handoff says of it.
        """
        runner, self._death = self._runner(self._death), None
        with suppress(RunnerKilled):
            apart_from_loops(lambda: runner.run(job_id, run_at, self.clock.countdown(seconds=_RUNNER_LIVES), name))
        return self.relayq.get(job_id)

    def _runner(self, death: Moment | None) -> Runner:
        if death is None:
            return self.relayq.runner
        return Runner(dying(self.store, death), self.handoff, self.clock, self.relayq.policy, registry, events)

    def drain(self, *, delayed: bool = False, limit: int = _MOST_RUNS) -> list[JobRecord]:
        """Let every handoff arrive whose moment has come, and those that these runs make; the jobs as they then are.

        `delayed`: also what waits for a delay, a retry or the sweeper, until every job has ended: the time moves on to
        each. Raises AssertionError after `limit` runs or sweeps: jobs that dispatch each other have no end.
        """
        ran: list[str] = []
        for _ in range(limit):
            moment = self._next_moment() if delayed else self.handoff.next_at
            if moment is None or (moment > self.clock.now() and not delayed):
                return [job for job_id in dict.fromkeys(ran) if (job := self.relayq.get(job_id)) is not None]
            self.clock.sleep(moment - self.clock.now())
            try:
                ran += self._deliver(limit) or self._swept()
            except JobsWithoutEnd:
                break
        waiting = "\n".join(f"  {matching.told(job)}" for job in self.relayq.live(limit=20))
        raise AssertionError(f"after {limit} runs and sweeps there is still more to do:\n{waiting}")

    def sweep(self) -> dict[str, int]:
        """Sweep once, as a tick of the schedule does at this moment; what it did, counted."""
        return dict(self.relayq.sweeper.sweep(self.clock.countdown(seconds=_SWEEPER_LIVES), Scope()).counts)

    def time_travel(self, seconds: Seconds = 0, **duration: float) -> None:
        """Move on by seconds or a timedelta, or by what a timedelta takes: `time_travel(minutes=5)`.

        On the way the sweeper looks after whatever comes due; an inline kit runs it, each job at its moment.
        """
        arrives = self.clock.now() + milliseconds(seconds, **duration)
        while (moment := self._next_moment(sweeps_only=not self._inline)) is not None and moment <= arrives:
            self.clock.sleep(moment - self.clock.now())
            if not (self._inline and self._deliver(_MOST_RUNS)):
                self.sweep()
        self.clock.sleep(arrives - self.clock.now())

    def _next_moment(self, *, sweeps_only: bool = False) -> int | None:
        """When next something happens by itself: a handoff arrives, or a row is due for the sweeper to look at."""
        handoff = None if sweeps_only else self.handoff.next_at
        due = [job.due_at for job in self.relayq.live(limit=1) if job.due_at is not None]
        moments = [moment for moment in (handoff, *due) if moment is not None]
        return max(min(moments), self.clock.now()) if moments else None

    def _swept(self) -> list[str]:
        self.sweep()
        return []

    def _arrived(self) -> None:
        if self._inline:
            self._deliver(_MOST_RUNS)

    def _deliver(self, limit: int) -> list[str]:
        """Run what was handed off and whose moment has come; what a handler dispatches comes after it, not inside."""
        ran: list[str] = []
        if self._delivers:
            return ran
        self._delivers = True
        try:
            while (moment := self.handoff.next_at) is not None and moment <= self.clock.now():
                if len(ran) >= limit:
                    raise JobsWithoutEnd(f"{limit} jobs have run, and these have dispatched still more")
                offer = self.handoff.land()
                ran.append(offer.job_id)
                self.run(offer.job_id, offer.run_at, name=offer.name)
        finally:
            self._delivers = False
        return ran

    # --- faults ---

    def deliver_twice(self) -> None:
        """The next handoff arrives twice, as Lambda's may: the job must run once."""
        self.handoff.copies = 2

    def lose_handoff(self) -> None:
        """The next handoff is accepted and never arrives: the sweeper must start the job."""
        self.handoff.copies = 0

    def crash_runner(self, when: Moment = "after") -> None:
        """The next run dies like a killed process: after its handler has done its work, before that is written down.

        `when="before"`: it dies before the handler begins. Once its lease has run out the sweeper finds the job.
        """
        self._death = when


@contextmanager
def fake(**settings: Any) -> Iterator[Kit]:
    """Inside, dispatches are written to memory and nothing runs but by `drain()` or `run()`."""
    with Kit(**settings).installed() as kit:
        yield kit


@contextmanager
def inline(**settings: Any) -> Iterator[Kit]:
    """Inside, a job runs as soon as it is dispatched, through JSON and the real runner, on tables in memory."""
    with Kit(inline=True, **settings).installed() as kit:
        yield kit
