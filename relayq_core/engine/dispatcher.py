"""Dispatch: check the job, write it, hand it off. A job that is written is never lost."""

from __future__ import annotations

from typing import Any, NamedTuple

from relayq_core.engine.handoff import Handoffs
from relayq_core.engine.ids import generate_id
from relayq_core.engine.registration import Registrations
from relayq_core.engine.unique_hint import UniqueHints
from relayq_core.errors import (
    ChainTooDeep,
    DispatchUnknown,
    InvalidOption,
    PayloadTooLarge,
    SettingsError,
    StoreError,
    StoreUnavailable,
    validate_wait,
)
from relayq_core.events.listeners import Events
from relayq_core.events.tracing import read_trace
from relayq_core.jobs.context import find_parent_job
from relayq_core.jobs.registry import JobType, Registry
from relayq_core.jobs.request import JobRequest, is_same_json
from relayq_core.model import bounds, budgets, lifecycle
from relayq_core.model.options import NO_OPTIONS, Options, validate_queue
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, build_unique_pk
from relayq_core.model.value import Value
from relayq_core.ports import Added, Clock, DispatcherStore, Handoff, UniqueHint


class Dispatched(Value):
    """How a dispatch ended. `duplicate`: `job_id` is the earlier job with the same unique key. `handed_off`: a runner
    was offered the job; False for long delays and failed handoffs, whose jobs the sweeper starts."""

    job_id: str
    duplicate: bool
    handed_off: bool


class Prepared(NamedTuple):
    """A job that has been checked and is ready to be written."""

    record: JobRecord
    #: offer it to a runner once it is written; otherwise the sweeper starts it
    hand_off: bool
    #: an earlier dispatch may have been accepted under its id
    may_exist: bool

    @property
    def goes_alone(self) -> bool:
        """It cannot be written in a batch: a unique key needs a transaction, and an id may stand in either table."""
        return self.may_exist or self.record.unique_pk is not None


class Dispatcher:
    """Writes jobs and hands them off."""

    def __init__(
        self,
        store: DispatcherStore,
        handoff: Handoff,
        clock: Clock,
        policy: Policy,
        registry: Registry,
        events: Events,
        *,
        default_queue: str,
        max_depth: int,
        hint: UniqueHint | None = None,
        registrations: Registrations | None = None,
    ) -> None:
        self._store = store
        self._handoffs = Handoffs(handoff, events)
        self._clock = clock
        self._policy = policy
        self._registry = registry
        self._events = events
        self._default_queue = default_queue
        self._max_depth = max_depth
        self._hints = UniqueHints(hint, events, clock)
        self._registrations = Registrations(store, clock) if registrations is None else registrations

    def dispatch(self, request: JobRequest, call: Options = NO_OPTIONS) -> Dispatched:
        """Accept a job. Once this returns, or raises DispatchUnknown, nothing that dies can lose it.

        `call` holds the options of the call, which win over the request's. Raises PayloadTooLarge, InvalidOption,
        ChainTooDeep, StoreError, DispatchUnknown.
        """
        return self.write(self.prepare(request, call))

    def prepare(self, request: JobRequest, call: Options = NO_OPTIONS) -> Prepared:
        """Check a job and return it as it is to be written. Writes nothing.

        Raises PayloadTooLarge, InvalidOption, ChainTooDeep.
        """
        if (size := len(request.payload_json.encode())) > budgets.PAYLOAD_BYTES:
            raise PayloadTooLarge(request.name, size, budgets.PAYLOAD_BYTES)
        job_type = NO_OPTIONS if request.job_type is None else request.job_type.options
        options = Options.resolve(call, request.options, job_type)
        options.warn_of_unused_backoff()
        now = self._clock.now()
        available_at = _compute_available_at(options, now)
        due_at, hand_off = lifecycle.plan_start(available_at, self._policy, now=now)
        record = JobRecord(
            id=options.job_id or generate_id(now),
            name=request.name,
            # checked again, for settings and requests may be built by hand: an invalid queue is never swept
            queue=validate_queue(options.queue or self._default_queue),
            max_attempts=options.max_attempts,
            backoff=options.backoff,
            timeout_ms=bounds.convert_timeout(options),
            payload_json=request.payload_json,
            created_at=now,
            updated_at=now,
            available_at=available_at,
            due_at=due_at,
            unique_pk=None if options.unique is None else build_unique_pk(request.name, options.unique),
            unique_for_ms=None if options.unique_for is None else max(1, round(options.unique_for * 1000)),
            **self._build_lineage(),
        )
        return Prepared(record, hand_off, may_exist=options.job_id is not None)

    def _build_lineage(self) -> dict[str, Any]:
        """Return the fields that say which job's handler dispatches this one, if any does. Raises ChainTooDeep."""
        parent = find_parent_job()
        if parent is None:
            return {"trace_id": read_trace()}
        depth, root_id = parent.depth + 1, parent.root_id or parent.id
        if depth > self._max_depth:
            raise ChainTooDeep(depth, self._max_depth, root_id)
        trace_id = parent.trace_id or read_trace()
        return {"parent_id": parent.id, "root_id": root_id, "depth": depth, "trace_id": trace_id}

    def write(self, prepared: Prepared) -> Dispatched:
        """Write one job and hand it off. Raises InvalidOption, StoreError, DispatchUnknown."""
        record = prepared.record
        if prepared.may_exist and (failed := self._read_failed(record.id)) is not None:
            return self._accept_again(record, failed)
        self.register(record.queue)
        # only the transaction sees whether the caller's id was accepted before
        if not prepared.may_exist and (holder := self._confirm_holder(record)) is not None:
            return Dispatched(holder, duplicate=True, handed_off=False)
        added = self._add(record)
        if added.holder is not None:
            self._hints.remember(record, added.holder)
            return Dispatched(added.holder, duplicate=True, handed_off=False)
        if added.found is not None and added.found != record:  # equal: this very write, sent again by the SDK
            return self._accept_again(record, added.found)
        dispatched = self.accept(prepared)
        self._hints.remember(record, record.id)
        return dispatched

    def accept(self, prepared: Prepared) -> Dispatched:
        """Announce a job that has been written and, if it is to start soon, hand it off."""
        self._events.notify("dispatched", prepared.record)
        handed_off = prepared.hand_off and self._handoffs.hand_off(prepared.record)
        return Dispatched(job_id=prepared.record.id, duplicate=False, handed_off=handed_off)

    def register(self, queue: str) -> None:
        """Make the queue known to the sweeper, before a job depends on it. Raises InvalidOption, StoreError."""
        self._registrations.register(queue)

    def _read_failed(self, job_id: str) -> JobRecord | None:
        """Return the failed job with this caller-supplied id, if any; dispatching that id again must not restart it."""
        try:
            return self._store.get_failed(job_id)
        except StoreUnavailable:
            raise  # nothing is written yet, so the caller can safely try again
        except (SettingsError, StoreError):
            return None  # a caller that may only dispatch need not know the failed table

    def _confirm_holder(self, record: JobRecord) -> str | None:
        """Return the other job that holds the unique key, if a hint names it and the key's item confirms it."""
        holder = self._hints.find_holder(record)
        if holder is None or record.unique_pk is None:
            return None
        try:
            return holder if holder == self._store.find_holder(record.unique_pk) else None
        except StoreError:
            return None  # the transaction will say what is wrong

    def _add(self, record: JobRecord) -> Added:
        """Write the job; if DynamoDB never answers, read whether it was written. Raises StoreError, DispatchUnknown."""
        try:
            return self._store.add(record)
        except StoreUnavailable:
            try:
                row = self._store.get(record.id)
            except StoreError:
                row = None
            if row is None:
                raise DispatchUnknown(record.id) from None
            return Added(found=row)

    def _accept_again(self, record: JobRecord, row: JobRecord) -> Dispatched:
        """Answer for an id that exists: an earlier try of this dispatch was accepted, or the id is another job's.

        Raises InvalidOption for another job's.
        """
        if not is_same_dispatch(record, row, self._registry.get(record.name)):
            raise InvalidOption("job_id", _describe_conflict(record, row))
        starts_soon = (
            row.status.is_waiting and lifecycle.plan_start(row.available_at, self._policy, now=self._clock.now())[1]
        )
        return Dispatched(record.id, duplicate=False, handed_off=starts_soon and self._handoffs.hand_off(row))


def _describe_conflict(mine: JobRecord, row: JobRecord) -> str:
    if mine.name == row.name:
        return f"{mine.id!r} belongs to another job {mine.name!r}, whose payload differs; choose another id"
    return f"{mine.id!r} belongs to another job, {row.name!r}; choose another id"


def _compute_available_at(options: Options, now: int) -> int:
    if options.at is not None:
        # as far ahead as a delay may reach
        validate_wait("at", max(0, options.at - now) / 1000)
        return max(options.at, now)
    return now + round((options.delay or 0) * 1000)


def is_same_dispatch(mine: JobRecord, row: JobRecord, job_type: JobType | None = None) -> bool:
    """Whether the row with my id was written by a dispatch of the same job with the same payload.

    The job's type compares payloads by what they mean; without it they are compared as JSON.
    """
    same = is_same_json if job_type is None else job_type.is_same
    return mine.name == row.name and same(mine.payload_json, row.payload_json)
