"""What all tests share: the frozen clock, and DynamoDB Local where it can run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from relayq_core.testing import ManualClock
from tests import engines

# A busy machine is no failure: nothing here asserts how long anything takes. CI looks at the same examples each time,
# so that it fails for what a change did; elsewhere each run looks further.
settings.register_profile(
    "relayq", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("relayq")


def pytest_configure(config: pytest.Config) -> None:
    """The marker stands where the engine does."""
    config.addinivalue_line("markers", "dynamodb_local: runs on Amazon's DynamoDB Local (make engines)")


@pytest.fixture
def clock() -> ManualClock:
    """The time, which stands still until a test moves it."""
    return ManualClock()


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """The endpoint of a DynamoDB Local; where there is none the test is skipped and says why, but never in CI."""
    if (problem := engines.missing()) is not None:
        pytest.fail(problem) if "CI" in os.environ else pytest.skip(problem)
    with engines.dynamodb_local() as endpoint:
        yield endpoint
