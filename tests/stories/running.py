"""What stories of runs share."""

from __future__ import annotations

from relayq_core.engine.results import RunOutcome
from relayq_core.testing import Bench

SECOND = 1_000
MINUTE = 60_000


def next_run(bench: Bench) -> RunOutcome:
    """Run the job of the last handoff."""
    offer = bench.handoff.offers.pop()
    bench.handoff.offers.clear()
    return bench.run(offer.job_id, offer.run_at).ended
