"""Policy: the settings that decisions depend on."""

from __future__ import annotations

from relayq_core.model.backoff import Backoff
from relayq_core.model.value import Value


class Policy(Value, kw_only=True):
    """The settings that decisions depend on, in milliseconds."""

    hands_off: bool = True
    max_wait_ms: int = 65_000
    stale_ms: int = 30_000
    grace_ms: int = 10_000
    retention_ms: int = 604_800_000
    failed_retention_ms: int = 7_776_000_000
    max_attempts: int
    backoff: Backoff
    timeout_ms: int | None = None
    #: a worker renews the leases while their jobs run, and ends handlers whose lease is lost
    renews: bool = False
    #: how long the runner function may live, as it was configured; None where that is not known
    runner_ms: int | None = None
