"""The features that RelayQ was specified with: a row each in docs/reference/seed-features.md, and a test each here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relayq_core.testing import Bench, isolated_registry


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Jobs and listeners of a test are its own."""
    with isolated_registry():
        yield


@pytest.fixture
def bench() -> Bench:
    """RelayQ with the default settings, on fakes."""
    return Bench()
