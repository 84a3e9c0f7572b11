"""The pytest plugin: three fixtures. It imports nothing but pytest until a test uses one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from relayq_core.testing import Kit

#: Credentials that are not valid anywhere, so that no test can reach AWS by mistake.
_NOWHERE = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "RELAYQ_JOBS_TABLE": "jobs",
    "RELAYQ_FAILED_TABLE": "failed",
    "RELAYQ_RUNNER_FUNCTION": "runner",
}


@pytest.fixture
def _relayq_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace all variables of AWS and RelayQ by harmless ones."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "RELAYQ_")):
            monkeypatch.delenv(name)
    for name, value in _NOWHERE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def relayq(_relayq_environment: None) -> Iterator[Kit]:
    """RelayQ on moto's DynamoDB; jobs run in `relayq.drain()`."""
    from relayq_core.testing import on_moto

    with on_moto() as kit:
        yield kit


@pytest.fixture
def relayq_fake(_relayq_environment: None) -> Iterator[Kit]:
    """RelayQ on tables in memory: dispatches are recorded, and run only in `relayq_fake.drain()`."""
    from relayq_core.testing import fake

    with fake() as kit:
        yield kit


@pytest.fixture
def relayq_inline(_relayq_environment: None) -> Iterator[Kit]:
    """RelayQ on tables in memory: a job runs as soon as it is dispatched, with its payload read from JSON."""
    from relayq_core.testing import inline

    with inline() as kit:
        yield kit
