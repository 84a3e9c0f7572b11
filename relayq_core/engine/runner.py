"""Run: claim the job of one handoff, execute it, settle it."""

from __future__ import annotations

from collections.abc import Callable

from relayq_core.engine.attempt import Attempt, build_failure
from relayq_core.engine.claiming import Candidate, Claimer, Invocation
from relayq_core.engine.execution import Execution, HandlerDeadline, Parts, discard_run, settle_run
from relayq_core.engine.results import RunOutcome, RunResult
from relayq_core.engine.settler import Settler
from relayq_core.errors import StoreError, UnknownJob
from relayq_core.events.listeners import Events
from relayq_core.jobs.context import isolate, log_fields
from relayq_core.jobs.registry import Registry
from relayq_core.model import leases, settling
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.ports import Clock, Handoff, RunnerStore
from relayq_core.process.deadline import OuterAlarm, deadline
from relayq_core.process.loggers import logger


class Runner:
    """Runs one job per call. Once it has claimed it raises nothing but what an alarm of its caller's raises."""

    def __init__(
        self,
        store: RunnerStore,
        handoff: Handoff,
        clock: Clock,
        policy: Policy,
        registry: Registry,
        events: Events,
        *,
        deadline: HandlerDeadline = deadline,
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._registry = registry
        self._claimer = Claimer(store, handoff, clock, policy, registry)
        self._settler = Settler(store, handoff, clock, policy, events)
        self._parts = Parts(store, clock, policy, events, self._settler, deadline)

    def run(
        self,
        job_id: str,
        run_at: int | None,
        remaining: Callable[[], int],
        name: str | None = None,
        queue: str | None = None,
    ) -> RunResult:
        """Run the job, if it waits and its time has come or is near.

        `run_at` in epoch milliseconds; `remaining()` returns how many milliseconds this invocation has left. `name`
        and `queue` are the job's as the handoff has them: hints, which may be wrong or missing.
        Raises StoreError, and only before the claim.
        """
        invocation = Invocation(remaining)
        claimed = self._claimer.claim(Candidate(job_id, run_at or 0, name, queue), invocation)
        return self._execute(claimed, invocation) if isinstance(claimed, JobRecord) else RunResult(claimed)

    def run_claimed(self, claimed: JobRecord, remaining: Callable[[], int]) -> RunResult:
        """Run a job that a worker has claimed for this runner. Never raises."""
        return self._execute(claimed, Invocation(remaining))

    def _execute(self, claimed: JobRecord, invocation: Invocation) -> RunResult:
        if self._clock.now() >= leases.compute_latest_deadline(claimed, self._policy):
            return discard_run(self._settler, claimed)  # the claim's answer came when its lease was as good as over
        try:
            return isolate(self._execute_apart, claimed, invocation)
        except OuterAlarm as alarm:
            raise alarm.error from None
        except StoreError:
            logger.exception("the job could not be settled; its lease will run out", extra=log_fields(claimed))
        except Exception:
            logger.exception("a defect of RelayQ; the job's lease will run out", extra=log_fields(claimed))
        return RunResult(RunOutcome.UNSETTLED, claimed)

    def _execute_apart(self, claimed: JobRecord, invocation: Invocation) -> RunResult:
        job_type = self._registry.get(claimed.name)
        if job_type is None:
            return self._give_back_unknown(claimed, invocation)
        return Execution(self._parts, claimed, job_type, invocation).run()

    def _give_back_unknown(self, claimed: JobRecord, invocation: Invocation) -> RunResult:
        """Give a job back for a while whose name is not registered here: a deploy may be under way. Then bury it."""
        error = UnknownJob(claimed.name, self._registry)
        outcome = build_failure(error, final=True)
        now = self._clock.now()
        settlement = settling.give_back(claimed, self._policy, now=now) or settling.bury_with(
            claimed, outcome.error, outcome.summary, self._policy, now=now
        )
        return settle_run(self._settler, claimed, settlement, invocation, Attempt(outcome, error))
