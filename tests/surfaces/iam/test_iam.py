"""Each principal may make the calls that its code makes, and no other: asked of a policy evaluator.

What AWS takes for `dynamodb:LeadingKeys` within a transaction is not documented, so they are asked about in every way.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.surfaces.iam.denials import DENIED, KINDS
from tests.surfaces.iam.evaluator import Request, judged, missing
from tests.surfaces.iam.principals import ARNS, principals
from tests.surfaces.template.grants import translated

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

KEYS = "dynamodb:LeadingKeys"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Request]:
    """What the code asks of AWS, by whom."""
    file = tmp_path_factory.mktemp("iam") / "calls.json"
    command = [sys.executable, "-m", "tests.surfaces.iam.scenarios", str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [Request(**each) for each in json.loads(file.read_text())]


def answers(requests: list[Request]) -> list[tuple[Request, str]]:
    return list(zip(requests, judged(principals(translated()), requests), strict=True))


def denied(requests: list[Request]) -> list[str]:
    """Those that IAM would not let through, in words."""
    return [_said(request, answer) for request, answer in answers(requests) if answer != "Allowed"]


def let_through(requests: list[Request]) -> list[str]:
    """Those that IAM would not deny, an error among them: a misspelt action is no denial."""
    return [_said(request, answer) for request, answer in answers(requests) if answer != "ImplicitlyDenied"]


def _said(request: Request, answer: str) -> str:
    return f"{answer}: {request.principal} {request.action} {request.resource} {request.context} ({request.why})"


def test_the_scenarios_play_everyone(calls: list[Request]) -> None:
    """A principal that does nothing could be denied everything."""
    assert {call.principal for call in calls} == set(principals(translated()))
    assert len(calls) > 150


def test_whatever_the_code_does_is_allowed(calls: list[Request]) -> None:
    """Each call with its own key, each member of a transaction and each statement by itself."""
    assert denied(calls) == []


def test_whatever_no_code_does_is_denied() -> None:
    """By default, and not for want of an action of that name."""
    assert KINDS >= 60
    assert let_through(DENIED) == []


def in_transactions(calls: list[Request]) -> list[Request]:
    return [call for call in calls if call.context.get("dynamodb:EnclosingOperation") == "TransactWriteItems"]


def _together(calls: list[Request], *, within_a_table: bool) -> Iterator[Request]:
    """Members as they would be judged if the condition saw all keys of their transactions."""
    groups: dict[tuple[str, ...], set[str]] = defaultdict(set)

    def group(call: Request) -> tuple[str, ...]:
        return (call.principal, call.why, call.resource) if within_a_table else (call.principal, call.why)

    for call in calls:
        groups[group(call)].update(call.context[KEYS])
    for call in calls:
        yield replace(call, context={**call.context, KEYS: sorted(groups[group(call)])})


@pytest.mark.parametrize("keys", ["of the table", "of all tables", "none"])
def test_transactions_are_allowed_however_aws_fills_the_keys(calls: list[Request], keys: str) -> None:
    """A dispatcher's release of a key is the exception: where that is refused, the job ends by itself, then its key."""
    members = in_transactions(calls)
    assert members
    if keys == "none":
        asked = [replace(call, context={k: v for k, v in call.context.items() if k != KEYS}) for call in members]
        assert denied(asked) == []
        return
    asked = list(_together(members, within_a_table=keys == "of the table"))
    refused = [request for request, answer in answers(asked) if answer != "Allowed"]
    assert {(each.principal, each.action, each.resource) for each in refused} <= {
        ("dispatcher", "dynamodb:DeleteItem", ARNS["JobsTable"]),
        ("api", "dynamodb:DeleteItem", ARNS["JobsTable"]),
    }
    alone = [
        Request(who, "dynamodb:DeleteItem", ARNS["JobsTable"], {KEYS: ["unique#1"]}) for who in ("dispatcher", "api")
    ]
    assert denied(alone) == []


def test_every_right_is_used(calls: list[Request]) -> None:
    """What is granted and in no recorded call is a right too many."""
    used = {(call.principal, call.action) for call in calls}
    granted = {
        (name, action)
        for name, principal in principals(translated()).items()
        for policy in principal["policies"]
        for statement in policy["policy"]["Statement"]
        for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    }
    assert granted - used == {
        ("runner", "ses:SendTemplatedEmail"),  # SES may ask for it by the template that a mail uses
        ("api", "ssm:GetParameter"),  # an ARN is of one service, so of these two one means nothing
        ("api-ssm", "secretsmanager:GetSecretValue"),
        # the same policy as `api`, of which it plays the token only
        *(("api-ssm", action) for who, action in granted if who == "api" and action.partition(":")[0] != "ssm"),
    }


# --- the tests would notice ---


def statement(template: dict[str, Any], holder: str, sid: str) -> dict[str, Any]:
    properties = template["Resources"][holder]["Properties"]
    documents = [each["PolicyDocument"] for each in properties.get("Policies", [])] or [properties["PolicyDocument"]]
    (found,) = [each for document in documents for each in document["Statement"] if each.get("Sid") == sid]
    result: dict[str, Any] = found
    return result


def _without(holder: str, sid: str, action: str) -> Change:
    def change(template: dict[str, Any]) -> None:
        found = statement(template, holder, sid)
        kept = [each for each in _many(found["Action"]) if each != action]
        assert len(kept) < len(_many(found["Action"]))
        found["Action"] = kept or ["dynamodb:ListTables"]

    return change


def _with(holder: str, sid: str, **changes: Any) -> Change:
    def change(template: dict[str, Any]) -> None:
        statement(template, holder, sid).update(changes)

    return change


def _unconditional(holder: str, sid: str) -> Change:
    return lambda template: statement(template, holder, sid).pop("Condition")


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_JOBS = {"Fn::GetAtt": ["JobsTable", "Arn"]}
_FAILED = {"Fn::GetAtt": ["FailedJobsTable", "Arn"]}
TOO_FEW: dict[str, Change] = {
    "a worker that may not look": _without("WorkerPolicy", "FindDueJobs", "dynamodb:Query"),
    "a worker that looks into the table": _with("WorkerPolicy", "FindDueJobs", Resource=_JOBS),
    "a runner that may not bury": _without("RunnerPolicy", "Bury", "dynamodb:PutItem"),
    "a runner that may not claim": _with("RunnerPolicy", "ClaimAndSettle", Resource=_FAILED),
    "a dispatcher without dispatch_many": _without("DispatchPolicy", "Dispatch", "dynamodb:PartiQLInsert"),
    "a dispatcher that may not release keys": _with("DispatchPolicy", "ReleaseTheKeyOfACancelledJob",
        Condition={"ForAllValues:StringLike": {KEYS: ["unique:*"]}}),
    "a dispatcher that may register no queue": _with("DispatchPolicy", "CancelAndRegisterAQueue",
        Condition={"ForAllValues:StringNotEquals": {KEYS: ["queues"]}}),
    "a sweeper that may not bury": _without("SweeperFunctionRole", "TakeOutWhatItBuries", "dynamodb:DeleteItem"),
    "a sweeper that may not write its tick": _with("SweeperFunctionRole", "NudgeAndRelease",
        Condition={"ForAllValues:StringLike": {KEYS: ["job#*"]}}),
    "an API that may not redrive": _without("ApiFunctionRole", "ReadAndRedriveFailedJobs", "dynamodb:DeleteItem"),
    "a function that may not log": _without("RunnerFunctionRole", "WriteItsOwnLogs", "logs:PutLogEvents"),
    "a misspelt action": _with("ApiFunctionRole", "CountQueues", Action="dynamodb:Querry"),
}  # fmt: skip
TOO_MANY: dict[str, Change] = {
    "a dispatcher that deletes jobs": _unconditional("DispatchPolicy", "ReleaseTheKeyOfACancelledJob"),
    "a dispatcher that overwrites the queues": _unconditional("DispatchPolicy", "Dispatch"),
    "a dispatcher that forges a tick": _unconditional("DispatchPolicy", "CancelAndRegisterAQueue"),
    "an API that overwrites the queues": _unconditional("ApiFunctionRole", "Dispatch"),
    "a runner that deletes the queues": _unconditional("RunnerPolicy", "DispatchAndBury"),
    "a runner that forges a tick": _unconditional("RunnerPolicy", "ClaimAndSettle"),
    "a sweeper that empties the queues": _unconditional("SweeperFunctionRole", "NudgeAndRelease"),
    "a runner that may scan": _with("RunnerPolicy", "Read", Action=["dynamodb:GetItem", "dynamodb:Scan"]),
    "every table": _with("SweeperFunctionRole", "Read", Resource="*"),
    "every function": _with("DispatchPolicy", "HandOff", Resource="*"),
    "every action": _with("WorkerPolicy", "FindDueJobs", Action="dynamodb:*"),
    "every log group": _with("ApiFunctionRole", "WriteItsOwnLogs", Resource="*"),
    "the schedule starts anything": lambda template: template["Resources"]["SweeperFunctionTickRole"]["Properties"][
        "Policies"][0]["PolicyDocument"]["Statement"][0].update(Resource="*"),
}  # fmt: skip


@pytest.fixture(scope="session")
def noticed(calls: list[Request]) -> set[str]:
    """The changes that would be noticed. All are judged in one go, each with the calls of those whom it changes."""
    before = principals(translated())
    everyone: dict[str, Any] = {}
    asked: list[Request] = []
    for what, change in {**TOO_FEW, **TOO_MANY}.items():
        template = copy.deepcopy(translated())
        change(template)
        after = principals(template)
        everyone |= {f"{what}: {name}": after[name] for name in after if after[name] != before[name]}
        asked += [
            replace(request, principal=f"{what}: {request.principal}")
            for request in (calls if what in TOO_FEW else DENIED)
            if f"{what}: {request.principal}" in everyone
        ]
    expected = {True: "Allowed", False: "ImplicitlyDenied"}
    found = set()
    for request, answer in zip(asked, judged(everyone, asked), strict=True):
        what = request.principal.partition(": ")[0]
        if answer != expected[what in TOO_FEW]:
            found.add(what)
    return found


@pytest.mark.parametrize("what", [*TOO_FEW, *TOO_MANY])
def test_a_change_of_the_grants_is_noticed(noticed: set[str], what: str) -> None:
    """A right too few fails in production only, and one too many never."""
    assert what in noticed
