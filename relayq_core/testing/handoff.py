"""A handoff that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Offer:
    """One handoff. `here`: a runner handed on to itself; queue and name are None where it did not know them."""

    job_id: str
    queue: str | None
    run_at: int
    #: hints change nothing about which handoff it is
    name: str | None = field(default=None, compare=False)
    here: bool = field(default=False, compare=False)


class RecordingHandoff:
    """A handoff that tells nobody, and remembers what it was asked. Set `error` to make it fail."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.error: Exception | None = None

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Remember the offer, or raise `error`."""
        if self.error is not None:
            raise self.error
        self.offers.append(Offer(job_id, queue, run_at, name, here))
