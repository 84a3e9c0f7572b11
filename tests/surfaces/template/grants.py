"""Who may call what: the grants in the translated template, and the grant that a recorded call needs.

Both come as pairs such as ("jobs", "dynamodb:PutItem"), so that a test can compare them both ways.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tests.surfaces.template.translate import read, translate

#: What is granted (the kind of thing), and the action on it.
Grant = tuple[str, str]

#: The roles and managed policies that hold each principal's grants.
PRINCIPALS = {
    "dispatcher": ["DispatchPolicy"],
    "runner": ["RunnerFunctionRole"],
    "worker": ["RunnerPolicy", "WorkerPolicy"],
    "sweeper": ["SweeperFunctionRole"],
    "api": ["ApiFunctionRole"],
}

_KINDS = {
    "JobsTable.Arn": "jobs",
    "FailedJobsTable.Arn": "failed",
    "${JobsTable.Arn}/index/due": "jobs/due",
    "${FailedJobsTable.Arn}/index/by_queue": "failed/by_queue",
    "RunnerFunction.Arn": "runner",
    "RunnerFunctionArns": "runners",
    "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/${EventBusName}": "bus",
    "ApiTokenSecretArn": "token",
    "SesIdentityArn": "mail",
    "RunnerLogs.Arn": "own logs",
    "SweeperLogs.Arn": "own logs",
    "ApiLogs.Arn": "own logs",
    "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:template/*": "mail",
    "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:configuration-set/*": "mail",
}


def grants(principal: str) -> set[Grant]:
    """Everything the principal may call, optional parameters set."""
    return {
        (kind, action)
        for holder in PRINCIPALS[principal]
        for statement in statements(holder)
        for kind in map(_kind, _many(statement["Resource"]))
        for action in _many(statement["Action"])
    }


def needed(operation: str, parameters: Mapping[str, Any], *, jobs_table: str, failed_table: str) -> set[Grant]:
    """The grants that one recorded call needs. `operation` is botocore's name of it, such as PutItem."""
    if operation == "Invoke":
        return {("runner", "lambda:InvokeFunction")}
    if operation == "PutEvents":
        return {("bus", "events:PutEvents")}
    if operation == "GetMetricData":
        return {("anything", "cloudwatch:GetMetricData")}
    if operation == "BatchGetItem":
        tables = {jobs_table: "jobs", failed_table: "failed"}
        return {(tables[table], "dynamodb:BatchGetItem") for table in parameters["RequestItems"]}
    if operation == "TransactWriteItems":  # there is no such action: each member needs its own
        return {
            grant
            for member in parameters["TransactItems"]
            for kind, of_member in member.items()
            for grant in needed(_MEMBERS[kind], of_member, jobs_table=jobs_table, failed_table=failed_table)
        }
    if operation == "BatchExecuteStatement":  # there is no such action either
        assert all(statement["Statement"].startswith("INSERT ") for statement in parameters["Statements"])
        return {("jobs", "dynamodb:PartiQLInsert")}
    table = {jobs_table: "jobs", failed_table: "failed"}[parameters["TableName"]]
    index = f"/{parameters['IndexName']}" if "IndexName" in parameters else ""
    return {(table + index, f"dynamodb:{operation}")}


_MEMBERS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


def statements(holder: str) -> list[dict[str, Any]]:
    """The policy statements that a role or a managed policy holds, wherever the template writes them."""
    resources = translated()["Resources"]
    documents = [policy["PolicyDocument"] for policy in resources[holder]["Properties"].get("Policies", [])]
    for name, resource in resources.items():
        holds = name == holder or {"Ref": holder} in resource["Properties"].get("Roles", [])
        if holds and resource["Type"] in {"AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"}:
            documents.append(resource["Properties"]["PolicyDocument"])
    return [statement for document in documents for statement in map(_when_set, document["Statement"])]


@cache
def translated() -> dict[str, Any]:
    """The shipped template, translated."""
    return translate(read())


def _when_set(statement: dict[str, Any]) -> dict[str, Any]:
    if "Fn::If" in statement:
        chosen: dict[str, Any] = statement["Fn::If"][1]
        return chosen
    return statement


def _kind(resource: Any) -> str:
    """What a Resource stands for; one that is not known fails the test that asks."""
    if resource == "*":
        return "anything"
    ((function, value),) = resource.items()
    return _KINDS[".".join(value) if function == "Fn::GetAtt" else value]


def _many(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value]
