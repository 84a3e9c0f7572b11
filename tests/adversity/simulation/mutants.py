"""Deliberate breakages of the protocol. The simulation must catch each: a checker that never bites proves nothing."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from relayq_core.engine import claiming, dispatcher, execution, settler, sweeper
from relayq_core.engine.results import RunOutcome
from relayq_core.errors import StoreUnavailable
from relayq_core.model import bounds, leases, lifecycle, settling, sweeping
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.record import JobRecord, Status
from relayq_core.model.sweeping import Leave, Nudge
from relayq_core.operations.jobs import Operations
from relayq_core.ports import Added, Answer, Settled
from relayq_core.testing import MemoryStore
from relayq_core.worker import worker

Patch = tuple[Any, str, Any]
Mutant = Callable[[], list[Patch]]

MUTANTS: dict[str, Mutant] = {}


def mutant(make: Mutant) -> Mutant:
    """Add one to the list, under the sentence of its docstring."""
    MUTANTS[make.__name__] = make
    return make


@contextmanager
def applied(name: str) -> Iterator[None]:
    """The protocol, broken in this way."""
    with ExitStack() as undo:
        for owner, attribute, broken in MUTANTS[name]():
            for user in _users(owner, attribute):
                undo.callback(setattr, user, attribute, vars(user)[attribute])
                setattr(user, attribute, broken)
        yield


def _users(owner: Any, attribute: str) -> list[Any]:
    """Return what has it by that name: its owner, or the part of it that does, and the modules that import it."""
    if isinstance(owner, type):
        return [next(part for part in owner.__mro__ if attribute in vars(part))]
    original = vars(owner)[attribute]
    modules = [module for name, module in sys.modules.items() if name.startswith("relayq_core.")]
    return [owner, *(module for module in modules if module is not owner and vars(module).get(attribute) is original)]


# --- dispatch ---------------------------------------------------------------------------------------------------


@mutant
def dispatch_overwrites_a_row_of_the_same_id() -> list[Patch]:
    """The put of a new job loses its condition."""

    def add(self: MemoryStore, record: JobRecord) -> Added:
        if (holder := self._holder(record)) is not None:
            return Added(holder=holder)
        self._put(record)
        return Added()

    return [(MemoryStore, "add", add)]


@mutant
def own_write_is_reported_as_a_duplicate() -> list[Patch]:
    """The key is judged before the job's own row."""

    def add(self: MemoryStore, record: JobRecord) -> Added:
        key = None if record.unique_pk is None else self._keys.get(record.unique_pk)
        if key is not None and not self._has_expired(key.expires_at):
            return Added(holder="somebody")
        return _ADD(self, record)

    return [(MemoryStore, "add", add)]


@mutant
def key_is_not_looked_at() -> list[Patch]:
    """The condition on the unique key is gone."""
    return [(MemoryStore, "_holder", lambda self, record: None)]


@mutant
def key_is_taken_apart_from_the_job() -> list[Patch]:
    """Two writes instead of a transaction: the key, and the job only if nothing goes wrong."""

    def add(self: MemoryStore, record: JobRecord) -> Added:
        if record.unique_pk is not None and (len(self.jobs) + len(self.failures)) % 2:
            self._put(record)
            del self.jobs[record.id]
            return Added()
        return _ADD(self, record)

    return [(MemoryStore, "add", add)]


@mutant
def unknown_dispatch_is_told_as_accepted() -> list[Patch]:
    """No answer is taken for a yes."""

    def add(self: Any, record: JobRecord) -> Added:
        try:
            return self._store.add(record)  # type: ignore[no-any-return]
        except StoreUnavailable:
            return Added()

    return [(dispatcher.Dispatcher, "_add", add)]


@mutant
def keyed_jobs_are_written_with_the_others() -> list[Patch]:
    """A batch takes no unique keys."""
    return [(dispatcher.Prepared, "goes_alone", property(lambda self: self.may_exist))]


@mutant
def queue_is_not_registered() -> list[Patch]:
    """The sweeper never hears of the queue."""
    return [(dispatcher.Dispatcher, "register", lambda self, queue: None)]


@mutant
def dispatch_fails_with_its_handoff() -> list[Patch]:
    """The row is not in the index: only the handoff could start it."""

    def plan_start(available_at: int, policy: Any, *, now: int) -> tuple[int, bool]:
        due_at, hand_off = _PLAN_START(available_at, policy, now=now)
        return due_at + 10**9, hand_off

    return [(lifecycle, "plan_start", plan_start)]


# --- claim ------------------------------------------------------------------------------------------------------


@mutant
def claim_takes_a_running_job() -> list[Patch]:
    """The claim forgets to ask for a waiting status."""

    def claim(self: MemoryStore, job_id: str, lease: Any) -> Answer:
        row = self.jobs.get(job_id)
        if row is not None and row.status is Status.PROCESSING and row.lease_id != lease.id:
            self.jobs[job_id] = leases.claim(replace(row, status=Status.RETRYING), lease)
            return Answer(True, self.jobs[job_id])
        return _CLAIM(self, job_id, lease)

    return [(MemoryStore, "claim", claim)]


@mutant
def claim_takes_an_ended_job() -> list[Patch]:
    """The claim asks only whether it is free."""

    def claim(self: MemoryStore, job_id: str, lease: Any) -> Answer:
        row = self.jobs.get(job_id)
        if row is not None and row.status.is_ended:
            self.jobs[job_id] = leases.claim(replace(row, status=Status.RETRYING), lease)
            return Answer(True, self.jobs[job_id])
        return _CLAIM(self, job_id, lease)

    return [(MemoryStore, "claim", claim)]


@mutant
def claim_comes_early() -> list[Patch]:
    """The claim forgets to ask for the time."""
    return [
        (leases, "is_claimable", lambda record, now, name=None: record.status.is_waiting),
        (claiming.Claimer, "claim", _claim_without_waiting),
    ]


@mutant
def clock_of_the_caller_decides() -> list[Patch]:
    """A job without a delay waits until the runner's clock has reached its caller's."""
    return [(JobRecord, "is_immediate", property(lambda self: False))]


@mutant
def own_claim_is_not_recognised() -> list[Patch]:
    """A claim whose answer was lost is taken for another runner's; its attempt is spent for nothing."""

    def claim(self: MemoryStore, job_id: str, lease: Any) -> Answer:
        answer = _CLAIM(self, job_id, lease)
        row = answer.record
        if row is not None and answer.done and row.started_at != self._clock.now() and row.lease_id == lease.id:
            self.jobs[job_id] = row.evolve(attempt=row.attempt + 1)
            return Answer(True, self.jobs[job_id])
        return answer

    return [(MemoryStore, "claim", claim)]


@mutant
def claim_does_not_count() -> list[Patch]:
    """Attempts never rise."""

    def claim(record: JobRecord, lease: Any) -> JobRecord:
        return _CLAIM_DECISION(record, lease).evolve(attempt=record.attempt)

    return [(leases, "claim", claim)]


@mutant
def exhausted_claim_counts() -> list[Patch]:
    """The claim that only calls failed() counts as an attempt."""

    def claim(record: JobRecord, lease: Any) -> JobRecord:
        return _CLAIM_DECISION(record, lease).evolve(attempt=record.attempt + 1)

    return [(leases, "claim", claim)]


@mutant
def lease_ends_before_its_handler() -> list[Patch]:
    """The lease is as long as the grace alone."""

    def until(self: Any, timeout_ms: int | None) -> int:
        return int(self.now + self.grace_ms)

    return [(leases.Lease, "until", until)]


@mutant
def lease_never_ends() -> list[Patch]:
    """A crash is never seen."""

    def until(self: Any, timeout_ms: int | None) -> int:
        return int(self.now + 10**10)

    return [(leases.Lease, "until", until)]


# --- settle -----------------------------------------------------------------------------------------------------


@mutant
def settle_is_not_fenced() -> list[Patch]:
    """The last settle wins, whichever runner holds the lease."""
    return [(MemoryStore, "_refusal", lambda self, before, event, settled_by: None)]


@mutant
def settle_is_fenced_by_status_alone() -> list[Patch]:
    """Any lease will do, as long as the job runs."""

    def holds(row: JobRecord, before: JobRecord) -> bool:
        return row.status is Status.PROCESSING

    return [(MemoryStore, "_holds", staticmethod(holds))]


@mutant
def cancel_mark_is_not_looked_at() -> list[Patch]:
    """A cancelled job is retried all the same."""
    return [(lifecycle, "YIELDS_TO_CANCEL", frozenset())]


@mutant
def release_does_not_yield_to_a_cancel() -> list[Patch]:
    """A job whose runner died is tried again, although it was marked a moment before."""
    return [(lifecycle, "YIELDS_TO_CANCEL", lifecycle.YIELDS_TO_CANCEL - {Transition.RELEASE})]


@mutant
def type_goes_before_the_row() -> list[Patch]:
    """What a dispatch asks for is less than what the type says."""

    def resolve(record: JobRecord, of_type: Any, policy: Any) -> Any:
        found = _RESOLVE_BOUNDS(record, of_type, policy)
        return found if of_type is None or of_type.backoff is None else found._replace(backoff=of_type.backoff)

    return [(bounds, "resolve_bounds", resolve)]


@mutant
def cancel_is_told_and_not_written() -> list[Patch]:
    """The caller hears that a waiting job is cancelled; the table does not."""
    return [(MemoryStore, "cancel_waiting", lambda self, before, settlement: True)]


@mutant
def bury_is_two_writes() -> list[Patch]:
    """The row goes first; a failure between the two loses the job."""

    def bury(self: MemoryStore, before: JobRecord, after: JobRecord) -> Settled:
        if before.id in self.jobs and self._refusal(before, Transition.BURY, None) is None:
            self._release_key(before)
            del self.jobs[before.id]
            return Settled.DONE
        return _BURY(self, before, after)

    return [(MemoryStore, "_bury", bury)]


@mutant
def bury_keeps_the_row() -> list[Patch]:
    """The failed row is written, the job's is left."""

    def bury(self: MemoryStore, before: JobRecord, after: JobRecord) -> Settled:
        row = self.jobs.get(before.id)
        settled = _BURY(self, before, after)
        if row is not None and settled is Settled.DONE:
            self.jobs[before.id] = row
        return settled

    return [(MemoryStore, "_bury", bury)]


@mutant
def bury_forgets_the_error() -> list[Patch]:
    """The failed table does not say why."""

    def bury(record: JobRecord, policy: Any, *, now: int) -> Settlement:
        found = _LIFE_BURY(record, policy, now=now)
        return found._replace(after=found.after.evolve(error=None))

    return [(settling, "bury", bury)]


@mutant
def attempts_are_not_bounded() -> list[Patch]:
    """A failed job is retried without end."""

    def resolve(record: JobRecord, of_type: Any, policy: Any) -> Any:
        return _RESOLVE_BOUNDS(record, of_type, policy)._replace(max_attempts=10**6)

    return [(bounds, "resolve_bounds", resolve)]


@mutant
def key_is_not_released() -> list[Patch]:
    """A job that has ended holds its key forever."""

    def is_held(self: MemoryStore, key: Any) -> bool:
        return key.expires_at is None or not self._has_expired(key.expires_at)

    return [(MemoryStore, "_release_key", lambda self, record: None), (MemoryStore, "_is_held", is_held)]


@mutant
def key_of_another_is_released() -> list[Patch]:
    """The end of a job deletes its key, even if another job has it by then; and a redrive does not ask for it."""

    def release(self: MemoryStore, record: JobRecord) -> None:
        if record.unique_pk is not None:
            self._keys.pop(record.unique_pk, None)

    return [(MemoryStore, "_release_key", release)]


@mutant
def retry_leaves_the_index() -> list[Patch]:
    """A retried job is not in the index any more."""

    def reschedule(*args: Any, **kwargs: Any) -> Settlement:
        found = _RESCHEDULE(*args, **kwargs)
        return found._replace(after=found.after.evolve(due_at=None), hand_off=True)

    return [(settling, "reschedule", reschedule)]


@mutant
def ended_rows_stay_in_the_index() -> list[Patch]:
    """A completed job is still due."""

    def end(record: JobRecord, *args: Any, **kwargs: Any) -> JobRecord:
        return _END(record, *args, **kwargs).evolve(due_at=record.due_at)

    return [(settling, "_end", end)]


@mutant
def live_rows_expire() -> list[Patch]:
    """A retried job has a time to live."""

    def reschedule(*args: Any, **kwargs: Any) -> Settlement:
        found = _RESCHEDULE(*args, **kwargs)
        return found._replace(after=found.after.evolve(expires_at=1))

    return [(settling, "reschedule", reschedule)]


# --- sweep ------------------------------------------------------------------------------------------------------


@mutant
def sweeper_believes_the_index() -> list[Patch]:
    """Whatever the index nominates is started again, running or not."""

    def decide(record: Any, seen: int, policy: Any, **kwargs: Any) -> Any:
        if record is not None and record.status is Status.PROCESSING:
            return sweeping.release(record, policy, **kwargs)
        return _DECIDE(record, seen, policy, **kwargs)

    return [(sweeping, "decide", decide)]


@mutant
def sweeper_never_releases() -> list[Patch]:
    """A crashed job is left where it is."""

    def decide(*args: Any, **kwargs: Any) -> Any:
        found = _DECIDE(*args, **kwargs)
        return Leave() if isinstance(found, Settlement) else found

    return [(sweeping, "decide", decide)]


@mutant
def sweeper_never_nudges() -> list[Patch]:
    """A lost handoff is final."""

    def decide(*args: Any, **kwargs: Any) -> Any:
        found = _DECIDE(*args, **kwargs)
        return Leave() if isinstance(found, Nudge) else found

    return [
        (sweeping, "decide", decide),
        (MemoryStore, "nudge", lambda self, row, n, due: Answer(False, self.jobs.get(row.job_id))),
    ]


@mutant
def release_is_not_fenced() -> list[Patch]:
    """The sweeper ends whatever lease there is, though the one it saw has been settled since."""

    def refusal(self: MemoryStore, before: JobRecord, event: Transition, settled_by: str | None) -> Settled | None:
        row = self.jobs.get(before.id)
        if event is Transition.RELEASE and row is not None and row.status is Status.PROCESSING:
            return None
        return _REFUSAL(self, before, event, settled_by)

    def decide(record: Any, seen: int, policy: Any, **kwargs: Any) -> Any:
        if record is not None and record.lease_until is not None:
            record = record.evolve(lease_until=record.lease_until - 60_000)
        return _DECIDE(record, seen, policy, **kwargs)

    return [(MemoryStore, "_refusal", refusal), (sweeping, "decide", decide)]


@mutant
def release_forgives_the_crash() -> list[Patch]:
    """A crash gives its attempt back: a poison job lives forever."""

    def release(record: JobRecord, *args: Any, **kwargs: Any) -> Settlement:
        found = _RELEASE(record, *args, **kwargs)
        if found.transition is Transition.RELEASE:
            return found._replace(after=found.after.evolve(attempt=record.attempt - 1, exhausted=False))
        return found

    return [(sweeping, "release", release)]


@mutant
def exhausted_job_is_never_buried() -> list[Patch]:
    """After the last crash it is offered without end."""

    def refuse(self: Any) -> Any:
        return None if self._record.exhausted else _REFUSE(self)

    return [(execution.Execution, "_refuse", refuse)]


# --- operations -------------------------------------------------------------------------------------------------


@mutant
def cancel_does_not_ask_whether_it_waits() -> list[Patch]:
    """Cancel writes over a job that has begun since it was read."""

    def cancel(self: MemoryStore, before: JobRecord, settlement: Settlement) -> bool:
        return before.id in self.jobs and self._write(before, settlement.after) is Settled.DONE

    return [(MemoryStore, "cancel_waiting", cancel)]


@mutant
def redrive_keeps_the_failed_row() -> list[Patch]:
    """A redriven job is in both tables."""

    def redrive(self: MemoryStore, failed: JobRecord, settlement: Settlement) -> Added | None:
        added = _REDRIVE(self, failed, settlement)
        if added == Added():
            self.failures[failed.id] = failed
        return added

    return [(MemoryStore, "redrive", redrive)]


@mutant
def redrive_does_not_ask_for_the_key() -> list[Patch]:
    """Two live jobs under one key."""

    def redrive(self: MemoryStore, failed: JobRecord, settlement: Settlement) -> Added | None:
        if failed.id in self.failures and failed.id not in self.jobs:
            del self.failures[failed.id]
            self._put(settlement.after)
            return Added()
        return _REDRIVE(self, failed, settlement)

    return [(MemoryStore, "redrive", redrive)]


@mutant
def get_looks_in_one_table() -> list[Patch]:
    """A failed job is not found."""
    return [(Operations, "get", lambda self, job_id: self._store.get(job_id))]


@mutant
def redrive_forgets_the_errors() -> list[Patch]:
    """What went wrong before is gone once the job is brought back."""

    def redrive(*args: Any, **kwargs: Any) -> Settlement:
        found = _LIFE_REDRIVE(*args, **kwargs)
        return found._replace(after=found.after.evolve(errors_json=None))

    return [(settling, "redrive", redrive)]


# --- what a job is owed ------------------------------------------------------------------------------------------


@mutant
def failed_is_never_called() -> list[Patch]:
    """A job is buried, and its failed() hears nothing of it."""
    return [(execution.Execution, "_call_failed_hook", lambda self, error: None)]


@mutant
def failed_is_called_after_every_failure() -> list[Patch]:
    """failed() is called although another attempt follows."""
    return [(settling, "will_bury", lambda record, outcome, bounds: isinstance(outcome, settling.Failed))]


@mutant
def failed_outlives_its_lease() -> list[Patch]:
    """failed() may run to the end of the lease and beyond: the burial is refused, and failed() runs again."""

    def measure(record: JobRecord, policy: Any, *, now: int) -> int:
        return _MEASURE_LEASE(record, policy, now=now) + int(policy.grace_ms) // 5

    return [(leases, "measure_lease", measure)]


@mutant
def payload_is_lost_at_burial() -> list[Patch]:
    """The failed table has no payload: nothing could be redriven."""
    return [(settling, "bury", _burying(payload_json="{}"))]


@mutant
def options_are_lost_at_burial() -> list[Patch]:
    """A redriven job would have forgotten its timeout."""
    return [(settling, "bury", _burying(timeout_ms=None, max_attempts=None))]


@mutant
def retry_forgets_the_errors() -> list[Patch]:
    """The last five errors are never more than none."""

    def add_error(*args: Any, **kwargs: Any) -> JobRecord:
        return _ADD_ERROR(*args, **kwargs).evolve(errors_json=None)

    return [(settling, "add_error", add_error)]


@mutant
def payload_reaches_an_error() -> list[Patch]:
    """An error quotes what the job was given."""

    def add_error(record: JobRecord, error: str, summary: str, *, now: int) -> JobRecord:
        return _ADD_ERROR(record, f"{error} {record.payload_json}", summary, now=now)

    return [(settling, "add_error", add_error)]


@mutant
def cancel_forgets_the_error() -> list[Patch]:
    """A job that failed as it was to be cancelled does not say how it failed."""

    def cancel(record: JobRecord, *args: Any, **kwargs: Any) -> Settlement:
        return _CANCEL(record.evolve(error=None, errors_json=None), *args, **kwargs)

    return [(settling, "cancel", cancel)]


@mutant
def oldest_errors_are_kept() -> list[Patch]:
    """Of many errors the first five are kept, and not the last."""

    def add_error(record: JobRecord, *args: Any, **kwargs: Any) -> JobRecord:
        after = _ADD_ERROR(record, *args, **kwargs)
        return after.evolve(errors_json=record.errors_json) if len(record.errors) >= _FEW else after

    return [(settling, "add_error", add_error)]


@mutant
def result_is_of_another() -> list[Patch]:
    """What is kept is not what the handler returned."""

    def complete(*args: Any, **kwargs: Any) -> Settlement:
        found = _COMPLETE(*args, **kwargs)
        return found._replace(after=found.after.evolve(result_json='"forged"'))

    return [(settling, "_complete", complete)]


@mutant
def job_fails_an_attempt_early() -> list[Patch]:
    """It has one attempt less than it was promised."""

    def resolve(record: JobRecord, *args: Any) -> Any:
        found = _RESOLVE_BOUNDS(record, *args)
        return found._replace(max_attempts=max(1, found.max_attempts - 1))

    return [(bounds, "resolve_bounds", resolve)]


@mutant
def unknown_job_is_buried_at_once() -> list[Patch]:
    """A deploy that is under way costs the job."""
    return [(settling, "give_back", lambda record, policy, *, now: None)]


@mutant
def snooze_waits_nothing() -> list[Patch]:
    """Whatever a settle asks for, the job may start at once."""

    def reschedule(record: JobRecord, transition: Transition, wait: float, *args: Any, **kwargs: Any) -> Settlement:
        return _RESCHEDULE(record, transition, 0, *args, **kwargs)

    return [(settling, "reschedule", reschedule)]


@mutant
def wait_is_taken_for_milliseconds() -> list[Patch]:
    """Seconds and their thousandths are confused."""

    def reschedule(record: JobRecord, transition: Transition, wait: float, *args: Any, **kwargs: Any) -> Settlement:
        return _RESCHEDULE(record, transition, wait * 1000, *args, **kwargs)

    return [(settling, "reschedule", reschedule)]


@mutant
def delay_is_forgotten() -> list[Patch]:
    """A delayed job may start at once."""
    return [(dispatcher, "_compute_available_at", lambda options, now: now)]


@mutant
def settle_forgets_the_progress() -> list[Patch]:
    """A retry empties what the handler has reported."""

    def reschedule(*args: Any, **kwargs: Any) -> Settlement:
        found = _RESCHEDULE(*args, **kwargs)
        return found._replace(after=found.after.evolve(progress_json=""))

    return [(settling, "reschedule", reschedule)]


@mutant
def duplicate_is_answered_with_any_job() -> list[Patch]:
    """The id of some other job than the one that has the key."""

    def add(self: MemoryStore, record: JobRecord) -> Added:
        added = _ADD(self, record)
        return added if added.holder is None else Added(holder="nobodys")

    return [(MemoryStore, "add", add)]


@mutant
def lost_settle_is_announced() -> list[Patch]:
    """Listeners hear that a job is done by one whose outcome was discarded."""

    def write(self: Any, *args: Any) -> Settled:
        settled = _WRITE(self, *args)
        return Settled.DONE if settled is Settled.LOST else settled

    return [(settler.Settler, "_write", write)]


# --- pace and cost -----------------------------------------------------------------------------------------------


@mutant
def sweep_stays_with_one_shard() -> list[Patch]:
    """What has more pages is read to its end first: others wait for its backlog."""

    class Greedy(deque[Any]):
        def append(self, item: Any) -> None:
            self.appendleft(item)

    return [(sweeper, "deque", Greedy)]


@mutant
def all_is_ten_minutes_late() -> list[Patch]:
    """The sweeper looks late at what it should save."""

    def plan_start(available_at: int, policy: Any, *, now: int) -> tuple[int, bool]:
        due_at, hand_off = _PLAN_START(available_at, policy, now=now)
        return due_at + 600_000, hand_off

    return [(lifecycle, "plan_start", plan_start)]


@mutant
def leases_end_an_hour_late() -> list[Patch]:
    """A crash is noticed in the end, and much too late."""

    def decide(record: Any, *args: Any, now: int, **kwargs: Any) -> Any:
        late = record is not None and record.lease_until is not None
        return _DECIDE(record, *args, now=now - 3_000_000 if late else now, **kwargs)

    return [(sweeping, "decide", decide)]


@mutant
def claim_moves_the_row_in_the_index() -> list[Patch]:
    """Each claim costs three units instead of one."""

    def claim(record: JobRecord, lease: Any) -> JobRecord:
        after = _CLAIM_DECISION(record, lease)
        return after.evolve(due_at=(after.due_at or 0) + 1)

    return [(leases, "claim", claim)]


@mutant
def runner_reads_before_it_claims() -> list[Patch]:
    """Each run costs a read."""

    def claim(self: Any, candidate: Any, invocation: Any) -> Any:
        self._store.get(candidate.job_id)
        return _WAIT_AND_CLAIM(self, candidate, invocation)

    return [(claiming.Claimer, "claim", claim)]


# --- workers -----------------------------------------------------------------------------------------------------


@mutant
def worker_renews_nothing() -> list[Patch]:
    """Leases run out under handlers that run."""
    return [(MemoryStore, "renew_lease", lambda self, before, lease_until: True)]


@mutant
def worker_gives_back_what_still_runs() -> list[Patch]:
    """A job is free again, and its handler has not been ended."""
    return [(worker.Worker, "_end", lambda self, job: None)]


@mutant
def worker_waits_for_the_leases_of_the_dead() -> list[Patch]:
    """A process that died is taken for one that was never claimed by the worker: its attempt is given back."""

    def end_crashed(self: Any, job: JobRecord, *args: Any) -> None:
        settlement = settling.return_unfinished(job, self._policy, now=self._clock.now())
        self._store.settle(job, settlement._replace(after=settlement.after.evolve(attempt=job.attempt + 1)))

    return [(worker.Worker, "_end_crashed", end_crashed)]


def _burying(**changes: Any) -> Any:
    def bury(record: JobRecord, policy: Any, *, now: int) -> Settlement:
        found = _LIFE_BURY(record, policy, now=now)
        return found._replace(after=found.after.evolve(**changes))

    return bury


def _claim_without_waiting(self: Any, candidate: Any, invocation: Any) -> Any:
    job_id, now = candidate.job_id, self._clock.now()
    lease = leases.request_lease(f"lease-{now}-{job_id}", self._policy, now=now, remaining_ms=invocation.remaining())
    answer = self._store.claim(job_id, lease)
    return answer.record if answer.done else RunOutcome.NOT_CLAIMED


_ADD = MemoryStore.add
_CLAIM = MemoryStore.claim
_BURY = MemoryStore._bury
_REDRIVE = MemoryStore.redrive
_REFUSAL = MemoryStore._refusal
_PLAN_START = lifecycle.plan_start
_CLAIM_DECISION = leases.claim
_RESOLVE_BOUNDS = bounds.resolve_bounds
_LIFE_BURY = settling.bury
_RESCHEDULE = settling.reschedule
_END = settling._end
_DECIDE = sweeping.decide
_RELEASE = sweeping.release
_REFUSE = execution.Execution._refuse
_LIFE_REDRIVE = settling.redrive
_CANCEL = settling.cancel
_MEASURE_LEASE = leases.measure_lease
_ADD_ERROR = settling.add_error
_COMPLETE = settling._complete
_WRITE = settler.Settler._write
_WAIT_AND_CLAIM = claiming.Claimer.claim
#: So few errors show which of them are kept.
_FEW = 2
