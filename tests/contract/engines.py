"""The engines that a store is tested on, and tables on them that one test has to itself."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.ports import JobStore
from relayq_core.testing import ManualClock

LOCAL = pytest.param("dynamodb_local", marks=pytest.mark.dynamodb_local)


ENGINES = ["memory", "moto", LOCAL]


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tables:
    """A DynamoDB client, and two tables that only this test has."""

    client: Any
    jobs: str
    failed: str

    def store(self, clock: ManualClock) -> DynamoStore:
        """The adapter on these tables."""
        return DynamoStore(lambda: self.client, self.jobs, self.failed, now=clock.now)

    def item(self, job_id: str) -> dict[str, Any]:
        """A job's row as it stands in the jobs table."""
        answer = self.client.get_item(TableName=self.jobs, Key={"pk": {"S": f"job#{job_id}"}})
        return dict(answer["Item"])

    def edit(self, job_id: str, **attributes: dict[str, str]) -> None:
        """Overwrite attributes of a job's row, as an operator at a console might."""
        self.client.update_item(
            TableName=self.jobs,
            Key={"pk": {"S": f"job#{job_id}"}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    def remove(self, job_id: str, attribute: str) -> None:
        """Take one attribute from a job's row."""
        self.client.update_item(
            TableName=self.jobs,
            Key={"pk": {"S": f"job#{job_id}"}},
            UpdateExpression="REMOVE #name",
            ExpressionAttributeNames={"#name": attribute},
        )


@dataclass(frozen=True)
class Engine:
    """A store under test, and what the port has no verb for."""

    name: str
    store: JobStore
    #: makes a job's row unreadable
    spoil: Callable[[str], None]


@contextmanager
def client_for(session: boto3.Session, endpoint: str | None) -> Iterator[Any]:
    """A client as production has it, but with parameter validation; endpoint None means moto.

    Each test has its own.
    """
    client = session.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        config=Config(
            parameter_validation=True,
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=1,
            read_timeout=3,
            max_pool_connections=25,
        ),
    )
    yield client
    client.close()


@contextmanager
def fresh_tables(client: Any) -> Iterator[Tables]:
    """Two empty tables, deleted afterwards."""
    number = f"{os.getpid()}-{next(_numbers)}"  # several processes share an engine
    tables = Tables(client, f"jobs-{number}", f"failed-{number}")
    client.create_table(**jobs_table(tables.jobs))
    client.create_table(**failed_table(tables.failed))
    yield tables
    client.delete_table(TableName=tables.jobs)
    client.delete_table(TableName=tables.failed)
