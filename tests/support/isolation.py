"""A fixture that keeps the jobs and listeners of one test from the next; a conftest imports it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relayq_core.testing import isolated_registry


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Empty the registry and the listeners for one test, and put them back after it."""
    with isolated_registry():
        yield
