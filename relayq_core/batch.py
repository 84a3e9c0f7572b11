"""Dispatch many: check all, write together what can be, hand off the first, and leave the rest to the sweeper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relayq_core.dispatcher import Dispatched, Dispatcher
from relayq_core.errors import BatchIncomplete, RelayQError
from relayq_core.ports import JobStore
from relayq_core.record import JobRecord
from relayq_core.registry import Registry
from relayq_core.request import request_of
from relayq_core.spreading import Spread

#: DynamoDB takes so many statements in one call.
_TOGETHER = 25
#: Runners are told of so many at once. Ten thousand would be throttled; the sweeper tells of the rest at its next tick.
BURST = 100


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
        mean that no job was. Raises BatchIncomplete, with an outcome for each, where some were not accepted.
        """
        orders = list(self._orders(jobs))
        for queue in dict.fromkeys(order.record.queue for order in orders):
            self._dispatcher.register(queue)
        outcomes: list[Dispatched | RelayQError | None] = [None] * len(orders)
        written = self._write_together([order for order in orders if not order.goes_alone])
        told = self._spread(self._dispatcher.tell, [(order.record, order.hand_off_now) for order in written])
        for order, dispatched in zip(written, told, strict=True):
            outcomes[order.place] = dispatched
        alone = [order for order in orders if outcomes[order.place] is None]
        for order, outcome in zip(alone, self._spread(self._write_alone, alone), strict=True):
            outcomes[order.place] = outcome
        return _all_accepted(outcomes)

    def _orders(self, jobs: Iterable[Any]) -> Iterator[_Order]:
        told = 0
        for place, given in enumerate(jobs):
            job, args = given if isinstance(given, tuple) else (given, None)
            request = request_of(job, args, self._registry)
            record, hand_off_now = self._dispatcher.record(request, request.options)
            if hand_off_now and told == BURST:
                # nobody is told of it: the sweeper is to look when its time comes, and not only when it is overdue
                record, hand_off_now = record.evolve(due_at=record.available_at), False
            told += hand_off_now
            yield _Order(place, record, hand_off_now, request.options.job_id is not None)

    def _write_together(self, orders: Sequence[_Order]) -> list[_Order]:
        """Those that are written for sure; whoever is not, goes alone."""
        batches = [orders[start : start + _TOGETHER] for start in range(0, len(orders), _TOGETHER)]
        written = self._spread(lambda batch: self._store.add_many([order.record for order in batch]), batches)
        return [
            order
            for batch, answers in zip(batches, written, strict=True)
            for order, done in zip(batch, answers, strict=True)
            if done
        ]

    def _write_alone(self, order: _Order) -> Dispatched | RelayQError:
        try:
            return self._dispatcher.write(order.record, hand_off_now=order.hand_off_now, own_id=order.own_id)
        except RelayQError as error:
            return error


def _all_accepted(outcomes: Sequence[Dispatched | RelayQError | None]) -> list[Dispatched]:
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Dispatched)]
    if len(accepted) < len(outcomes):
        raise BatchIncomplete([outcome for outcome in outcomes if outcome is not None])
    return accepted
