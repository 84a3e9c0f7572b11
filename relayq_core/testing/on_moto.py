"""Run the kit on moto's DynamoDB, with the real adapter, its expressions and its items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.process.extras import extra
from relayq_core.testing.clock import StandingNow
from relayq_core.testing.kit import Kit


@contextmanager
def on_moto(**settings: Any) -> Iterator[Kit]:
    """While the block runs, make boto3 use moto, with RelayQ's two tables; only `drain()` and `run()` run jobs.

    Needs some credentials and a region in the environment. Not for tests with threads: moto is not atomic. Yields the
    kit.
    """
    import boto3

    with extra("testing"):
        from moto import mock_aws

    clock = StandingNow()
    with mock_aws():
        client = boto3.client("dynamodb")
        for table in (jobs_table("jobs"), failed_table("failed")):
            client.create_table(**table)
        store = DynamoStore(lambda: client, "jobs", "failed", now=clock.now)
        with Kit(store=store, clock=clock, **settings).installed() as kit:
            yield kit
