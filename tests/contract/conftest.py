"""One suite for every store: in memory, on DynamoDB over moto, and over DynamoDB Local, Amazon's own engine."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest

from relayq_core.adapters.dynamodb import access as dynamodb
from relayq_core.adapters.dynamodb import calls
from relayq_core.model.record import JobRecord
from relayq_core.ports import JobStore
from relayq_core.testing import ManualClock, MemoryStore
from tests.contract.engines import ENGINES, LOCAL, Engine, Tables, client_for, fresh_tables
from tests.support.factories import a_job, a_lease
from tests.support.isolation import isolated

__all__ = ["isolated"]


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """It keeps what botocore has read of its models, so that a client is made in no time."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


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
