"""How much is measured: enough for a verdict, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Rounds and batches of the timings, and how many of what is counted."""

    rounds: int
    batch: int
    #: fresh processes for each start
    starts: int
    dispatches: int
    #: rows that are due in one tick of the sweeper
    due: int
    #: rows that wait while a sweep's reads are counted
    waiting: int


FULL = Scale(rounds=21, batch=40, starts=15, dispatches=1000, due=10_000, waiting=100_000)
QUICK = Scale(rounds=5, batch=10, starts=3, dispatches=100, due=800, waiting=3_000)
