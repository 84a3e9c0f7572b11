"""Dispatch many: check all jobs, write them in batches, hand off the first, leave the others to the sweeper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from relayq_core.engine.dispatcher import Dispatched, Dispatcher, Prepared
from relayq_core.errors import DispatchIncomplete, DispatchUnknown, RelayQError, StoreUnavailable
from relayq_core.jobs.registry import Registry
from relayq_core.jobs.request import resolve_request
from relayq_core.model.options import iterate_several
from relayq_core.ports import DispatchStore
from relayq_core.process.concurrency import Spread

#: DynamoDB takes this many statements in one call.
_BATCH = 25
#: Runners are offered this many jobs of one call. Ten thousand would be throttled; the sweeper offers the others.
BURST = 100
#: The sweeper looks at the others no sooner than every try of their write is over: two of the SDK's, and one alone.
_WRITTEN_BY_MS = 15_000

#: Each job by its place in the call.
_Jobs: TypeAlias = Mapping[int, Prepared]
#: How the job at each place of the call was taken.
_Outcomes: TypeAlias = dict[int, Dispatched | RelayQError]


class BulkDispatcher:
    """Accepts any number of jobs in one call, each as safely as dispatch() does."""

    def __init__(self, store: DispatchStore, dispatcher: Dispatcher, registry: Registry, spread: Spread) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._registry = registry
        self._spread = spread

    def dispatch(self, jobs: Iterable[Any]) -> list[Dispatched]:
        """Accept all of them; return how each was taken, in their order.

        Everything is checked before anything is written: InvalidPayload, PayloadTooLarge, InvalidOption, ChainTooDeep
        mean that no job was written. Raises DispatchIncomplete, with an outcome for each job, if not all were accepted.
        """
        prepared = self._prepare(jobs)
        for queue in dict.fromkeys(job.record.queue for job in prepared.values()):
            self._dispatcher.register(queue)
        outcomes = {
            **self._write_in_batches({place: job for place, job in prepared.items() if not job.goes_alone}),
            **self._spread_over({place: job for place, job in prepared.items() if job.goes_alone}, self._write_alone),
        }
        return _check_all_accepted([outcomes[place] for place in range(len(prepared))])

    def _prepare(self, jobs: Iterable[Any]) -> _Jobs:
        prepared: dict[int, Prepared] = {}
        handoffs = 0
        for place, entry in enumerate(iterate_several("jobs", jobs, "several jobs")):
            job, args = _split_pair(entry)
            request = resolve_request(job, args, self._registry)
            ready = self._dispatcher.prepare(request)
            if ready.hand_off and handoffs == BURST:
                # no runner is offered it, so the sweeper is to look when its time comes and not only once it is overdue
                due_at = ready.record.available_at + _WRITTEN_BY_MS
                ready = ready._replace(record=ready.record.evolve(due_at=due_at), hand_off=False)
            handoffs += ready.hand_off
            prepared[place] = ready
        return prepared

    def _write_in_batches(self, jobs: _Jobs) -> _Outcomes:
        places = list(jobs)
        batches = [{place: jobs[place] for place in places[n : n + _BATCH]} for n in range(0, len(places), _BATCH)]
        outcomes: _Outcomes = {}
        for unsure in self._spread(self._write_batch, batches):
            outcomes.update(unsure)
        written = {place: job for place, job in jobs.items() if place not in outcomes}
        to_hand_off = {place: job for place, job in written.items() if job.hand_off}
        outcomes.update(self._spread_over(to_hand_off, self._dispatcher.accept))
        # no runner is offered the others, so there is no call to spread
        outcomes.update({place: self._dispatcher.accept(job) for place, job in written.items() if not job.hand_off})
        return outcomes

    def _spread_over(self, jobs: _Jobs, action: Callable[[Prepared], Dispatched | RelayQError]) -> _Outcomes:
        return dict(zip(jobs, self._spread(action, jobs.values()), strict=True))

    def _write_batch(self, jobs: _Jobs) -> _Outcomes:
        """Write a batch. Return an outcome for each job that the batch could not confirm as written."""
        confirmed = self._store.add_many([job.record for job in jobs.values()])
        unsure = [place for place, is_written in zip(jobs, confirmed, strict=True) if not is_written]
        return {place: self._write_unsure(jobs[place]) for place in unsure}

    def _write_unsure(self, job: Prepared) -> Dispatched | RelayQError:
        """Write a job that may be written already, and may even have run: it must not start again."""
        try:
            return self._dispatcher.write(job._replace(may_exist=True))
        except StoreUnavailable:
            return DispatchUnknown(job.record.id)
        except RelayQError as error:
            return error

    def _write_alone(self, job: Prepared) -> Dispatched | RelayQError:
        try:
            return self._dispatcher.write(job)
        except RelayQError as error:
            return error


def _split_pair(entry: Any) -> tuple[Any, Any]:
    if not isinstance(entry, tuple):
        return entry, None
    if len(entry) != 2:
        raise TypeError(f"dispatch_many() takes jobs, or pairs of a job and its arguments; got a tuple of {len(entry)}")
    return entry


def _check_all_accepted(outcomes: list[Dispatched | RelayQError]) -> list[Dispatched]:
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Dispatched)]
    if len(accepted) < len(outcomes):
        raise DispatchIncomplete(outcomes)
    return accepted
