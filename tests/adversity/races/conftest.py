"""Races on DynamoDB Local, which is atomic where DynamoDB is: every thread has its own RelayQ and its own client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from relayq_core.testing import isolated_registry
from tests.adversity.races.track import MOST, Track
from tests.support import dynamo


@pytest.fixture(scope="session")
def clients(dynamodb_local: str) -> Iterator[list[Any]]:
    """A client for each thread, as production has it."""
    with dynamo.clients(dynamodb_local, MOST) as made:
        yield made


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    """The threads."""
    with ThreadPoolExecutor(MOST) as threads:
        yield threads


@pytest.fixture
def track(clients: list[Any], pool: ThreadPoolExecutor) -> Iterator[Track]:
    """Empty tables, deleted afterwards; jobs that the test defines are forgotten."""
    with dynamo.tables(clients[0]) as tables, isolated_registry():
        yield Track(clients, pool, tables)
