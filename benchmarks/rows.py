"""A row of the table: what was found, what was wanted, and whether it is so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: A base measured against itself that is further from 1 tells of the machine, not of RelayQ.
TOLERANCE = 0.03
#: By up to so much of itself the same ratio of times has differed between runs: on one machine, with other neighbours.
MARGIN = 0.08


class Verdict(StrEnum):
    """What to make of a row."""

    MET = "met"
    MISSED = "missed"
    #: a ratio of times so near its goal that another run may find it on the other side
    NEAR = "near"
    #: measured so that one knows; nothing was promised
    TOLD = "told"
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
        """Judged by the goal, unless the measurement itself is void."""
        if self.value is None:
            return Verdict.SKIPPED
        if self.control is not None and round(abs(self.control - 1), 4) > TOLERANCE:
            return Verdict.VOID
        if self.goal is None:
            return Verdict.TOLD
        if self.is_timed and abs(self.value - self.goal) <= self.goal * MARGIN:
            return Verdict.NEAR
        met = self.value == self.goal if self.exact else self.value <= self.goal
        return Verdict.MET if met else Verdict.MISSED

    @property
    def is_timed(self) -> bool:
        """A ratio of CPU or wall times; what is counted is the same in every run."""
        return self.unit in {"× CPU", "× wall"}
