"""What IAM is asked for a call of an AWS client: the action, the resource, and the keys of the items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.surfaces.iam.evaluator import Request
from tests.surfaces.iam.principals import ARNS, BUS, IDENTITY, NAMES, OWN_RUNNER

_TABLES = {NAMES[name]: ARNS[name] for name in NAMES if name.endswith("Table")}
_FUNCTIONS = {NAMES[name]: ARNS[name] for name in NAMES if name.endswith("Function")} | {
    OWN_RUNNER.rpartition(":")[2]: OWN_RUNNER
}
_MEMBERS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
_SES = IDENTITY.partition(":identity/")[0]
_EVENTS = BUS.partition("event-bus/")[0]


def asked(principal: str, operation: str, given: Mapping[str, Any], why: str) -> list[Request]:
    """The questions of one call, each member of a transaction and each statement by itself."""
    return [
        Request(principal, action, resource, context, why) for action, resource, context in _asked(operation, given)
    ]


def _asked(operation: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    match operation:
        case "PutItem" | "GetItem" | "UpdateItem" | "DeleteItem":
            yield _item(operation, given)
        case "Query":
            values = given["ExpressionAttributeValues"]
            key = (values.get(":shard") or values[":queue"])["S"]
            index = f"{_TABLES[given['TableName']]}/index/{given['IndexName']}"
            yield "dynamodb:Query", index, _leading(key)
        case "BatchGetItem":
            for table, wanted in given["RequestItems"].items():
                yield "dynamodb:BatchGetItem", _TABLES[table], _leading(*(_key({"Key": key}) for key in wanted["Keys"]))
        case "TransactWriteItems":
            for member in given["TransactItems"]:
                for kind, request in member.items():
                    action, resource, context = _item(_MEMBERS[kind], request)
                    yield action, resource, context | {"dynamodb:EnclosingOperation": operation}
        case "BatchExecuteStatement":
            for statement in given["Statements"]:
                context = _leading(_inserted_key(statement)) | {"dynamodb:EnclosingOperation": operation}
                yield "dynamodb:PartiQLInsert", ARNS["JobsTable"], context
        case "Invoke":
            name = given["FunctionName"]
            yield "lambda:InvokeFunction", name if name.startswith("arn:") else _FUNCTIONS[name], {}
        case "PutEvents":
            for bus in {entry["EventBusName"] for entry in given["Entries"]}:
                yield "events:PutEvents", f"{_EVENTS}event-bus/{bus}", {}
        case "GetMetricData":
            yield "cloudwatch:GetMetricData", "*", {}
        case "GetSecretValue":
            yield "secretsmanager:GetSecretValue", given["SecretId"], {}
        case "GetParameter":
            yield "ssm:GetParameter", given["Name"], {}
        case "SendEmail":  # the identity, and what else the message uses
            yield "ses:SendEmail", IDENTITY, {}
            if name := given["Content"].get("Template", {}).get("TemplateName"):
                yield "ses:SendEmail", f"{_SES}:template/{name}", {}
            if name := given.get("ConfigurationSetName"):
                yield "ses:SendEmail", f"{_SES}:configuration-set/{name}", {}
        case _:
            raise AssertionError(f"it is not known what IAM is asked for {operation}")


def _item(operation: str, request: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    return f"dynamodb:{operation}", _TABLES[request["TableName"]], _leading(_key(request))


def _leading(*keys: str) -> dict[str, Any]:
    return {"dynamodb:LeadingKeys": list(keys)}


def _key(request: Mapping[str, Any]) -> str:
    item = request.get("Key") or request["Item"]
    return str((item.get("pk") or item["id"])["S"])


def _inserted_key(statement: Mapping[str, Any]) -> str:
    """Of `INSERT INTO "table" VALUE {'pk': ?, 'n': 1, …}`: parameters stand where the question marks do."""
    text = statement["Statement"]
    assert text.startswith(f'INSERT INTO "{NAMES["JobsTable"]}" VALUE {{'), text
    pairs = [part.split(": ", 1) for part in text.partition("{")[2].removesuffix("}").split(", ")]
    names = [name.strip("'") for name, value in pairs if value == "?"]
    return str(statement["Parameters"][names.index("pk")]["S"])
