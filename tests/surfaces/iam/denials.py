"""Calls that must be denied, by kind: who must not, the action, the resource, and the item's key."""

from __future__ import annotations

from tests.surfaces.iam.evaluator import Request
from tests.surfaces.iam.principals import ACCOUNT, ARNS, BUS, IDENTITY, OWN_RUNNER, PARAMETER, REGION, SECRET

JOBS, FAILED = ARNS["JobsTable"], ARNS["FailedJobsTable"]
RUNNER, SWEEPER, API = ARNS["RunnerFunction"], ARNS["SweeperFunction"], ARNS["ApiFunction"]
DUE, BY_QUEUE = f"{JOBS}/index/due", f"{FAILED}/index/by_queue"
OTHER_TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/other-JobsTable-9Z"
OTHER_FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:other"
OTHER_ACCOUNTS_TABLE = JOBS.replace(ACCOUNT, "999999999999")
OTHER_LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/other:log-stream:x"

EVERYONE = ("dispatcher", "runner", "own-runner", "worker", "sweeper", "api", "schedule")
RUNNERS = ("runner", "own-runner", "worker")


def _all_but(*allowed: str) -> tuple[str, ...]:
    return tuple(each for each in EVERYONE if each not in allowed)


_KINDS: list[tuple[tuple[str, ...], str, str, str | None]] = [
    # a dispatcher deletes keys, and no job; whatever else it could do to the jobs table by another verb
    (("dispatcher", "api", "schedule"), "dynamodb:DeleteItem", JOBS, "job#1"),
    (EVERYONE, "dynamodb:PartiQLDelete", JOBS, "job#1"),
    (EVERYONE, "dynamodb:PartiQLUpdate", JOBS, "job#1"),
    (EVERYONE, "dynamodb:PartiQLSelect", JOBS, "job#1"),
    (_all_but("dispatcher", *RUNNERS), "dynamodb:PartiQLInsert", JOBS, "job#1"),
    (EVERYONE, "dynamodb:BatchWriteItem", JOBS, "job#1"),
    (_all_but("api"), "dynamodb:BatchGetItem", JOBS, "job#1"),
    (EVERYONE, "dynamodb:ConditionCheckItem", JOBS, "job#1"),
    (("sweeper", "schedule"), "dynamodb:PutItem", JOBS, "job#1"),
    (("schedule",), "dynamodb:GetItem", JOBS, "job#1"),
    # what all of RelayQ rests on
    (EVERYONE, "dynamodb:PutItem", JOBS, "queues"),
    (EVERYONE, "dynamodb:PutItem", JOBS, "sweeper"),
    (EVERYONE, "dynamodb:DeleteItem", JOBS, "queues"),
    (EVERYONE, "dynamodb:DeleteItem", JOBS, "sweeper"),
    (EVERYONE, "dynamodb:PartiQLInsert", JOBS, "queues"),
    (EVERYONE, "dynamodb:PartiQLInsert", JOBS, "sweeper"),
    (_all_but("sweeper"), "dynamodb:UpdateItem", JOBS, "sweeper"),
    (("sweeper", "schedule"), "dynamodb:UpdateItem", JOBS, "queues"),
    # reading more than one row
    (_all_but("worker", "sweeper", "api"), "dynamodb:Query", DUE, "q#0"),
    (_all_but("api"), "dynamodb:Query", BY_QUEUE, "q"),
    (EVERYONE, "dynamodb:Query", JOBS, "job#1"),
    (EVERYONE, "dynamodb:Query", FAILED, "1"),
    (EVERYONE, "dynamodb:Scan", JOBS, None),
    (EVERYONE, "dynamodb:Scan", DUE, None),
    (EVERYONE, "dynamodb:Scan", FAILED, None),
    (EVERYONE, "dynamodb:Scan", BY_QUEUE, None),
    # the failed table
    (_all_but("api"), "dynamodb:DeleteItem", FAILED, "1"),
    (("dispatcher", "api", "schedule"), "dynamodb:PutItem", FAILED, "1"),
    (EVERYONE, "dynamodb:UpdateItem", FAILED, "1"),
    # the tables themselves
    *((EVERYONE, f"dynamodb:{action}", table, None)
      for table in (JOBS, FAILED)
      for action in ("DeleteTable", "UpdateTable", "UpdateTimeToLive", "CreateBackup", "ExportTableToPointInTime")),
    (EVERYONE, "dynamodb:GetRecords", f"{JOBS}/stream/2026-01-01T00:00:00.000", None),
    # another stack's
    *((EVERYONE, f"dynamodb:{action}", OTHER_TABLE, "unique#1")
      for action in ("GetItem", "PutItem", "UpdateItem", "DeleteItem")),
    (EVERYONE, "dynamodb:GetItem", OTHER_ACCOUNTS_TABLE, "job#1"),
    (EVERYONE, "dynamodb:Query", f"{OTHER_TABLE}/index/due", "q#0"),
    # functions
    (EVERYONE, "lambda:InvokeFunction", OTHER_FUNCTION, None),
    (EVERYONE, "lambda:InvokeFunction", f"{OWN_RUNNER}:live", None),  # the alias has an ARN of its own
    (EVERYONE, "lambda:InvokeFunction", API, None),
    (_all_but("schedule"), "lambda:InvokeFunction", SWEEPER, None),
    (("schedule",), "lambda:InvokeFunction", RUNNER, None),
    (EVERYONE, "lambda:UpdateFunctionCode", RUNNER, None),
    (EVERYONE, "lambda:UpdateFunctionConfiguration", RUNNER, None),
    (EVERYONE, "lambda:GetFunctionConfiguration", API, None),
    (EVERYONE, "scheduler:UpdateSchedule", f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/tick", None),
    # secrets
    (_all_but("api"), "secretsmanager:GetSecretValue", SECRET, None),
    (EVERYONE, "secretsmanager:GetSecretValue", SECRET.replace("relayq-token", "other"), None),
    (EVERYONE, "secretsmanager:PutSecretValue", SECRET, None),
    (EVERYONE, "ssm:GetParameter", PARAMETER, None),
    (("api-ssm",), "secretsmanager:GetSecretValue", SECRET, None),
    # mail, events, metrics
    (_all_but("runner"), "ses:SendEmail", IDENTITY, None),
    (EVERYONE, "ses:SendEmail", IDENTITY.replace("example.com", "example.org"), None),
    (EVERYONE, "ses:SendRawEmail", IDENTITY, None),
    (EVERYONE, "events:PutEvents", BUS.replace("orders", "other"), None),
    (("schedule",), "events:PutEvents", BUS, None),
    (_all_but("api"), "cloudwatch:GetMetricData", "*", None),
    (EVERYONE, "cloudwatch:PutMetricData", "*", None),
    # logs
    (EVERYONE, "logs:PutLogEvents", OTHER_LOGS, None),
    (EVERYONE, "logs:CreateLogGroup", OTHER_LOGS.partition(":log-stream")[0], None),
    (EVERYONE, "logs:CreateLogGroup", ARNS["RunnerLogs"].removesuffix(":*"), None),
    (("runner", "sweeper"), "logs:PutLogEvents", f"{ARNS['ApiLogs'].removesuffix('*')}log-stream:x", None),
    (EVERYONE, "logs:FilterLogEvents", ARNS["RunnerLogs"].removesuffix(":*"), None),
    # more rights
    (EVERYONE, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/other", None),
    (EVERYONE, "iam:AttachRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/runner", None),
    (EVERYONE, "sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/other", None),
]  # fmt: skip
#: Each kind, with each principal that must not.
DENIED = [
    Request(principal, action, resource, {} if key is None else {"dynamodb:LeadingKeys": [key]}, f"kind {number}")
    for number, (whose, action, resource, key) in enumerate(_KINDS, 1)
    for principal in whose
]
KINDS = len(_KINDS)
