"""Claim: wait for a job's moment without a lease, then take it with a lease as long as its type needs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from relayq_core.engine.results import RunOutcome
from relayq_core.errors import UnreadableRow
from relayq_core.jobs.registry import JobType, Registry
from relayq_core.model import bounds, leases
from relayq_core.model.bounds import LongestTimeout
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.ports import ClaimStore, Clock, Handoff
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error

#: A claim that is early by another machine's clock is tried again; this often in all.
_CLAIMS = 3


class Invocation:
    """One call of a runner: the time it had at its start, what it has left, and what it has spent waiting."""

    def __init__(self, remaining: Callable[[], int]) -> None:
        self.remaining = remaining
        self.total_ms = remaining()
        self.waited_ms = 0


@dataclass(slots=True)
class Candidate:
    """The job to claim: as its handoff describes it, then as each refused claim corrects that."""

    job_id: str
    run_at: int
    name: str | None
    queue: str | None


class Claimer:
    """Claims the jobs that are handed off to a runner."""

    def __init__(self, store: ClaimStore, handoff: Handoff, clock: Clock, policy: Policy, registry: Registry) -> None:
        self._store = store
        self._handoff = handoff
        self._clock = clock
        self._policy = policy
        self._registry = registry
        #: of all job types that were registered at this version of the registry
        self._longest_of_all: tuple[int, LongestTimeout] | None = None

    def claim(self, candidate: Candidate, invocation: Invocation) -> JobRecord | RunOutcome:
        """Sleep until the job's moment, then claim it. A runner that dies asleep has no lease, and loses nothing.

        Return the claimed job, or why it is not run here. Raises StoreError.
        """
        lease_id = secrets.token_hex(8)  # not before: a snapshot of the process may be restored many times
        for _ in range(_CLAIMS):
            job_type = None if candidate.name is None else self._registry.get(candidate.name)
            longest = self._find_longest_timeout(job_type)
            if (ended := self._wait(candidate, longest.of_bounded, invocation)) is not None:
                return ended
            lease = leases.request_lease(
                lease_id,
                self._policy,
                now=self._clock.now(),
                remaining_ms=invocation.remaining(),
                longest_ms=longest.of_all,
                name=None if job_type is None else job_type.name,
            )
            try:
                answer = self._store.claim(candidate.job_id, lease)
            except UnreadableRow:
                logger.exception("the job's row makes no sense", extra={"job_id": candidate.job_id})
                return RunOutcome.NOT_CLAIMED
            if answer.done and answer.record is not None:
                return answer.record
            if answer.record is None or not answer.record.status.is_waiting:
                return RunOutcome.NOT_CLAIMED
            # early by this clock: sleep the rest; the handoff's name was wrong: ask for the lease of the right one
            candidate.run_at, candidate.name = answer.record.available_at, answer.record.name
        return RunOutcome.NOT_CLAIMED

    def _wait(self, candidate: Candidate, longest_ms: int | None, invocation: Invocation) -> RunOutcome | None:
        """Sleep until the job's moment, if that is near; None once it may be claimed here."""
        early = max(0, candidate.run_at - self._clock.now())
        if early > self._policy.max_wait_ms + leases.SKEW_MS:
            return RunOutcome.NOT_CLAIMED  # the sweeper starts it
        if invocation.remaining() - early < leases.LEAST_TIME_MS:
            return self._hand_on(candidate, invocation.total_ms - early)
        if early:
            self._clock.sleep(early)
            invocation.waited_ms += early
        if bounds.would_fit_fresh(longest_ms, waited_ms=invocation.waited_ms, remaining_ms=invocation.remaining()):
            return self._hand_on(candidate, invocation.total_ms)
        return None

    def _hand_on(self, candidate: Candidate, fresh_ms: int) -> RunOutcome:
        """Offer the job to a fresh invocation of this function, which would have `fresh_ms` for it."""
        if fresh_ms < leases.LEAST_TIME_MS:
            logger.error(
                "this runner's timeout is too short to wait for the job and then run it; raise it to "
                "RELAYQ_MAX_WAIT_SECONDS plus the longest job's timeout plus 20 s",
                extra={"job_id": candidate.job_id},
            )
            return RunOutcome.NOT_CLAIMED
        try:
            self._handoff.offer(candidate.job_id, candidate.queue, candidate.run_at, name=candidate.name, here=True)
        except Exception as error:
            logger.warning("the handoff failed (%s); the sweeper will start the job", summarize_error(error))
            return RunOutcome.NOT_CLAIMED
        return RunOutcome.HANDED_ON

    def _find_longest_timeout(self, job_type: JobType | None) -> LongestTimeout:
        """Return the type's timeout or, for a job of unknown name, the longest of all types.

        The latter is computed once, and again only after another type was registered: it takes 0.7 us for each type.
        """
        if job_type is not None:
            return bounds.find_longest_timeout([job_type.options], self._policy)
        version = self._registry.version
        if self._longest_of_all is None or self._longest_of_all[0] != version:
            options = [known.options for known in self._registry.values()]
            self._longest_of_all = version, bounds.find_longest_timeout(options, self._policy)
        return self._longest_of_all[1]
