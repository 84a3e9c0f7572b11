"""Sweep: look after what is due and nobody ran. The index only nominates; the row itself decides."""

from __future__ import annotations

import heapq
import random
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from relayq_core.engine.handoff import Handoffs
from relayq_core.engine.settler import Settler
from relayq_core.errors import JobCrashed, StoreError, StoreUnavailable, UnreadableRow
from relayq_core.events.listeners import Events
from relayq_core.jobs.registry import Registry
from relayq_core.model import sweeping
from relayq_core.model.lifecycle import Event, Settlement
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, shards_of
from relayq_core.model.sweeping import Leave, Nudge, Postpone
from relayq_core.ports import Clock, Due, Handoff, JobStore
from relayq_core.process.budget import calls_within
from relayq_core.process.concurrency import Spread, Spreading, spread_serially
from relayq_core.process.loggers import logger

#: A pseudo-random generator would be restored with its state in every clone of a snapshot.
_dice = random.SystemRandom()
#: A tick ends its work with this much of its invocation left: a call that is on its way then takes 6 s at most (a
#: handoff that gets no answer, sent twice), and what the tick did is written down after it.
_RESERVE_MS = 8_000
#: With less left it begins nothing more.
_LAST_MS = 9_000
#: So many rows are worked on together, then the time and the errors are looked at.
_AT_A_TIME = 50
#: DynamoDB's word for a write that can never be, such as of a row that is too large for one attribute more.
_REFUSED_FOR_GOOD = frozenset({"ValidationException", "TransactionCanceledException"})
#: So many rows in a row that could not be worked on mean that the table itself is in trouble.
_ERRORS_IN_A_ROW = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one sweep looks at; the default is what the schedule does."""

    #: only these queues
    queues: Sequence[str] | None = None
    #: rows whose handoff is so old, instead of STALE (milliseconds)
    stale_ms: int | None = None
    #: release only what was claimed so long ago or longer; a live lease is never cut
    claimed_before_ms: int = 0
    #: act on so many rows at most
    limit: int | None = None
    #: say what would be done, and do nothing
    dry_run: bool = False
    #: how far ahead to look and wait (milliseconds)
    lookahead_ms: int = 0


@dataclass(slots=True)
class Swept:
    """What a sweep did: counts by action, the rows it acted on, and the age of the oldest row that was due."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: list[tuple[Due, str]] = field(default_factory=list)
    oldest_due_age_ms: int = 0

    def add(self, row: Due, action: str) -> None:
        """Count one row."""
        self.counts[action] += 1
        if len(self.rows) < 1000:  # for people to read; the counts are complete
            self.rows.append((row, action))


class Sweeper:
    """Hands off again what no runner claimed, and ends leases that ran out. Any number may run at once."""

    def __init__(
        self,
        store: JobStore,
        handoff: Handoff,
        clock: Clock,
        policy: Policy,
        events: Events,
        *,
        page: int,
        spreading: Spreading = spread_serially,
        registry: Registry | None = None,
        name: str = "",
    ) -> None:
        self._name = name
        self._store = store
        self._handoffs = Handoffs(handoff, events)
        self._settler = Settler(store, handoff, clock, policy, events)
        self._clock = clock
        self._policy = policy
        self._page = page
        self._spreading = spreading
        #: the job types that are known here: none in the sweeper function, which has no job's code
        self._registry = Registry() if registry is None else registry

    def sweep(self, remaining: Callable[[], int], scope: Scope | None = None) -> Swept:
        """Everything overdue first, in all shards; then what becomes due soon, each at its moment.

        `remaining()` says how many milliseconds this invocation has left. Raises StoreError where the tables
        cannot be used at all.
        """
        scope = scope or Scope()
        swept = Swept()
        began = self._clock.now()
        with calls_within((remaining() - _RESERVE_MS) / 1000), self._spreading() as spread:
            self._work_through(swept, scope, remaining, spread, began)
        if not scope.dry_run:
            self._store.record_tick(began, dict(swept.counts), self._name)
        return swept

    def _work_through(
        self, swept: Swept, scope: Scope, remaining: Callable[[], int], spread: Spread, began: int
    ) -> None:
        troubles = 0
        for rows in self._overdue_then_ahead(scope, remaining):
            wanted = rows if scope.limit is None else rows[: scope.limit - swept.counts.total()]
            actions = spread(lambda row: self._visit_in_time(row, scope, remaining), wanted)
            for row, action in zip(wanted, actions, strict=True):
                if action is not None:
                    swept.add(row, action)
                    swept.oldest_due_age_ms = max(swept.oldest_due_age_ms, began - row.due_at)
                    troubles = troubles + 1 if action == "error" else 0
            if len(wanted) < len(rows) or swept.counts.total() == scope.limit or None in actions:
                break
            if troubles >= _ERRORS_IN_A_ROW:
                logger.error("%d rows in a row could not be worked on; the sweep ends here", troubles)
                break

    def _overdue_then_ahead(self, scope: Scope, remaining: Callable[[], int]) -> Iterator[list[Due]]:
        """Rows, some at a time, when it is time to look at them; ends before the invocation does."""
        ahead: list[Due] = []
        for page in self._nominated(scope, remaining):
            line = self._overdue_before(scope)
            overdue = [row for row in page if row.due_at <= line]
            for row in page[len(overdue) :]:
                heapq.heappush(ahead, row)
            for start in range(0, len(overdue), _AT_A_TIME):
                yield overdue[start : start + _AT_A_TIME]
        while ahead:
            wait = ahead[0].due_at - self._clock.now()
            if remaining() - max(0, wait) < _LAST_MS:
                return
            if wait > 0:
                self._clock.sleep(wait)
            yield self._come_due(ahead)

    def _come_due(self, ahead: list[Due]) -> list[Due]:
        """The first of those ahead, and what has come due with it."""
        rows = [heapq.heappop(ahead)]
        while ahead and ahead[0].due_at <= self._clock.now() and len(rows) < _AT_A_TIME:
            rows.append(heapq.heappop(ahead))
        return rows

    def _nominated(self, scope: Scope, remaining: Callable[[], int]) -> Iterator[tuple[Due, ...]]:
        """All rows of the index up to the horizon: shard after shard, a page of each in turn, from a random one."""
        queues = self._store.list_queues() if scope.queues is None else scope.queues
        shards = [shard for queue in queues for shard in shards_of(queue)]
        turn = random.randrange(len(shards)) if shards else 0
        # whoever asks for handoffs of a certain age asks for no others: there is nothing to look ahead for
        until = self._overdue_before(scope) + (scope.lookahead_ms if scope.stale_ms is None else 0)
        pages: deque[tuple[str, object | None]] = deque((shard, None) for shard in shards[turn:] + shards[:turn])
        throttled = set[str]()
        while pages and remaining() >= _LAST_MS:
            shard, cursor = pages.popleft()
            try:
                page = self._store.list_due(shard, until, self._page, cursor)
            except StoreUnavailable as error:
                throttled.add(shard)
                if len(throttled) == len(shards):
                    raise
                logger.warning("shard %s could not be read (%s); the next tick tries again", shard, error)
                continue
            yield page.rows
            if page.cursor is not None:
                pages.append((shard, page.cursor))

    def _overdue_before(self, scope: Scope) -> int:
        """due_at is STALE after the handoff: to look at younger or older handoffs, move the line."""
        shift = 0 if scope.stale_ms is None else self._policy.stale_ms - scope.stale_ms
        return self._clock.now() + shift

    # --- one row ---

    def _visit_in_time(self, row: Due, scope: Scope, remaining: Callable[[], int]) -> str | None:
        """Work on one row, unless the invocation is about to end: then None, and the next tick does."""
        return None if remaining() < _LAST_MS else self._visit_safely(row, scope)

    def _visit_safely(self, row: Due, scope: Scope) -> str:
        """Work on one row; whatever is wrong with it must not keep the sweeper from the next."""
        try:
            return self._rehearse(row, scope) if scope.dry_run else self._visit(row, scope)
        except UnreadableRow as error:
            logger.error("%s; looked at again in an hour", error, extra={"job_id": row.job_id})
            return self._set_aside("unreadable", row, scope, error.due_at)
        except StoreError as error:
            logger.exception("a row could not be worked on", extra={"job_id": row.job_id})
            # what is refused for good would be refused at every tick: it is the row, not the table
            return self._set_aside("unreadable", row, scope) if error.code in _REFUSED_FOR_GOOD else "error"
        except Exception:
            logger.exception("a defect of RelayQ, met at one row", extra={"job_id": row.job_id})
            return self._set_aside("error", row, scope)

    def set_aside(self, row: Due, due_at: int | None = None) -> None:
        """Get a row that nobody can read out of the way for an hour. Never raises."""
        self._set_aside("unreadable", row, Scope(), due_at)

    def _set_aside(self, action: str, row: Due, scope: Scope, due_at: int | None = None) -> str:
        """Get a row that nobody can work on out of the way, from wherever the index has it by now."""
        if not scope.dry_run:
            try:
                seen = row if due_at is None else row._replace(due_at=due_at)
                self._store.postpone(seen, self._clock.now() + sweeping.UNREADABLE_MS)
            except StoreError:
                logger.exception("the row could not be set aside", extra={"job_id": row.job_id})
        return action

    def _visit(self, row: Due, scope: Scope) -> str:
        """Most rows wait for a first nudge: that is tried unread, and only a refusal shows the row."""
        answer = self._store.nudge(row, 0, sweeping.nudge_due_at(0, self._policy, self._clock.now()))
        if answer.done and answer.record is not None:
            return self._nudged(answer.record)
        return self._follow(row, answer.record, self._look(row, answer.record, scope))

    def look_after(self, row: Due, record: JobRecord | None) -> str:
        """Work on a row that runs, or seems to: postpone it, or end a lease that ran out. A waiting one is left alone.

        For workers, which claim themselves what waits. Raises StoreError.
        """
        decision = self._look(row, record, Scope())
        if isinstance(decision, Nudge):
            # one that only a newer version can claim must not stand in the way of what comes due after it
            later = self._clock.now() + sweeping.NEWER_MS
            return self._follow(row, record, Postpone(later)) if record is not None and record.is_newer else "left"
        return self._follow(row, record, decision)

    def end_crashed(self, record: JobRecord, error: JobCrashed | None = None) -> str:
        """End the lease of a runner that is known to be dead, before it runs out; `error`: how. Raises StoreError."""
        token = f"sweep-{secrets.token_hex(8)}"
        settlement = sweeping.release(
            record,
            self._policy,
            token,
            now=self._clock.now(),
            luck=_dice.random(),
            of_type=self._type_of(record),
            error=error,
        )
        return self._end_lease(record, settlement, error)

    def _type_of(self, record: JobRecord | None) -> Options | None:
        known = None if record is None else self._registry.get(record.name)
        return None if known is None else known.options

    def _follow(self, row: Due, record: JobRecord | None, decision: sweeping.Look) -> str:
        match decision:
            case Leave():
                return "left"
            case Postpone(due_at):
                return "postponed" if self._store.postpone(row, due_at) else "left"
            case Nudge(due_at):
                again = self._store.nudge(row, record.nudges if record else 0, due_at)
                return self._nudged(again.record) if again.done and again.record else "left"
            case Settlement():
                assert record is not None
                return self._end_lease(record, decision)

    def _rehearse(self, row: Due, scope: Scope) -> str:
        record = self._store.get(row.job_id)
        match self._look(row, record, scope):
            case Leave():
                return "left"
            case Postpone():
                return "postponed"
            case Nudge():
                return "nudged"
            case Settlement(event):
                return _ACTIONS[event]

    def _look(self, row: Due, record: JobRecord | None, scope: Scope) -> sweeping.Look:
        now = self._clock.now()
        decision = sweeping.look(
            record,
            row.due_at,
            self._policy,
            f"sweep-{secrets.token_hex(8)}",
            now=now,
            luck=_dice.random(),
            of_type=self._type_of(record),
        )
        young = record is not None and (record.started_at or 0) > now - scope.claimed_before_ms
        return Leave() if isinstance(decision, Settlement) and young else decision

    def _nudged(self, record: JobRecord) -> str:
        self._handoffs.hand_off(record)
        return "nudged"

    def _end_lease(self, record: JobRecord, settlement: Settlement, error: JobCrashed | None = None) -> str:
        """End a lease whose runner is gone, if it is still the one that ran out."""
        written = self._settler.settle(record, settlement, error=error or JobCrashed(record.attempt))
        return "left" if written is None else _ACTIONS[written.event]


_ACTIONS = {Event.RELEASE: "released", Event.BURY: "buried", Event.CANCEL: "cancelled"}
