"""Dispatch many: check all, write together what can be, hand off the first, and leave the rest to the sweeper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from relayq_core.engine.dispatcher import Dispatched, Dispatcher
from relayq_core.errors import DispatchIncomplete, DispatchUnknown, RelayQError, StoreUnavailable
from relayq_core.jobs.registry import Registry
from relayq_core.jobs.request import request_of
from relayq_core.model.options import several
from relayq_core.model.record import JobRecord
from relayq_core.ports import JobStore
from relayq_core.process.concurrency import Spread

#: DynamoDB takes so many statements in one call.
_TOGETHER = 25
#: Runners are told of so many at once. Ten thousand would be throttled; the sweeper tells of the rest at its next tick.
BURST = 100
#: The sweeper looks at the others no sooner than every try of their write is over: two of the SDK's, and one alone.
_WRITTEN_BY_MS = 15_000


@dataclass(frozen=True, slots=True)
class _Order:
    """One job to be written: where it stands in the call, and whether a runner is told of it."""

    place: int
    record: JobRecord
    hand_off_now: bool
    own_id: bool

    @property
    def goes_alone(self) -> bool:
        """A unique key wants a transaction, and an id of the caller's may stand in either table."""
        return self.own_id or self.record.unique_pk is not None


#: How the job at each place of the call was taken.
_Outcomes: TypeAlias = dict[int, Dispatched | RelayQError]


class BatchDispatcher:
    """Accepts any number of jobs in one call, each as safely as dispatch() does."""

    def __init__(self, store: JobStore, dispatcher: Dispatcher, registry: Registry, spread: Spread) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._registry = registry
        self._spread = spread

    def dispatch(self, jobs: Iterable[Any]) -> list[Dispatched]:
        """Accept all of them; how each was taken, in their order.

        Everything is checked before anything is written: InvalidPayload, PayloadTooLarge, InvalidOption, ChainTooDeep
        mean that no job was. Raises DispatchIncomplete, with an outcome for each, where some were not accepted.
        """
        orders = list(self._orders(jobs))
        for queue in dict.fromkeys(order.record.queue for order in orders):
            self._dispatcher.register(queue)
        outcomes = {
            **self._write_in_batches([order for order in orders if not order.goes_alone]),
            **self._each(self._write_alone, [order for order in orders if order.goes_alone]),
        }
        return _all_accepted([outcomes[place] for place in range(len(orders))])

    def _orders(self, jobs: Iterable[Any]) -> Iterator[_Order]:
        told = 0
        for place, given in enumerate(several("jobs", jobs, "several jobs")):
            job, args = _pair(given)
            request = request_of(job, args, self._registry)
            record, hand_off_now = self._dispatcher.record(request, request.options)
            if hand_off_now and told == BURST:
                # nobody is told of it: the sweeper is to look when its time comes, and not only when it is overdue
                record, hand_off_now = record.evolve(due_at=record.available_at + _WRITTEN_BY_MS), False
            told += hand_off_now
            yield _Order(place, record, hand_off_now, request.options.job_id is not None)

    def _write_in_batches(self, orders: Sequence[_Order]) -> _Outcomes:
        outcomes: _Outcomes = {}
        batches = [orders[start : start + _TOGETHER] for start in range(0, len(orders), _TOGETHER)]
        for unsure in self._spread(self._write_together, batches):
            outcomes.update(unsure)
        written = [order for order in orders if order.place not in outcomes]
        outcomes.update(self._each(self._tell, [order for order in written if order.hand_off_now]))
        # no runner is told of these: nothing to wait for
        outcomes.update({order.place: self._tell(order) for order in written if not order.hand_off_now})
        return outcomes

    def _each(self, action: Callable[[_Order], Dispatched | RelayQError], orders: Sequence[_Order]) -> _Outcomes:
        return dict(zip((order.place for order in orders), self._spread(action, orders), strict=True))

    def _tell(self, order: _Order) -> Dispatched:
        return self._dispatcher.tell(order.record, hand_off_now=order.hand_off_now)

    def _write_together(self, orders: Sequence[_Order]) -> _Outcomes:
        """Write a batch. What became of those of whom the batch does not say for sure that they are written."""
        answers = self._store.add_many([order.record for order in orders])
        unsure = [order for order, written in zip(orders, answers, strict=True) if not written]
        return {order.place: self._write_unsure(order) for order in unsure}

    def _write_unsure(self, order: _Order) -> Dispatched | RelayQError:
        """It may be written, and may even have run: then it must not begin anew."""
        try:
            return self._dispatcher.write(order.record, hand_off_now=order.hand_off_now, own_id=True)
        except StoreUnavailable:
            return DispatchUnknown(order.record.id)
        except RelayQError as error:
            return error

    def _write_alone(self, order: _Order) -> Dispatched | RelayQError:
        try:
            return self._dispatcher.write(order.record, hand_off_now=order.hand_off_now, own_id=order.own_id)
        except RelayQError as error:
            return error


def _pair(given: Any) -> tuple[Any, Any]:
    if not isinstance(given, tuple):
        return given, None
    if len(given) != 2:
        raise TypeError(f"dispatch_many() takes jobs, or pairs of a job and its arguments; got a tuple of {len(given)}")
    return given


def _all_accepted(outcomes: list[Dispatched | RelayQError]) -> list[Dispatched]:
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Dispatched)]
    if len(accepted) < len(outcomes):
        raise DispatchIncomplete(outcomes)
    return accepted
