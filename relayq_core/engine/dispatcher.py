"""Dispatch: check the job, write it down, hand it off. What is written is never lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relayq_core.engine.handoff import Handoffs
from relayq_core.engine.ids import new_id
from relayq_core.engine.registration import Registrations
from relayq_core.engine.unique_hint import Hints
from relayq_core.errors import (
    ChainTooDeep,
    DispatchUnknown,
    InvalidOption,
    PayloadTooLarge,
    SettingsError,
    StoreError,
    StoreUnavailable,
    checked_wait,
)
from relayq_core.events.listeners import Events
from relayq_core.events.tracing import read_trace
from relayq_core.jobs.context import parent_job
from relayq_core.jobs.registry import JobType, Registry
from relayq_core.jobs.request import JobRequest, request_of, same_json
from relayq_core.model import bounds, budgets, lifecycle
from relayq_core.model.options import Options, checked_queue
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, unique_pk
from relayq_core.model.value import Value
from relayq_core.ports import Added, Clock, Handoff, JobStore, UniqueHint


class Dispatched(Value):
    """How a dispatch ended. `duplicate`: `job_id` is the earlier job with the same unique key. `handed_off`: a
    runner was told; False for long delays and lost handoffs, which are the sweeper's."""

    job_id: str
    duplicate: bool
    handed_off: bool


class Dispatcher:
    """Writes jobs down and hands them off."""

    def __init__(
        self,
        store: JobStore,
        handoff: Handoff,
        clock: Clock,
        policy: Policy,
        registry: Registry,
        events: Events,
        *,
        default_queue: str,
        max_depth: int,
        hint: UniqueHint | None = None,
    ) -> None:
        self._store = store
        self._handoffs = Handoffs(handoff, events)
        self._clock = clock
        self._policy = policy
        self._registry = registry
        self._events = events
        self._default_queue = default_queue
        self._max_depth = max_depth
        self._hints = Hints(hint, events, clock)
        self._registrations = Registrations(store, clock)

    def dispatch(self, job: Any, args: Mapping[str, Any] | None, given: Options) -> Dispatched:
        """Accept a job. Once this returns, or raises DispatchUnknown, nothing that dies can lose it.

        Raises InvalidPayload, PayloadTooLarge, InvalidOption, ChainTooDeep, StoreError, DispatchUnknown.
        """
        request = request_of(job, args, self._registry)
        options = given.over(request.options)
        record, hand_off_now = self.record(request, options)
        return self.write(record, hand_off_now=hand_off_now, own_id=options.job_id is not None)

    def write(self, record: JobRecord, *, hand_off_now: bool, own_id: bool) -> Dispatched:
        """Write one job down and hand it off. `own_id`: its id is the caller's, and may have been accepted before.

        Raises InvalidOption, StoreError, DispatchUnknown.
        """
        if own_id and (failure := self._failure(record.id)) is not None:
            return self._again(record, failure)
        self.register(record.queue)
        # only the transaction sees whether the caller's id was accepted before
        hinted = None if own_id else self._hinted(record)
        if hinted is not None:
            return Dispatched(hinted, duplicate=True, handed_off=False)
        added = self._add(record)
        if added.holder is not None:
            self._hints.remember(record, added.holder)
            return Dispatched(added.holder, duplicate=True, handed_off=False)
        if added.found is not None and added.found != record:  # equal: this very write, sent again by the SDK
            return self._again(record, added.found)
        dispatched = self.tell(record, hand_off_now=hand_off_now)
        self._hints.remember(record, record.id)
        return dispatched

    def tell(self, record: JobRecord, *, hand_off_now: bool) -> Dispatched:
        """A job is written: tell whoever listens and, if it is to be handed off now, a runner."""
        self._events.notify("dispatched", record)
        taken = hand_off_now and self._handoffs.hand_off(record)
        return Dispatched(job_id=record.id, duplicate=False, handed_off=taken)

    def record(self, request: JobRequest, options: Options) -> tuple[JobRecord, bool]:
        """The job as it will be written, and whether to hand it off now."""
        if (size := len(request.payload_json.encode())) > budgets.PAYLOAD_BYTES:
            raise PayloadTooLarge(request.name, size, budgets.PAYLOAD_BYTES)
        options = options.checked()
        if request.job_type is not None:
            options = options.over(request.job_type.options)
        options.warn_of_unused_backoff()
        now = self._clock.now()
        job_id = options.job_id or new_id(now)
        available_at = _available_at(options, now)
        due_at, hand_off_now = lifecycle.next_look(available_at, now, self._policy)
        parent = parent_job()
        record = JobRecord(
            id=job_id,
            name=request.name,
            # checked here too, for settings and requests may be made by hand: a queue that is none is never swept
            queue=checked_queue(options.queue or self._default_queue),
            max_attempts=options.max_attempts,
            backoff=options.backoff,
            timeout_ms=bounds.timeout_ms(options),
            payload_json=request.payload_json,
            created_at=now,
            updated_at=now,
            available_at=available_at,
            due_at=due_at,
            parent_id=parent.id if parent else None,
            root_id=(parent.root_id or parent.id) if parent else None,
            depth=parent.depth + 1 if parent else 0,
            trace_id=(parent.trace_id if parent else None) or read_trace(),
            unique_pk=None if options.unique is None else unique_pk(request.name, options.unique),
            unique_for_ms=None if options.unique_for is None else max(1, round(options.unique_for * 1000)),
        )
        if record.depth > self._max_depth:
            raise ChainTooDeep(record.depth, self._max_depth, record.root_id or record.id)
        return record, hand_off_now

    def register(self, queue: str) -> None:
        """The sweeper must know of the queue before a job can depend on it."""
        self._registrations.register(queue)

    def _failure(self, job_id: str) -> JobRecord | None:
        """The job that has failed under an id of the caller's own: to dispatch it again must not begin it anew."""
        try:
            return self._store.get_failed(job_id)
        except StoreUnavailable:
            raise  # nothing is written yet, and to ask again is safe
        except (SettingsError, StoreError):
            return None  # a caller that may only dispatch need not know the failed table

    def _hinted(self, record: JobRecord) -> str | None:
        """The other job that has my unique key, if a hint names it and one read of the key's item says the same."""
        named = self._hints.holder(record)
        if named is None or record.unique_pk is None:
            return None
        try:
            return named if named == self._store.holder(record.unique_pk) else None
        except StoreError:
            return None  # the transaction will say what is wrong

    def _add(self, record: JobRecord) -> Added:
        """Write the job; where no try was answered, look whether it is there."""
        try:
            return self._store.add(record)
        except StoreUnavailable:
            try:
                found = self._store.get(record.id)
            except StoreError:
                found = None
            if found is None:
                raise DispatchUnknown(record.id) from None
            return Added(found=found)

    def _again(self, record: JobRecord, found: JobRecord) -> Dispatched:
        """My id is taken: by an earlier try of this dispatch, which was accepted then, or by another job."""
        if not is_same_dispatch(record, found, self._registry.get(record.name)):
            raise InvalidOption("job_id", _taken(record, found))
        told = found.status.is_waiting and lifecycle.next_look(found.available_at, self._clock.now(), self._policy)[1]
        taken = told and self._handoffs.hand_off(found)
        return Dispatched(record.id, duplicate=False, handed_off=taken)


def _taken(mine: JobRecord, found: JobRecord) -> str:
    if mine.name == found.name:
        return f"{mine.id!r} belongs to another job {mine.name!r}, whose payload differs; choose another id"
    return f"{mine.id!r} belongs to another job, {found.name!r}; choose another id"


def _available_at(options: Options, now: int) -> int:
    if options.at is not None:
        # as far ahead as a delay may reach
        checked_wait("at", max(0, options.at - now) / 1000)
        return max(options.at, now)
    return now + round((options.delay or 0) * 1000)


def is_same_dispatch(mine: JobRecord, found: JobRecord, job_type: JobType | None = None) -> bool:
    """Whether the row that stands under my id was written by a dispatch of the same job with the same payload.

    What a payload means is known to the job's type; without it, as JSON.
    """
    same = same_json if job_type is None else job_type.same
    return mine.name == found.name and same(mine.payload_json, found.payload_json)
