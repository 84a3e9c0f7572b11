"""Tables on DynamoDB Local, for rows that RelayQ would never write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import dynamo


@pytest.fixture(scope="session")
def client(dynamodb_local: str) -> Iterator[Any]:
    """A client as production has it."""
    with dynamo.clients(dynamodb_local, 1) as (made,):
        yield made


@pytest.fixture
def tables(client: Any) -> Iterator[dynamo.Tables]:
    """Two empty tables."""
    with dynamo.tables(client) as made:
        yield made
