"""What all tests share: the frozen clock, and DynamoDB Local where it can run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relayq_core.testing import ManualClock
from tests import engines


def pytest_configure(config: pytest.Config) -> None:
    """The marker stands where the engine does."""
    config.addinivalue_line("markers", "dynamodb_local: runs on Amazon's DynamoDB Local (make engines)")


@pytest.fixture
def clock() -> ManualClock:
    """The time, which stands still until a test moves it."""
    return ManualClock()


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """The endpoint of a DynamoDB Local; the test is skipped, and says why, where there is none."""
    if (problem := engines.missing()) is not None:
        pytest.skip(problem)
    with engines.dynamodb_local() as endpoint:
        yield endpoint
