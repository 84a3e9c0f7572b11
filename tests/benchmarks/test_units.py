"""What DynamoDB's own engine counts is what the documentation says, and what money is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.units import measure_reads, measure_steps, read_promised
from tests.support import dynamo

pytestmark = pytest.mark.dynamodb_local


@pytest.fixture(scope="module")
def client(dynamodb_local: str) -> Iterator[Any]:
    """RelayQ's own, to be counted."""
    with dynamo.clients(dynamodb_local, 1) as (client,):
        yield client


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_step_takes_the_units_that_are_promised(client: Any) -> None:
    """docs/units.json is what docs/cost.py multiplies with prices."""
    with dynamo.tables(client) as tables:
        assert measure_steps(tables) == read_promised()


def test_what_waits_for_later_costs_a_sweep_nothing(dynamodb_local: str) -> None:
    """A sweep reads what is due, however much there is that is not."""
    reads = []
    for waiting in (0, 1000):
        with dynamo.clients(dynamodb_local, 1) as (counted,), dynamo.tables(counted) as tables:
            reads.append(measure_reads(tables, due=200, waiting=waiting))
    assert reads[0] == reads[1] <= 1 + 8 * 1, json.dumps(reads)
