"""Jobs that a test defines are forgotten after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relayq_core.testing import isolated_registry


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Jobs and listeners of a test are its own."""
    with isolated_registry():
        yield
