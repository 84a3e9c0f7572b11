"""What tests of the decisions share: a policy, bounds, a claimed job."""

from __future__ import annotations

import json
from typing import Any

from relayq_core import Fixed
from relayq_core.model import leases, settling
from relayq_core.model.bounds import Bounds
from relayq_core.model.lifecycle import Settlement
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import AttemptOutcome
from tests.support.factories import LIMITS, NOW, POLICY, a_job, a_lease

SECOND = 1000
MINUTE = 60 * SECOND


def policy(**changes: Any) -> Policy:
    """The tests' policy, but for these."""
    return Policy(**{"max_attempts": 3, "backoff": Fixed(10), **changes})


def some_bounds(**changes: Any) -> Bounds:
    """The tests' bounds, with these changes."""
    return Bounds(**{"max_attempts": 3, "backoff": Fixed(10), "timeout_ms": None, "timeout_is_own": False, **changes})


def a_claimed_job(**changes: Any) -> JobRecord:
    """A job whose first attempt runs."""
    return leases.claim(a_job(), a_lease()).evolve(**changes)


def settle(job: JobRecord, outcome: AttemptOutcome, of: Bounds = LIMITS, by: Policy = POLICY) -> Settlement:
    """Settle it a second later, with the jitter in the middle."""
    return settling.settle(job, outcome, of, by, now=NOW + SECOND, draw=0.5)


def told_once(attempt: int, at: int, error: str) -> str:
    """A history of one error, as it is stored."""
    return json.dumps([{"attempt": attempt, "at": at, "error": error}], separators=(",", ":"))
