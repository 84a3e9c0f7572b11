"""What the tables hold of a job."""

from __future__ import annotations

from relayq_core.model.record import JobRecord
from relayq_core.testing import Bench


def read_row(bench: Bench, job_id: str = "mine") -> JobRecord:
    """Return the job's record, from whichever table has it; fail if neither has."""
    record = bench.relayq.get(job_id)
    assert record is not None
    return record
