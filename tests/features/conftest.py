"""The features that RelayQ was specified with: a row each in docs/reference/seed-features.md, and a test each here."""

from __future__ import annotations

import pytest

from relayq_core.testing import Bench
from tests.support.isolation import isolated

__all__ = ["isolated"]


@pytest.fixture
def bench() -> Bench:
    """RelayQ with the default settings, on fakes."""
    return Bench()
