"""Jobs and listeners that a test defines are forgotten after it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from relayq_core.registry import Registry, registry
from relayq_core.testing import isolated_registry

# a busy machine is no failure: nothing here asserts how long anything takes
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def jobs() -> Iterator[Registry]:
    """The registry that classes and decorators write to: empty, and afterwards as it was."""
    with isolated_registry():
        yield registry
