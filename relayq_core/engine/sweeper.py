"""Sweep: find the rows that are due and that no runner has started. The index only nominates; the row decides."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from relayq_core.engine.paging import read_pages
from relayq_core.engine.row_sweeper import RowSweeper
from relayq_core.errors import StoreUnavailable
from relayq_core.events.listeners import Events
from relayq_core.jobs.registry import Registry
from relayq_core.model.policy import Policy
from relayq_core.model.record import list_shards
from relayq_core.ports import Clock, Due, Handoff, SweeperStore
from relayq_core.process.budget import calls_within
from relayq_core.process.concurrency import Spread, Spreading, spread_serially
from relayq_core.process.loggers import logger

#: A tick ends its work with this much of its invocation left: a call that is on its way then takes 6 s at most (a
#: handoff that gets no answer, sent twice), and what the tick did is written down after it.
_RESERVE_MS = 8_000
#: With less left it begins nothing more.
_LAST_MS = 9_000
#: This many rows are swept together; the time and the errors are looked at in between.
_AT_A_TIME = 50
#: This many rows in a row that could not be worked on mean that the table itself is in trouble.
_ERRORS_IN_A_ROW = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one sweep looks at; the default is what the schedule does."""

    #: only these queues
    queues: Sequence[str] | None = None
    #: rows whose handoff is this old, instead of STALE (milliseconds)
    stale_ms: int | None = None
    #: release only what was claimed at least this long ago; a live lease is never cut
    claimed_before_ms: int = 0
    #: act on this many rows at most
    limit: int | None = None
    #: report what would be done, and do nothing
    dry_run: bool = False
    #: how far ahead to look and wait (milliseconds)
    lookahead_ms: int = 0


@dataclass(slots=True)
class SweepResult:
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
        store: SweeperStore,
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
        self._clock = clock
        self._policy = policy
        self._page = page
        self._spreading = spreading
        # the sweeper function knows no job types: it has no job's code
        self.rows = RowSweeper(store, handoff, clock, policy, events, Registry() if registry is None else registry)

    def sweep(self, remaining: Callable[[], int], scope: Scope | None = None) -> SweepResult:
        """Sweep everything overdue first, in all shards; then what becomes due soon, each row at its moment.

        `remaining()` returns how many milliseconds this invocation has left. Raises StoreError where the tables
        cannot be used at all.
        """
        scope = scope or Scope()
        began = self._clock.now()
        tick = _Tick(self._store, self.rows, self._clock, self._policy, scope, remaining, self._page)
        with calls_within((remaining() - _RESERVE_MS) / 1000), self._spreading() as spread:
            result = tick.sweep(spread)
        if not scope.dry_run:
            self._store.record_tick(began, dict(result.counts), self._name)
        return result


class _Tick:
    """One sweep, within one invocation."""

    def __init__(
        self,
        store: SweeperStore,
        rows: RowSweeper,
        clock: Clock,
        policy: Policy,
        scope: Scope,
        remaining: Callable[[], int],
        page: int,
    ) -> None:
        self._store = store
        self._rows = rows
        self._clock = clock
        self._scope = scope
        self._remaining = remaining
        self._page = page
        #: due_at is STALE after the handoff: to sweep younger or older handoffs, move the line
        self._shift_ms = 0 if scope.stale_ms is None else policy.stale_ms - scope.stale_ms

    def sweep(self, spread: Spread) -> SweepResult:
        """Sweep batch by batch, until all is done or the limit, the time or the table's trouble ends it."""
        result = SweepResult()
        began, errors = self._clock.now(), 0
        for batch in self._yield_batches():
            room = len(batch) if self._scope.limit is None else self._scope.limit - result.counts.total()
            actions = spread(self._sweep_in_time, batch[:room])
            for row, action in zip(batch, actions, strict=False):
                if action is not None:
                    result.add(row, action)
                    result.oldest_due_age_ms = max(result.oldest_due_age_ms, began - row.due_at)
                    errors = errors + 1 if action == "error" else 0
            if result.counts.total() == self._scope.limit or None in actions:
                break
            if errors >= _ERRORS_IN_A_ROW:
                logger.error("%d rows in a row could not be worked on; the sweep ends here", errors)
                break
        return result

    def _sweep_in_time(self, row: Due) -> str | None:
        """Sweep one row or, if the invocation is about to end, leave it to the next tick and return None."""
        if self._remaining() < _LAST_MS:
            return None
        act = self._rows.rehearse if self._scope.dry_run else self._rows.sweep
        return act(row, claimed_before_ms=self._scope.claimed_before_ms)

    def _yield_batches(self) -> Iterator[list[Due]]:
        """Yield rows, some at a time, when it is time to sweep them; end before the invocation does."""
        ahead: list[Due] = []
        for page in self._yield_pages():
            line = self._clock.now() + self._shift_ms
            overdue = [row for row in page if row.due_at <= line]
            for row in page[len(overdue) :]:
                heapq.heappush(ahead, row)
            for start in range(0, len(overdue), _AT_A_TIME):
                yield overdue[start : start + _AT_A_TIME]
        while ahead:
            wait = ahead[0].due_at - self._clock.now()
            if self._remaining() - max(0, wait) < _LAST_MS:
                return
            if wait > 0:
                self._clock.sleep(wait)
            yield self._take_due(ahead)

    def _take_due(self, ahead: list[Due]) -> list[Due]:
        """Take the first row of those ahead, and what has become due with it."""
        rows = [heapq.heappop(ahead)]
        while ahead and ahead[0].due_at <= self._clock.now() and len(rows) < _AT_A_TIME:
            rows.append(heapq.heappop(ahead))
        return rows

    def _yield_pages(self) -> Iterator[tuple[Due, ...]]:
        """Yield all rows of the index up to the horizon: a page of each shard in turn, from a random shard on."""
        if self._remaining() < _LAST_MS:
            return
        queues = self._store.list_queues() if self._scope.queues is None else self._scope.queues
        shards = [shard for queue in queues for shard in list_shards(queue)]
        first = random.randrange(len(shards)) if shards else 0
        # a sweep of handoffs of a certain age has nothing to look ahead for
        ahead_ms = self._scope.lookahead_ms if self._scope.stale_ms is None else 0
        until = self._clock.now() + self._shift_ms + ahead_ms
        readers = deque(
            (shard, read_pages(self._store, shard, limit=self._page, until=until))
            for shard in shards[first:] + shards[:first]
        )
        throttled = set[str]()
        while readers and self._remaining() >= _LAST_MS:
            shard, reader = readers.popleft()
            try:
                page = next(reader, None)
            except StoreUnavailable as error:
                throttled.add(shard)
                if len(throttled) == len(shards):
                    raise
                logger.warning("shard %s could not be read (%s); the next tick tries again", shard, error)
                continue
            if page is not None:
                yield page
                readers.append((shard, reader))
