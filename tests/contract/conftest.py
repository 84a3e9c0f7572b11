"""One suite for every store: in memory, on DynamoDB over moto, and over DynamoDB Local, Amazon's own engine."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest
from botocore.config import Config

from relayq_core.adapters.dynamodb import calls
from relayq_core.adapters.dynamodb import store as dynamodb
from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.model.record import JobRecord
from relayq_core.ports import JobStore
from relayq_core.testing import ManualClock, MemoryStore, isolated_registry
from tests.support.factories import a_job, a_lease

LOCAL = pytest.param("dynamodb_local", marks=pytest.mark.dynamodb_local)
ENGINES = ["memory", "moto", LOCAL]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _no_jobs_of_other_tests() -> Iterator[None]:
    """Names are dispatched here whose code must not be at hand; another test module may have imported it."""
    with isolated_registry():
        yield


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
        """Overwrite attributes of a job's row, as somebody at a console might."""
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


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """It keeps what botocore has read of its models, so that a client is made in no time."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


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


@pytest.fixture
def moto_tables(session: boto3.Session) -> Iterator[Tables]:
    """Tables on moto. It is not atomic under threads: for one thread only."""
    with moto.mock_aws(), client_for(session, None) as client, fresh_tables(client) as tables:
        yield tables


@pytest.fixture
def local_tables(session: boto3.Session, dynamodb_local: str) -> Iterator[Tables]:
    """Tables on DynamoDB Local."""
    with client_for(session, dynamodb_local) as client, fresh_tables(client) as tables:
        yield tables


@pytest.fixture(params=["moto", LOCAL])
def tables(request: pytest.FixtureRequest) -> Tables:
    """Tables on both engines that speak DynamoDB."""
    fixture = {"moto": "moto_tables", "dynamodb_local": "local_tables"}[request.param]
    found: Tables = request.getfixturevalue(fixture)
    return found


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, clock: ManualClock) -> Engine:
    """Every store there is."""
    if request.param == "memory":
        memory = MemoryStore(clock)
        return Engine("memory", memory, memory.spoil)
    tables: Tables = request.getfixturevalue({"moto": "moto_tables", "dynamodb_local": "local_tables"}[request.param])
    return Engine(request.param, tables.store(clock), lambda job_id: tables.edit(job_id, attempt={"S": "many"}))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Neither botocore nor the adapter sleeps between tries; answers with what the adapter would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    monkeypatch.setattr(dynamodb, "call", functools.partial(calls.call, sleep=slept.append))
    return slept


@pytest.fixture
def store(engine: Engine) -> JobStore:
    """The store under test."""
    return engine.store


@pytest.fixture
def spoil(engine: Engine) -> Callable[[str], None]:
    """Make a job's row one that cannot be read."""
    return engine.spoil


@pytest.fixture
def claimed(store: JobStore, clock: ManualClock) -> Callable[..., JobRecord]:
    """Dispatch and claim a job: `claimed(id="a", lease="l")`; other keywords are the job's."""

    def claim(*, lease: str = "lease-1", **changes: Any) -> JobRecord:
        record = a_job(**changes)
        store.add(record)
        answer = store.claim(record.id, a_lease(lease, now=clock.now()))
        assert answer.done
        assert answer.record is not None
        return answer.record

    return claim
