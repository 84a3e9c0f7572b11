"""What it takes to begin: imports, and a runner's start up to its first claim. Fresh processes, CPU time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.aws import stand
from benchmarks.measuring import CONTROL, Program, net_ratio, started
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
#: What a careful team has in its function beside the client: a structured logger, metrics, a model of its payload.
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
lease = leases.request_lease("0123456789abcdef", 1763765123456, 900_000, runner._relayq.policy, 0)
assert runner._relayq.store.claim("1", lease).done
"""


def rows(scale: Scale) -> Iterator[Row]:
    """Imports first, then the start of a runner."""
    bare: dict[str, str] = {}
    imports = started(
        {
            "bare": Program("pass", bare),
            "boto3": Program("import boto3", bare),
            CONTROL: Program("import boto3", bare),
            "relayq_core": Program("import relayq_core; relayq_core.dispatch", bare),
        },
        rounds=scale.starts,
    )
    yield Row(
        GROUP,
        "import relayq_core, with dispatch loaded",
        "import boto3",
        net_ratio(imports, "relayq_core", "boto3", "bare"),
        0.25,
        unit="× CPU",
        control=control_of(imports, "boto3"),
        note="less a bare interpreter; it loads no boto3, pydantic or powertools",
    )
    with stand(tls=True) as aws:
        environ = {
            **aws.environ,
            "RELAYQ_JOBS_TABLE": "jobs",
            "RELAYQ_FAILED_TABLE": "failed",
            "RELAYQ_RUNNER_FUNCTION": "runner",
            "RELAYQ_JOB_MODULES": "benchmarks.one_job",
            "LAMBDA_TASK_ROOT": "/var/task",
        }
        starts = started(
            {
                "boto3": Program(_CLAIM, environ),
                CONTROL: Program(_CLAIM, environ),
                "usual": Program(_USUAL + _CLAIM, environ),
                "runner": Program(_RUNNER, environ),
            },
            rounds=scale.starts,
        )
    control = control_of(starts, "boto3")
    yield Row(
        GROUP,
        "a runner's start up to its first claim",
        "a boto3 client and its first update_item",
        net_ratio(starts, "runner", "boto3", None),
        1.05,
        unit="× CPU",
        control=control,
        note="pydantic, powertools, a job and TLS included",
    )
    yield Row(
        GROUP,
        "the same",
        "boto3 and its first call, beside pydantic and powertools",
        net_ratio(starts, "runner", "usual", None),
        unit="× CPU",
        control=control,
        note="what a careful team has in such a function anyway",
    )


def control_of(spent: dict[str, list[float]], base: str) -> float:
    """The base against itself."""
    return statistics.median(spent[CONTROL]) / statistics.median(spent[base])
