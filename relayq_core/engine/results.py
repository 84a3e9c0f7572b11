"""Results: how one run of a job ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relayq_core.model.record import JobRecord


class RunOutcome(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    RETRYING = "retrying"
    SNOOZED = "snoozed"
    GIVEN_BACK = "given back"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: the handoff was late or a duplicate: another runner has the job, or it has ended, or is not there
    NOT_CLAIMED = "not claimed"
    #: too little time was left; handed off again
    HANDED_ON = "handed on"
    #: another runner holds the job now: this one's outcome was discarded
    LEASE_LOST = "lease lost"
    #: claimed, but the store could not be written: the lease will run out
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and the job as it then was, as far as this runner knows."""

    ended: RunOutcome
    job: JobRecord | None = None
