"""A row of the table: the value, the goal, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: If a base measured against itself is further from 1 than this, the machine was too busy for a verdict.
TOLERANCE = 0.03
#: The share by which the same ratio of times has differed between runs on one machine, with other neighbours.
MARGIN = 0.08


class Verdict(StrEnum):
    """What to make of a row."""

    MET = "met"
    MISSED = "missed"
    #: a ratio of times so near its goal that another run may find it on the other side
    NEAR = "near"
    #: measured for information
    NO_GOAL = "no goal"
    #: the base was not equal to itself
    VOID = "void"
    #: what it needs is not on this machine
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Row:
    """One thing measured. `goal` is the most it may be, or with `exact` what it has to be."""

    group: str
    name: str
    against: str
    value: float | None
    goal: float | None = None
    exact: bool = False
    unit: str = "×"
    #: the middle half of the measurements
    spread: tuple[float, float] | None = None
    #: the base against itself, measured beside it
    control: float | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict by the goal, unless the measurement itself is void."""
        if self.value is None:
            return Verdict.SKIPPED
        if self.control is not None and round(abs(self.control - 1), 4) > TOLERANCE:
            return Verdict.VOID
        if self.goal is None:
            return Verdict.NO_GOAL
        if self.is_timed and abs(self.value - self.goal) <= self.goal * MARGIN:
            return Verdict.NEAR
        met = self.value == self.goal if self.exact else self.value <= self.goal
        return Verdict.MET if met else Verdict.MISSED

    @property
    def is_timed(self) -> bool:
        """Whether this is a ratio of CPU or wall times; counts are the same in every run."""
        return self.unit in {"× CPU", "× wall"}
