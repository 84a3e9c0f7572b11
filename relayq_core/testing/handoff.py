"""A handoff that remembers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """One handoff: `queue` is None where a runner handed on to itself."""

    job_id: str
    queue: str | None
    run_at: int


class RecordingHandoff:
    """A handoff that tells nobody, and remembers what it was asked. Set `error` to make it fail."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.error: Exception | None = None

    def offer(self, job_id: str, queue: str | None, run_at: int) -> None:
        """Remember the offer, or raise `error`."""
        if self.error is not None:
            raise self.error
        self.offers.append(Offer(job_id, queue, run_at))
