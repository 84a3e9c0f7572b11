"""Testing: the core without AWS. A store in memory, a clock that is set by hand, a handoff that remembers."""

from relayq_core.testing.bench import Bench
from relayq_core.testing.clock import ManualClock
from relayq_core.testing.handoff import Offer, RecordingHandoff
from relayq_core.testing.memory import MemoryStore
from relayq_core.testing.registry import isolated_registry

__all__ = ["Bench", "ManualClock", "MemoryStore", "Offer", "RecordingHandoff", "isolated_registry"]
