"""RelayQ, broken on purpose: `make chaos ARGS="--chaos-mutant unfenced"` has to fail, or the laws see too little.

The simulation has many more of them; these show that what is judged here is what was deployed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """One line of a file of relayq_core, and what stands there instead."""

    file: str
    line: str
    instead: str

    def apply(self, core: Path) -> None:
        """Break this copy of relayq_core."""
        path = core / self.file
        source = path.read_text()
        assert source.count(self.line) == 1, f"{self.file} has no such line any more: {self.line}"
        path.write_text(source.replace(self.line, self.instead))


MUTANTS = {
    # a runner settles without holding the lease: laws I4, I5, I6
    "unfenced": Mutant(
        "adapters/dynamodb/expressions.py",
        'HELD = "#status = :processing AND lease_id = :lease"',
        'HELD = "#status = :processing AND (lease_id = :lease OR attribute_exists(pk))"',
    ),
    # a crash in the last attempt is followed by one more: law I3
    "one start too many": Mutant(
        "engine/execution.py",
        "if self._record.exhausted:",
        "if self._record.exhausted and not self._record.attempt:",
    ),
    # half the wait after a failure: law I13
    "impatient": Mutant(
        "model/settling.py", "available_at = now + round(wait * 1000)", "available_at = now + round(wait * 500)"
    ),
    # no sweeper ends a lease that ran out: laws I1, I14
    "no release": Mutant("model/sweeping.py", "if lease_ends > now:", "if lease_ends:"),
}
