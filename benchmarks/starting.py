"""Measure starts in fresh processes, CPU time: imports, and a runner's start up to its first claim."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.aws import start_stand
from benchmarks.measuring import CONTROL, Program, calculate_net_ratio, time_starts
from benchmarks.rows import Row
from benchmarks.scale import Scale

GROUP = "Start"

_CLAIM = """
import boto3
boto3.client("dynamodb").update_item(
    TableName="jobs", Key={"pk": {"S": "job#1"}}, UpdateExpression="SET #s = :p, lease_id = :l",
    ConditionExpression="#s = :w", ExpressionAttributeNames={"#s": "status"},
    ExpressionAttributeValues={":p": {"S": "processing"}, ":w": {"S": "pending"}, ":l": {"S": "0123456789abcdef"}},
    ReturnValues="ALL_NEW",
)
"""
#: What a careful team has in its function besides the client: a structured logger, metrics, a model of its payload.
_USUAL = """
from aws_lambda_powertools import Logger, Metrics
from pydantic import BaseModel
class Payload(BaseModel):
    to: str
    subject: str
logger, metrics = Logger(service="s"), Metrics(namespace="n", service="s")
"""
_RUNNER = """
import relayq_core.handlers.runner as runner
from relayq_core.model import leases
lease = leases.request_lease(
    "0123456789abcdef", runner._relayq.policy, now=1763765123456, remaining_ms=900_000, longest_ms=0
)
assert runner._relayq.store.claim("1", lease).done
"""


def measure(scale: Scale) -> Iterator[Row]:
    """Yield imports first, then the start of a runner."""
    yield _measure_import(scale)
    yield from _measure_runner(scale)


def _measure_import(scale: Scale) -> Row:
    bare: dict[str, str] = {}
    imports = time_starts(
        {
            "bare": Program("pass", bare),
            "boto3": Program("import boto3", bare),
            CONTROL: Program("import boto3", bare),
            "relayq_core": Program("import relayq_core; relayq_core.dispatch", bare),
        },
        rounds=scale.starts,
    )
    return Row(
        GROUP,
        "import relayq_core, with dispatch loaded",
        "import boto3",
        calculate_net_ratio(imports, "relayq_core", "boto3", "bare"),
        0.25,
        unit="× CPU",
        control=calculate_control(imports, "boto3"),
        note="less a bare interpreter; it loads no boto3, pydantic or powertools",
    )


def _measure_runner(scale: Scale) -> Iterator[Row]:
    with start_stand(tls=True) as aws:
        environ = {
            **aws.environ,
            "RELAYQ_JOBS_TABLE": "jobs",
            "RELAYQ_FAILED_TABLE": "failed",
            "RELAYQ_RUNNER_FUNCTION": "runner",
            "RELAYQ_JOB_MODULES": "benchmarks.one_job",
            "LAMBDA_TASK_ROOT": "/var/task",
        }
        starts = time_starts(
            {
                "boto3": Program(_CLAIM, environ),
                CONTROL: Program(_CLAIM, environ),
                "usual": Program(_USUAL + _CLAIM, environ),
                "runner": Program(_RUNNER, environ),
            },
            rounds=scale.starts,
        )
    control = calculate_control(starts, "boto3")
    yield Row(
        GROUP,
        "a runner's start up to its first claim",
        "a boto3 client and its first update_item",
        calculate_net_ratio(starts, "runner", "boto3", None),
        1.05,
        unit="× CPU",
        control=control,
        note="pydantic, powertools, a job and TLS included",
    )
    yield Row(
        GROUP,
        "the same",
        "boto3 and its first call, beside pydantic and powertools",
        calculate_net_ratio(starts, "runner", "usual", None),
        unit="× CPU",
        control=control,
        note="what a careful team has in such a function anyway",
    )


def calculate_control(spent: dict[str, list[float]], base: str) -> float:
    """Return the ratio of the base to itself."""
    return statistics.median(spent[CONTROL]) / statistics.median(spent[base])
