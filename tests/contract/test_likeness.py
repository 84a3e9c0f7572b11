"""The store in memory is the one on DynamoDB: any sequence of calls is answered alike, and leaves the same behind.

What is proved on the memory store, by the stories and by the simulation, is worth as much as this likeness.
This is on moto, which every machine has; tests/adversity/differential does it at length on DynamoDB Local.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from relayq_core.model.lifecycle import Settlement
from relayq_core.model.record import JobRecord, compute_shard
from relayq_core.ports import Due, JobStore
from relayq_core.testing import ManualClock, MemoryStore
from tests.contract.engines import Tables
from tests.support.factories import (
    NOW,
    a_burial,
    a_cancellation,
    a_deletion,
    a_job,
    a_lease,
    a_redrive,
    a_release,
    a_retry,
    a_return,
    a_snooze,
    completion,
)

QUEUE = "emails"
#: Calls in one sequence; long enough to come back from the failed table and go there again.
STEPS = 60
MAKES: dict[str, Callable[..., Settlement]] = {
    "complete": completion,
    "retry": a_retry,
    "snooze": a_snooze,
    "give back": a_return,
    "release": a_release,
    "bury": a_burial,
    "cancel": a_cancellation,
}


def some_calls(seed: int) -> list[tuple[Any, ...]]:
    """Mostly what happens to one job and its key in the course of its life, a second time too, and by the wrong one."""
    chance = random.Random(seed)
    verbs: dict[str, Callable[[], tuple[Any, ...]]] = {
        "add": lambda: (chance.choice(["k", "k", None]), chance.choice([None, None, 5_000]), chance.choice([0, 4_000])),
        "claim": lambda: (chance.randrange(2),),
        "settle": lambda: (chance.randrange(2), chance.choice(sorted(MAKES))),
        "delete": lambda: (chance.randrange(2),),
        "progress": lambda: (chance.randrange(2),),
        "mark": lambda: (chance.randrange(2),),
        "nudge": lambda: (chance.choice([0, 0, 1]),),
        "postpone": tuple,
        "cancel": tuple,
        "redrive": tuple,
        "forget": tuple,
        "look": tuple,
    }
    weights = [4, 6, 6, 1, 2, 2, 3, 1, 2, 3, 1, 4]
    found: list[tuple[Any, ...]] = []
    for _ in range(STEPS):
        if found and chance.random() < 0.15:
            found.append(found[-1])  # its answer was lost
        elif chance.random() < 0.25:
            found.append(("advance", chance.choice([1, 500, 5_000, 5_000, 20_000, 700_000_000])))
        else:
            verb = chance.choices(list(verbs), weights)[0]
            found.append((verb, chance.choice("aaab"), *verbs[verb]()))
    return found


class Story:
    """One sequence of calls, made on one store. What it has seen it goes on using, however old that is."""

    def __init__(self, store: JobStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        #: what each runner claimed, and what was last read of each job
        self.held: dict[tuple[str, int], JobRecord] = {}
        self.seen: dict[str, JobRecord] = {}

    def make(self, call: tuple[Any, ...]) -> Any:
        """Make one call; answers with what the store answered."""
        if call[0] == "advance":
            return self.clock.advance(milliseconds=call[1])
        verb, job_id, *args = call
        if verb in {"settle", "delete", "progress", "mark"}:
            before = self.held.get((job_id, args[0]))
            return before and self._as_holder(verb, before, *args[1:])
        return self._as_anybody(verb, job_id, *args)

    def _as_holder(self, verb: str, before: JobRecord, kind: str = "") -> Any:
        now = self.clock.now()
        match verb:
            case "settle":
                return self.store.settle(before, MAKES[kind](before, now=now))
            case "delete":
                return self.store.settle(before, a_deletion(before, now=now))
            case "progress":
                return self.store.save_progress(before, f'{{"fraction":0.5,"note":"{now}"}}')
            case _:
                return self.store.mark_cancelled(before, now)

    def _as_anybody(self, verb: str, job_id: str, *args: Any) -> Any:
        now = self.clock.now()
        record = self.seen.get(job_id)
        match verb:
            case "add":
                return self._add(job_id, *args)
            case "claim":
                answer = self.store.claim(job_id, a_lease(f"lease-{args[0]}", now=now))
                if answer.done and answer.record is not None:
                    self.held[job_id, args[0]] = answer.record
                return answer
            case "look":
                return self._look(job_id)
            case "forget":
                return self.store.forget(job_id)
            case "redrive":
                failed = self.store.get_failed(job_id)
                return failed and self.store.redrive(failed, a_redrive(failed, now=now))
            case "cancel":
                waits = record is not None and record.status.is_waiting
                return waits and record and self.store.cancel_waiting(record, a_cancellation(record, now=now))
            case _:
                due_at = NOW if record is None or record.due_at is None else record.due_at
                row = Due(due_at, job_id, QUEUE)
                if verb == "postpone":
                    return self.store.postpone(row, now + 40_000)
                return self.store.nudge(row, args[0], now + 50_000)

    def _add(self, job_id: str, key: str | None, window: int | None, delay: int) -> Any:
        now = self.clock.now()
        return self.store.add(
            a_job(
                id=job_id,
                queue=QUEUE,
                created_at=now,
                updated_at=now,
                available_at=now + delay,
                due_at=now + delay + 30_000,
                unique_pk=key and f"unique#send_email#{key}",
                unique_for_ms=window if key else None,
            )
        )

    def _look(self, job_id: str) -> Any:
        record = self.store.get(job_id)
        if record is not None:
            self.seen[job_id] = record
        return record

    def state(self) -> Any:
        """All that can be seen of these jobs."""
        return (
            [self.store.get(job_id) for job_id in "ab"],
            [self.store.get_failed(job_id) for job_id in "ab"],
            [self.store.list_due(compute_shard(QUEUE, job_id), 10**15, 10).rows for job_id in "ab"],
            sorted(record.id for record in self.store.list_failed(QUEUE, 10)),
        )


@pytest.mark.parametrize("seed", range(30))
def test_any_sequence_of_calls_is_answered_alike(moto_tables: Tables, seed: int) -> None:
    """Each answer, and then everything that can be read."""
    clocks = ManualClock(), ManualClock()
    memory = Story(MemoryStore(clocks[0]), clocks[0])
    dynamo = Story(moto_tables.store(clocks[1]), clocks[1])
    made = []
    for call in some_calls(seed):
        made.append(call)
        assert memory.make(call) == dynamo.make(call), made
    assert memory.state() == dynamo.state(), made
