"""The runner and the sweeper loaded as Lambda loads them, on moto, with what they write to their logs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from relayq_core import RelayQ, Settings, api
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.events.listeners import events
from relayq_core.model.record import JobRecord
from relayq_core.testing import isolated_registry
from tests.support.aws_stub import Request, Stub, aws_stub

SECRET = "hunter2-must-not-be-logged"


#: What the template gives the runner, and what Lambda itself does.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_LAMBDA_FUNCTION_NAME": "the-runner",
    "RELAYQ_JOBS_TABLE": "jobs-table",
    "RELAYQ_FAILED_TABLE": "failed-table",
    "RELAYQ_JOB_MODULES": "shop_jobs",
    "POWERTOOLS_METRICS_NAMESPACE": "RelayQ",
}


JOBS = """
import logging
from relayq_core import Job, JobContext, Snooze, dispatch, job, relayq

@job(queue="emails")
def send(context: JobContext, to: str) -> dict[str, str]:
    context.logger.info("sending")
    logging.getLogger(__name__).info("also sending")
    return {"runner": context._now and relayq().settings.runner_function}

@job(queue="emails", max_attempts=2, backoff=0)
def fail(to: str) -> None:
    raise ValueError("no such mailbox")

@job
def parent() -> None:
    dispatch("send", {"to": "child"}, job_id="child")

@job
def sleepy() -> None:
    raise Snooze(5)

@job
def robbed(context: JobContext) -> None:
    values = {":other": {"S": "other"}}
    relayq().store._update(context.job_id, UpdateExpression="SET lease_id = :other", ExpressionAttributeValues=values)

@job
def counting() -> None:
    from aws_lambda_powertools import Metrics
    mine = Metrics(namespace="Shop", service="shop")
    mine.add_metric("Sold", "Count", 1)
    mine.flush_metrics()
"""


class Context:
    """Lambda's context object, with plenty of time."""

    aws_request_id = "request-1"
    remaining = 300_000

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds."""
        return self.remaining


class Lambdas:
    """The functions as Lambda would load them, their tables, and their output."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._patch = monkeypatch
        self._capsys = capsys
        self.folder = folder
        self._services = 0
        self.caller = RelayQ(
            Settings(jobs_table="jobs-table", failed_table="failed-table", handoff="none"), validate_parameters=True
        )

    def load(self, name: str, **environment: str) -> ModuleType:
        """A cold start of `runner` or `sweeper`: its module, imported afresh in this environment."""
        self._services += 1
        service = f"{self.folder.name}-{self._services}"  # Powertools keeps one logger for each, with its old stdout
        for key, value in {**ENVIRONMENT, "POWERTOOLS_SERVICE_NAME": service, **environment}.items():
            self._patch.setenv(key, value)
        for module in ("handlers.telemetry", "handlers.runner", "handlers.sweeper"):
            sys.modules.pop(f"relayq_core.{module}", None)
        forget_jobs()
        return importlib.import_module(f"relayq_core.handlers.{name}")

    def write(self, module: str, source: str) -> None:
        """A job module in the function's folder."""
        (self.folder / f"{module}.py").write_text(source)

    def output(self) -> list[dict[str, Any]]:
        """Every line written since the last look, each of them JSON: that is what CloudWatch can search."""
        out, err = self._capsys.readouterr()
        assert err == ""
        return [json.loads(line) for line in out.splitlines()]

    def dispatch(self, name: str, args: dict[str, Any] | None = None, **options: Any) -> str:
        """Write a job into the table, without a handoff."""
        kept, events._listeners = events._listeners, defaultdict(list)
        try:
            return self.caller.dispatch(name, args, **options).job_id
        finally:
            events._listeners = kept

    def job(self, job_id: str) -> JobRecord:
        """The job as it now is."""
        found = self.caller.get(job_id)
        assert found is not None
        return found


@contextmanager
def loggers_as_they_were() -> Iterator[None]:
    """The handlers take over these loggers for good, as they may in a process of their own."""
    taken = [logging.getLogger(name) for name in ("relayq", "jobs", "shop_jobs", "broken_jobs")]
    kept = [(logger, logger.handlers, logger.level, logger.propagate) for logger in taken]
    try:
        yield
    finally:
        for logger, handlers, level, propagate in kept:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


@pytest.fixture
def invocations() -> Iterator[Stub]:
    """Lambda, as far as invoking goes."""
    with aws_stub() as stub:
        yield stub


def no_such_function(_: Request) -> tuple[int, bytes]:
    """What Lambda answers where there is none."""
    return 404, b'{"__type": "ResourceNotFoundException", "Message": "Function not found"}'


@pytest.fixture
def lambdas(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, invocations: Stub
) -> Iterator[Lambdas]:
    """Both tables on moto, a Lambda that takes every event, and the folder of the job modules."""
    monkeypatch.syspath_prepend(tmp_path)
    for key, value in ENVIRONMENT.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", invocations.url)
    made = Lambdas(monkeypatch, capsys, tmp_path)
    made.write("shop_jobs", JOBS)
    former = api.use(None)
    with (
        mock_aws(config={"core": {"passthrough": {"services": ["lambda"], "urls": []}}}),
        isolated_registry(),
        loggers_as_they_were(),
    ):
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(**jobs_table("jobs-table"))
        dynamodb.create_table(**failed_table("failed-table"))
        yield made
    api.use(former)
    forget_jobs()


def forget_jobs() -> None:
    """The next import of the job modules is of what stands in the folder then."""
    for module in [module for module in sys.modules if module.partition(".")[0] in {"shop_jobs", "broken_jobs"}]:
        del sys.modules[module]


def metrics_of(lines: list[dict[str, Any]], namespace: str = "RelayQ") -> dict[str, list[float]]:
    """Every value of every metric in these lines."""
    found: dict[str, list[float]] = {}
    for line in lines:
        for blob in line.get("_aws", {}).get("CloudWatchMetrics", []):
            if blob["Namespace"] == namespace:
                assert blob["Dimensions"] == [["service"]]
                for metric in blob["Metrics"]:
                    found.setdefault(metric["Name"], []).extend(line[metric["Name"]])
    return found


def logs_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that are no metrics."""
    return [line for line in lines if "_aws" not in line]
