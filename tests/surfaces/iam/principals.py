"""Who may do what: every role and managed policy of the translated template, as CloudFormation would make it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

ACCOUNT, REGION, STACK = "111122223333", "eu-west-1", "relayq"
_PLACE = f"{REGION}:{ACCOUNT}"
#: What CloudFormation would call that for which the template has no name.
NAMES = {
    "JobsTable": f"{STACK}-JobsTable-1A2B",
    "FailedJobsTable": f"{STACK}-FailedJobsTable-3C4D",
    "RunnerFunction": f"{STACK}-RunnerFunction-5E6F",
    "SweeperFunction": f"{STACK}-SweeperFunction-7G8H",
    "ApiFunction": f"{STACK}-ApiFunction-9I0J",
}
ARNS = {
    **{name: f"arn:aws:dynamodb:{_PLACE}:table/{NAMES[name]}" for name in NAMES if name.endswith("Table")},
    **{name: f"arn:aws:lambda:{_PLACE}:function:{NAMES[name]}" for name in NAMES if name.endswith("Function")},
    **{f"{part}Logs": f"arn:aws:logs:{_PLACE}:log-group:/relayq/{STACK}/{part.lower()}:*"
       for part in ("Runner", "Sweeper", "Api")},
}  # fmt: skip
OWN_RUNNER = f"arn:aws:lambda:{_PLACE}:function:own-jobs-runner"
SECRET = f"arn:aws:secretsmanager:{_PLACE}:secret:relayq-token-AbCdEf"
PARAMETER = f"arn:aws:ssm:{_PLACE}:parameter/relayq/token"
IDENTITY = f"arn:aws:ses:{_PLACE}:identity/example.com"
BUS = f"arn:aws:events:{_PLACE}:event-bus/orders"
_GIVEN: dict[str, Any] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": STACK,
    "RunnerFunctionArns": [OWN_RUNNER],
    "EventBusName": "orders",
    "SesIdentityArn": IDENTITY,
    "ApiTokenSecretArn": SECRET,
}
_LEFT_OUT = object()


def principals(template: Mapping[str, Any]) -> dict[str, Any]:
    """By name, each with every optional grant; `api-ssm` is the API whose token is an SSM parameter."""
    held = {
        "dispatcher": _of_policies(template, "DispatchPolicy"),
        "own-runner": _of_policies(template, "RunnerPolicy"),
        "worker": _of_policies(template, "RunnerPolicy", "WorkerPolicy"),
        "runner": _of_role(template, "RunnerFunctionRole"),
        "sweeper": _of_role(template, "SweeperFunctionRole"),
        "api": _of_role(template, "ApiFunctionRole"),
        "schedule": _of_role(template, "SweeperFunctionTickRole"),
    }
    made = {name: _resolved(policies, _GIVEN) for name, policies in held.items()}
    made["api-ssm"] = _resolved(held["api"], _GIVEN | {"ApiTokenSecretArn": PARAMETER})
    return {
        name: {"arn": f"arn:aws:iam::{ACCOUNT}:role/{name}", "policies": policies} for name, policies in made.items()
    }


def _of_role(template: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """What the role holds: inline, and what is attached to it."""
    resources = template["Resources"]
    properties = resources[role]["Properties"]
    assert "ManagedPolicyArns" not in properties, "a policy of AWS's own: its statements are not in the template"
    inline = [{"name": each["PolicyName"], "policy": each["PolicyDocument"]} for each in properties["Policies"]]
    attached = [
        name
        for name, resource in resources.items()
        if resource["Type"] in {"AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"}
        and {"Ref": role} in resource["Properties"].get("Roles", [])
    ]
    return inline + _of_policies(template, *attached)


def _of_policies(template: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    return [{"name": name, "policy": template["Resources"][name]["Properties"]["PolicyDocument"]} for name in names]


def _resolved(value: Any, given: Mapping[str, Any]) -> Any:
    """A value without CloudFormation's functions; every condition holds."""
    if isinstance(value, list):
        items = [each for each in (_resolved(each, given) for each in value) if each is not _LEFT_OUT]
        return [part for each in items for part in (each if isinstance(each, list) else [each])]
    if not isinstance(value, dict):
        return copy.copy(value)
    if "Ref" in value:
        name = value["Ref"]
        return _LEFT_OUT if name == "AWS::NoValue" else NAMES.get(name, given.get(name))
    if "Fn::GetAtt" in value:
        name, attribute = value["Fn::GetAtt"]
        assert attribute == "Arn", value
        return ARNS[name]
    if "Fn::Sub" in value:
        text: str = value["Fn::Sub"]
        for name, arn in ARNS.items():
            text = text.replace(f"${{{name}.Arn}}", arn)
        for name, each in given.items():
            text = text.replace(f"${{{name}}}", str(each))
        assert "${" not in text, text
        return text
    if "Fn::If" in value:
        return _resolved(value["Fn::If"][1], given)
    assert not any(key.startswith("Fn::") for key in value), value
    return {key: each for key, raw in value.items() if (each := _resolved(raw, given)) is not _LEFT_OUT}
