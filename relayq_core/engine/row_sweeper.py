"""One row that the index says is due: decide by the row itself, hand it off, postpone it or end its lease."""

from __future__ import annotations

import random
import secrets

from relayq_core.engine.handoff import Handoffs
from relayq_core.engine.settler import Settler
from relayq_core.errors import JobCrashed, StoreError, UnreadableRow
from relayq_core.events.listeners import Events
from relayq_core.jobs.registry import Registry
from relayq_core.model import sweeping
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.sweeping import Leave, Nudge, Postpone
from relayq_core.ports import Clock, Due, Handoff, SweeperStore
from relayq_core.process.loggers import logger

#: A pseudo-random generator would be restored with its state in every clone of a snapshot.
_dice = random.SystemRandom()
#: DynamoDB's codes for a write that can never succeed, such as of a row too large for one more attribute.
_REFUSED_FOR_GOOD = frozenset({"ValidationException", "TransactionCanceledException"})


class RowSweeper:
    """Sweeps rows one by one, for the sweeper and for workers. Each method returns what was done, as one word."""

    def __init__(
        self, store: SweeperStore, handoff: Handoff, clock: Clock, policy: Policy, events: Events, registry: Registry
    ) -> None:
        self._store = store
        self._handoffs = Handoffs(handoff, events)
        self._settler = Settler(store, handoff, clock, policy, events)
        self._clock = clock
        self._policy = policy
        self._registry = registry

    def sweep(self, row: Due, *, claimed_before_ms: int = 0) -> str:
        """Sweep one row. Raises nothing: what is wrong with a row must not keep the sweeper from the next.

        A lease is ended only if the job was claimed at least `claimed_before_ms` ago.
        """
        try:
            return self._sweep(row, claimed_before_ms)
        except UnreadableRow as error:
            logger.error("%s; looked at again in an hour", error, extra={"job_id": row.job_id})
            return self._set_aside("unreadable", row, error.due_at)
        except StoreError as error:
            logger.exception("a row could not be worked on", extra={"job_id": row.job_id})
            # what is refused for good would be refused at every tick: it is the row, not the table
            return self._set_aside("unreadable", row) if error.code in _REFUSED_FOR_GOOD else "error"
        except Exception:
            logger.exception("a defect of RelayQ, met at one row", extra={"job_id": row.job_id})
            return self._set_aside("error", row)

    def rehearse(self, row: Due, *, claimed_before_ms: int = 0) -> str:
        """Return what `sweep` would do with a row, and do nothing. Raises nothing."""
        try:
            return self._rehearse(row, claimed_before_ms)
        except UnreadableRow:
            return "unreadable"
        except StoreError as error:
            logger.exception("a row could not be worked on", extra={"job_id": row.job_id})
            return "unreadable" if error.code in _REFUSED_FOR_GOOD else "error"

    def sweep_running(self, row: Due, record: JobRecord | None) -> str:
        """Sweep a row that runs, or seems to: postpone it, or end a lease that ran out. A waiting one is left alone.

        For workers, which claim waiting jobs themselves. Raises StoreError.
        """
        decision = self._decide(row, record)
        if isinstance(decision, Nudge):
            if record is None or not record.is_newer:
                return "left"
            # a job that only a newer version can claim must not stand in the way of what comes due after it
            decision = Postpone(self._clock.now() + sweeping.NEWER_MS)
        return self._apply(row, record, decision)

    def end_crashed(self, record: JobRecord, error: JobCrashed | None = None) -> str:
        """End the lease of a runner that is known to be dead, before it runs out. Raises StoreError.

        `error` says how the runner ended.
        """
        settlement = sweeping.release(
            record,
            self._policy,
            token=_make_token(),
            now=self._clock.now(),
            draw=_dice.random(),
            of_type=self._find_type_options(record),
            error=error,
        )
        return self._end_lease(record, settlement, error)

    def set_aside(self, row: Due, due_at: int | None = None) -> None:
        """Move an unreadable row an hour ahead in the index. Never raises."""
        self._set_aside("unreadable", row, due_at)

    def _set_aside(self, action: str, row: Due, due_at: int | None = None) -> str:
        """Move a row an hour ahead, from where the index has it by now (`due_at`), and return `action`."""
        try:
            seen = row if due_at is None else row._replace(due_at=due_at)
            self._store.postpone(seen, self._clock.now() + sweeping.UNREADABLE_MS)
        except StoreError:
            logger.exception("the row could not be set aside", extra={"job_id": row.job_id})
        return action

    def _sweep(self, row: Due, claimed_before_ms: int) -> str:
        """Try a first nudge without reading the row, as most rows wait for one; a refusal returns the row."""
        due_at = sweeping.plan_nudge(0, self._policy, now=self._clock.now())
        answer = self._store.nudge(row, 0, due_at)
        if answer.done and answer.record is not None:
            return self._hand_off(answer.record)
        return self._apply(row, answer.record, self._decide(row, answer.record, claimed_before_ms))

    def _rehearse(self, row: Due, claimed_before_ms: int) -> str:
        match self._decide(row, self._store.get(row.job_id), claimed_before_ms):
            case Leave():
                return "left"
            case Postpone():
                return "postponed"
            case Nudge():
                return "nudged"
            case Settlement(event):
                return _ACTIONS[event]

    def _decide(self, row: Due, record: JobRecord | None, claimed_before_ms: int = 0) -> sweeping.Decision:
        now = self._clock.now()
        decision = sweeping.decide(
            record,
            row.due_at,
            self._policy,
            token=_make_token(),
            now=now,
            draw=_dice.random(),
            of_type=self._find_type_options(record),
        )
        is_young = record is not None and (record.started_at or 0) > now - claimed_before_ms
        return Leave() if isinstance(decision, Settlement) and is_young else decision

    def _apply(self, row: Due, record: JobRecord | None, decision: sweeping.Decision) -> str:
        match decision:
            case Leave():
                return "left"
            case Postpone(due_at):
                return "postponed" if self._store.postpone(row, due_at) else "left"
            case Nudge(due_at):
                answer = self._store.nudge(row, record.nudges if record else 0, due_at)
                return self._hand_off(answer.record) if answer.done and answer.record else "left"
            case Settlement():
                assert record is not None
                return self._end_lease(record, decision)

    def _hand_off(self, record: JobRecord) -> str:
        self._handoffs.hand_off(record)
        return "nudged"

    def _end_lease(self, record: JobRecord, settlement: Settlement, error: JobCrashed | None = None) -> str:
        """End a lease whose runner is gone, if it is still the one that ran out."""
        written = self._settler.settle(record, settlement, error=error or JobCrashed(record.attempt))
        return "left" if written is None else _ACTIONS[written.transition]

    def _find_type_options(self, record: JobRecord | None) -> Options | None:
        job_type = None if record is None else self._registry.get(record.name)
        return None if job_type is None else job_type.options


def _make_token() -> str:
    """Return what marks a write as this sweep's own."""
    return f"sweep-{secrets.token_hex(8)}"


_ACTIONS = {Transition.RELEASE: "released", Transition.BURY: "buried", Transition.CANCEL: "cancelled"}
