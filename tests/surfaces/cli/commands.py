"""The `relayq` command as a test runs it: in an empty folder, with fresh tables on moto."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import boto3.session
import pytest

from relayq_core.adapters.clients import Clients
from relayq_core.cli.main import main
from relayq_core.local.aws import EmbeddedAws
from relayq_core.testing import isolated_registry

JOBS = '''
"""Jobs of the command line's tests."""

from relayq_core import Bury, Job, Snooze, job


@job(name="cli.greet", queue="greetings", max_attempts=4)
def greet(name: str, greeting: str = "Hello") -> str:
    """Greet somebody."""
    print("this is the handler")
    return f"{greeting}, {name}!"


@job(name="cli.stumble", max_attempts=3, backoff=30)
def stumble() -> None:
    raise ValueError("not this time")


@job(name="cli.refuse")
def refuse() -> None:
    raise Bury("never")


@job(name="cli.nap")
def nap() -> None:
    raise Snooze(30)
'''


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which is one JSON document."""
        return json.loads(self.out)


Relayq = Callable[..., Ran]


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    """DynamoDB, for all tests of this module."""
    embedded = EmbeddedAws()
    yield embedded
    embedded.close()


def _session() -> Any:
    """A boto3 session; made once for each profile, since most of a command's time goes into the first client."""
    return _session_of(os.environ.get("AWS_PROFILE"))


@functools.cache
def _session_of(profile: str | None) -> Any:
    return boto3.session.Session()


@pytest.fixture
def relayq(
    aws: EmbeddedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Relayq]:
    """The command, in an empty folder, with fresh tables; there are no handoffs."""
    for key in list(os.environ):
        if key.startswith(("AWS_", "RELAYQ_")):
            monkeypatch.delenv(key)
    # the code of no job is there
    for key, value in {**aws.environ, "RELAYQ_HANDOFF": "none", "RELAYQ_JOB_MODULES": "cli_elsewhere"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(boto3, "Session", _session)
    monkeypatch.setattr(Clients, "create", property(lambda self: _session().client))
    monkeypatch.delitem(sys.modules, "cli_jobs", raising=False)
    aws.create_tables()

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        code = main(argv)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    with isolated_registry():  # nor of those that other tests have imported
        yield run
    for table in aws.dynamodb.list_tables()["TableNames"]:
        aws.dynamodb.delete_table(TableName=table)


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of jobs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "cli_jobs.py").write_text(JOBS)
    return folder


@pytest.fixture
def project(relayq: Relayq, job_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Relayq:
    """The command, in a folder with jobs."""
    monkeypatch.chdir(job_folder)
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "cli_jobs")
    return relayq


def dispatched(relayq: Relayq, *argv: str) -> str:
    """Dispatch, and answer with the job's id."""
    job_id: str = relayq("dispatch", *argv, "--json").json["job_id"]
    return job_id
