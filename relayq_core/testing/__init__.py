"""Test jobs without AWS: kits and fixtures, and their parts: a store, a clock and a handoff."""

from relayq_core.testing.bench import Bench
from relayq_core.testing.clock import ManualClock
from relayq_core.testing.handoff import Offer, RecordingHandoff
from relayq_core.testing.kit import Kit, fake, inline
from relayq_core.testing.memory import MemoryStore
from relayq_core.testing.on_moto import on_moto
from relayq_core.testing.performing import perform
from relayq_core.testing.registry import isolated_registry

__all__ = [
    "Kit",
    "fake",
    "inline",
    "on_moto",
    "perform",
    "Bench",
    "ManualClock",
    "MemoryStore",
    "Offer",
    "RecordingHandoff",
    "isolated_registry",
]
