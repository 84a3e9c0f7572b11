"""Clients and tables on a DynamoDB Local, as production has them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3

from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.client import RelayQ
from relayq_core.settings import Settings

_numbers = itertools.count(1)


class Session:
    """As much of a boto3 session as RelayQ asks for."""

    def __init__(self, client: Callable[..., Any]) -> None:
        self.client = client


@contextmanager
def clients(endpoint: str, count: int) -> Iterator[list[Any]]:
    """Yield `count` low-level clients, each with RelayQ's own configuration."""
    boto = boto3.Session("test", "test", region_name="eu-central-1")
    session = Session(partial(boto.client, endpoint_url=endpoint))
    made = [RelayQ(Settings(jobs_table="none"), session=session).clients.get("dynamodb") for _ in range(count)]
    try:
        yield made
    finally:
        for client in made:
            client.close()


@dataclass(frozen=True)
class Tables:
    """Two tables that only one test has."""

    client: Any
    jobs: str
    failed: str

    def relayq(self, client: Any = None, *, settings: dict[str, Any] | None = None, **parts: Any) -> RelayQ:
        """RelayQ on these tables."""
        named = {"jobs_table": self.jobs, "failed_table": self.failed, "runner_function": "runner"}
        chosen = self.client if client is None else client
        made = Settings(**{**named, **(settings or {})})
        return RelayQ(made, session=Session(lambda service, **more: chosen), **parts)


@contextmanager
def tables(client: Any) -> Iterator[Tables]:
    """Two empty tables, deleted afterwards."""
    name = f"{os.getpid()}-{next(_numbers)}"  # several processes may share an engine
    made = Tables(client, f"jobs-{name}", f"failed-{name}")
    client.create_table(**jobs_table(made.jobs))
    client.create_table(**failed_table(made.failed))
    try:
        yield made
    finally:
        client.delete_table(TableName=made.jobs)
        client.delete_table(TableName=made.failed)
