"""Jobs that a test defines are forgotten after it."""

from collections.abc import Iterator

import pytest

from relayq_core.registry import Registry, registry


@pytest.fixture(autouse=True)
def jobs() -> Iterator[Registry]:
    """The registry that classes and decorators write to: empty, and afterwards as it was."""
    kept = dict(registry._types)
    registry._types.clear()
    yield registry
    registry._types.clear()
    registry._types.update(kept)
