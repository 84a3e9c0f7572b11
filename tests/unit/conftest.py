"""Jobs and listeners that a test defines are forgotten after it."""

from collections.abc import Iterator

import pytest

from relayq_core.jobs.registry import Registry, registry
from relayq_core.testing import isolated_registry


@pytest.fixture(autouse=True)
def jobs() -> Iterator[Registry]:
    """The registry that classes and decorators write to: empty, and afterwards as it was."""
    with isolated_registry():
        yield registry
