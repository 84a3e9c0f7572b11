"""A handoff that only records."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Offer:
    """One handoff. `here`: a runner handed on to itself; it may not know queue and name, which are None then."""

    job_id: str
    queue: str | None
    run_at: int
    #: a hint: two offers that differ in it alone are equal
    name: str | None = field(default=None, compare=False)
    here: bool = field(default=False, compare=False)


class RecordingHandoff:
    """A handoff that starts no runner and records each offer. Set `error` to make it fail."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.error: Exception | None = None

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Record the offer, or raise `error`."""
        if self.error is not None:
            raise self.error
        self.offers.append(Offer(job_id, queue, run_at, name, here))
