"""The judge of pace: how late is a job claimed, what does it cost, and does every queue get its turn?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

from relayq_core.model.record import JobRecord, Status
from tests.adversity.simulation.book import Book, Snapshot
from tests.adversity.simulation.world import Actor

_DOCUMENTED = Path(__file__).parents[3] / "docs" / "units.json"
PROMPT_MS = 2_000
#: A lease that ran out is ended by the next tick but one: a look at a lease that is alive only postpones.
RELEASED_MS = 122_000
#: Nudges come at most so far apart, a tick comes each minute, and the index lags by at most so much.
ALWAYS_MS = 900_000 + 60_000 + 90_000


class Pace:
    """Judges lateness, fairness and cost."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._hold = book.hold
        #: what a claim may be late by, milliseconds; None: this schedule promises nothing
        self.most_late_ms: int | None = ALWAYS_MS
        #: sweeper -> shard -> pages
        self._pages: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._cost: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._did: defaultdict[str, list[str]] = defaultdict(list)

    # --- lateness ---

    def changed(self, verb: str, job_id: str, before: Snapshot, after: Snapshot) -> None:
        """A row was written: since when does it wait, and how long has it waited?"""
        story, now = self._book.stories[job_id], self._book.world.now
        old, new = before.job, after.job
        if new is not None and new.status.is_waiting and (old is None or not old.status.is_waiting):
            story.ready_at = now if _has_no_delay(new) else max(new.available_at, now)
        if verb == "claim" and story.ready_at is not None and old is not None:
            # the sweeper's moments are the caller's: so where a handoff is lost, a caller's clock shifts the start
            no_clock_decides = _has_no_delay(old) and self.most_late_ms == PROMPT_MS
            self._in_time(job_id, "claimed", now - story.ready_at, slack=0 if no_clock_decides else None)
            story.ready_at = None
        if old is not None and old.status is Status.PROCESSING and "release" in verb:
            self._in_time(job_id, "released", now - (old.lease_until or now), least=RELEASED_MS)

    def _in_time(self, job_id: str, what: str, late: int, *, least: int = 0, slack: int | None = None) -> None:
        if self.most_late_ms is not None:
            most = max(self.most_late_ms, least) + (2 * self._book.most_skew if slack is None else slack)
            self._hold(25, late <= most, job_id, f"{what} {late / 1000:.1f} s late, {most / 1000:g} s are allowed")

    # --- fairness ---

    def page(self, actor: Actor, shard: str, shards: list[str]) -> None:
        """A sweep reads a page of a shard."""
        if actor.kind != "sweeper":
            return
        pages = self._pages[actor.name]
        pages[shard] += 1
        if pages[shard] > 1:
            left_out = [other for other in shards if not pages[other]]
            self._hold(24, not left_out, shard, f"read again before {left_out}")

    # --- cost ---

    def wrote(self, job_id: str, verb: str, before: Snapshot, after: Snapshot) -> None:
        """A write was sent: it costs a unit of the table, and one for each entry of the index that comes or goes."""
        were, are = _entry(before.job), _entry(after.job)
        self._cost[job_id]["table"] += 1
        if were != are:
            self._cost[job_id]["index"] += (were is not None) + (are is not None)
        if before != after:
            self._did[job_id].append(verb)

    def read(self, actor: Actor, job_id: str) -> None:
        """A row was read by a caller's dispatch or by a runner."""
        if actor.kind in {"dispatcher", "runner"}:
            self._cost[job_id]["read"] += 1

    def judge_cost(self, job_id: str) -> None:
        """What a job cost in a schedule in which nothing went wrong, beside what the documentation says."""
        asked: Counter[str] = Counter()
        for verb in self._did[job_id]:
            asked.update(_UNITS[verb])
        self._hold(26, +self._cost[job_id] == +asked, job_id, f"it cost {self._cost[job_id]}, asked were {asked}")


def _has_no_delay(row: JobRecord) -> bool:
    """As it was dispatched. A judge asks for what was promised, and not for what the code makes of it."""
    return row.attempt == 0 and row.available_at == row.created_at


def _entry(row: JobRecord | None) -> tuple[str, int] | None:
    return None if row is None or row.due_at is None else (row.queue, row.due_at)


def _documented() -> dict[str, dict[str, int]]:
    """What each write costs, by docs/units.json."""
    units: dict[str, dict[str, int]] = json.loads(_DOCUMENTED.read_text())
    again = {kind: count - units["claim"][kind] for kind, count in units["a short retry, more"].items()}
    return {
        "add": units["dispatch"],
        "claim": units["claim"],
        "save_progress": units["progress(), each"],
        "nudge": units["a start by the sweeper, more"],
        "settle (complete)": units["complete"],
        **dict.fromkeys(("settle (retry)", "settle (snooze)", "settle (give back)", "settle (release)"), again),
    }


_UNITS = _documented()
