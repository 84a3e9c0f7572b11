"""A dashboard on a store in memory, and a browser without a face: it keeps cookies and fills in forms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relayq_core.jobs.registry import registry
from relayq_core.testing import isolated_registry
from tests.surfaces.dashboard.browsing import Browser, World


@pytest.fixture
def world() -> Iterator[World]:
    """Empty tables, no jobs registered."""
    with isolated_registry():
        yield World(registry)


@pytest.fixture
def browser(world: World) -> Browser:
    """Logged in, and allowed to change things."""
    return world.browser()
