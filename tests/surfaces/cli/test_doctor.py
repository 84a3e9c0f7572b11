"""`relayq doctor` from the command line to AWS's answers: what is asked, read and shown, as botocore itself has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import boto3.session
import pytest
from botocore.stub import ANY, Stubber

from relayq_core.adapters.clients import Clients
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.cli.doctor.checks import CHECKS
from relayq_core.testing import isolated_registry
from tests.support.paths import ROOT
from tests.surfaces.cli.commands import Relayq

SERVICES = ("cloudformation", "lambda", "dynamodb", "scheduler", "ssm", "iam")
PLACE = "eu-west-1:123456789012"
LAYER = f"arn:aws:lambda:{PLACE}:layer:relayq-core:7"
POLICY = "arn:aws:iam::123456789012:policy/RunnerPolicy"
OUTPUTS = {
    "JobsTableName": "jobs",
    "FailedJobsTableName": "failed",
    "RunnerFunctionName": "runner",
    "SweeperFunctionName": "sweeper",
    "RunnerPolicyArn": POLICY,
    "ApiUrl": "https://example.com/",
}
#: CloudFormation's name for it.
SCHEDULE = "relayq-SweeperFunctionTick-1A2B3C"
#: Every call in the order of its service, and the permission that it needs.
ACTIONS = {
    "get_function_configuration": "lambda:GetFunctionConfiguration",
    "list_function_event_invoke_configs": "lambda:ListFunctionEventInvokeConfigs",
    "get_function_recursion_config": "lambda:GetFunctionRecursionConfig",
    "describe_table": "dynamodb:DescribeTable",
    "describe_time_to_live": "dynamodb:DescribeTimeToLive",
    "describe_continuous_backups": "dynamodb:DescribeContinuousBackups",
    "get_item": "dynamodb:GetItem",
    "get_schedule": "scheduler:GetSchedule",
    "get_parameter": "ssm:GetParameter",
    "list_attached_role_policies": "iam:ListAttachedRolePolicies",
    "simulate_principal_policy": "iam:SimulatePrincipalPolicy",
    "describe_stack_resource": "cloudformation:DescribeStackResource",
}

#: The rights that are looked up together.
RUNNER_MAY: list[tuple[str, ...]] = [
    ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "PartiQLInsert"),
    ("GetItem", "PutItem"),
    ("InvokeFunction",),
]
SWEEPER_MAY: list[tuple[str, ...]] = [
    ("Query",),
    ("GetItem", "UpdateItem", "DeleteItem"),
    ("GetItem", "PutItem"),
    ("InvokeFunction",),
]


class Aws:
    """Clients that answer as a test scripts them, and fail on any other call."""

    def __init__(self) -> None:
        session = boto3.session.Session("test", "test", region_name="eu-west-1")
        self._clients: dict[str, Any] = {service: session.client(service) for service in SERVICES}  # type: ignore[call-overload]
        self._stubs: dict[str, Stubber] = {}

    def begin(self) -> None:
        """Forget the scripted answers."""
        for stub in self._stubs.values():
            stub.deactivate()
        self._stubs = {service: Stubber(client) for service, client in self._clients.items()}
        for stub in self._stubs.values():
            stub.activate()

    def client(self, service: str, **_: Any) -> Any:
        """As a session has it."""
        return self._clients[service]

    def answers(self, service: str, call: str, answer: dict[str, Any] | str, **request: Any) -> None:
        """The next call of this service; a text is an error's code. `request` is what it has to say at least."""
        stub = self._stubs[service]
        expected = None if call == "simulate_principal_policy" else request or None
        if isinstance(answer, str):
            stub.add_client_error(call, answer, expected_params=expected)
        else:
            stub.add_response(call, answer, expected)

    def all_were_asked(self) -> None:
        """Nothing was left unread."""
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture(scope="module")
def clients() -> Aws:
    """Made once: each takes a while."""
    return Aws()


@pytest.fixture
def stack(relayq: Relayq, clients: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """AWS as the session has it, with no answer scripted yet; the code of no job is there."""
    for name in ("RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE"):
        monkeypatch.delenv(name)
    clients.begin()
    monkeypatch.setattr(boto3, "Session", lambda: clients)
    monkeypatch.setattr(Clients, "create", staticmethod(clients.client))
    yield clients
    clients.begin()


def tell(aws: Aws, asked_as: str = "relayq", **instead: Any) -> None:
    """Script a good stack; `instead` of some calls another answer, or the code of an error."""

    def answers(service: str, call: str, answer: dict[str, Any], **request: Any) -> None:
        told = {**answer, **given} if isinstance(given := instead.get(call, {}), dict) else given
        aws.answers(service, call, told, **request)

    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
    told = {
        "StackName": "relayq",
        "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": outputs,
    }
    answers("cloudformation", "describe_stacks", {"Stacks": [told]}, StackName=asked_as)
    resources_are_told = not isinstance(instead.get("describe_stack_resource"), str)
    answers("cloudformation", "describe_stack_resource", _resource("SweeperFunctionTick", SCHEDULE))
    answers("cloudformation", "describe_stack_resource", _resource("ApiFunction", "api"))
    for name in ("runner", "sweeper", "api"):
        if name == "api" and not resources_are_told:
            break
        environ = {"RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_FAILED_TABLE": "failed"}
        config = {
            "FunctionArn": f"arn:aws:lambda:{PLACE}:function:{name}",
            "Role": f"arn:aws:iam::123456789012:role/{name}-role",
            "Timeout": 150 if name == "sweeper" else 900,
            "Environment": {"Variables": environ},
            "Layers": [{"Arn": LAYER}],
        }
        answers("lambda", "get_function_configuration", config, FunctionName=name)
        latest = f"arn:aws:lambda:{PLACE}:function:{name}:$LATEST"
        invokes = {"FunctionArn": latest, "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 300}
        configurations = {"FunctionEventInvokeConfigs": [invokes]}
        answers("lambda", "list_function_event_invoke_configs", configurations, FunctionName=name)
        answers("lambda", "get_function_recursion_config", {"RecursiveLoop": "Allow"}, FunctionName=name)
    for table, index, keys in (
        ("jobs", "due", ("due_shard", "due_at")),
        ("failed", "by_queue", ("queue", "failed_at")),
    ):
        schema = [{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=True)]
        shape = {"GlobalSecondaryIndexes": [{"IndexName": index, "KeySchema": schema}]}
        answers("dynamodb", "describe_table", {"Table": shape}, TableName=table)
        on = {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
        answers("dynamodb", "describe_time_to_live", {"TimeToLiveDescription": on}, TableName=table)
        backups = {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"},
        }
        answers("dynamodb", "describe_continuous_backups", {"ContinuousBackupsDescription": backups}, TableName=table)
    tick = {"pk": {"S": "sweeper"}, "ticked_at": {"N": str(SystemClock().now())}, "counts": {"S": "{}"}}
    for _ in range(2):  # when, and by whom
        key = {"pk": {"S": "sweeper"}}
        answers("dynamodb", "get_item", {"Item": tick}, TableName="jobs", Key=key, ConsistentRead=ANY)
    sweeper = f"arn:aws:lambda:{PLACE}:function:sweeper"
    target = {"Arn": sweeper, "RoleArn": "arn:aws:iam::123456789012:role/scheduler"}
    plan = {"State": "ENABLED", "ScheduleExpression": "rate(1 minute)", "Target": target}
    if resources_are_told:
        answers("scheduler", "get_schedule", plan, Name=SCHEDULE)
    answers("ssm", "get_parameter", {"Parameter": {"Value": LAYER}}, Name="/relayq/relayq/layer")
    if isinstance(instead.get("get_function_configuration"), str):
        return  # whose role they are is not known
    attached = {"AttachedPolicies": [{"PolicyName": "RunnerPolicy", "PolicyArn": POLICY}]}
    answers("iam", "list_attached_role_policies", attached, RoleName="runner-role")
    for names in RUNNER_MAY + SWEEPER_MAY:
        answers("iam", "simulate_principal_policy", _allowed(names))


def _resource(logical: str, physical: str) -> dict[str, Any]:
    return {
        "StackResourceDetail": {
            "LogicalResourceId": logical,
            "PhysicalResourceId": physical,
            "ResourceType": "AWS::Any::Thing",
            "LastUpdatedTimestamp": "2026-01-01T00:00:00Z",
            "ResourceStatus": "CREATE_COMPLETE",
        }
    }


def _allowed(names: tuple[str, ...]) -> dict[str, Any]:
    service = "lambda" if names == ("InvokeFunction",) else "dynamodb"
    return {"EvaluationResults": [{"EvalActionName": f"{service}:{name}", "EvalDecision": "allowed"} for name in names]}


def verdicts(ran: Any) -> dict[str, str]:
    """Of each check."""
    return {finding["check"]: finding["verdict"] for finding in ran.json["findings"]}


def test_a_good_stack_is_found_to_be_good(relayq: Relayq, stack: Aws) -> None:
    """Every fact is read, and nothing is wrong."""
    tell(stack)
    ran = relayq("doctor", "--stack", "relayq", "--json")
    stack.all_were_asked()
    assert (ran.code, ran.json["healthy"]) == (0, True)
    assert verdicts(ran) == dict.fromkeys(CHECKS, "ok")


def test_a_stack_may_be_named_by_its_arn(relayq: Relayq, stack: Aws) -> None:
    """What it calls its parts goes by its name."""
    arn = f"arn:aws:cloudformation:{PLACE}:stack/relayq/0a1b2c3d"
    tell(stack, arn)
    ran = relayq("doctor", "--stack", arn, "--json")
    stack.all_were_asked()
    assert (ran.code, ran.json["stack"], set(verdicts(ran).values())) == (0, "relayq", {"ok"})


def test_a_stack_that_was_just_deployed_has_not_been_swept_yet(relayq: Relayq, stack: Aws) -> None:
    """The first tick comes within a minute; a stack that is older should have had it."""
    for age, verdict in ((timedelta(seconds=20), "ok"), (timedelta(hours=1), "wrong")):
        stack.begin()
        created = datetime.now(UTC) - age
        described = {"StackName": "relayq", "CreationTime": created, "StackStatus": "CREATE_COMPLETE"}
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
        tell(stack, describe_stacks={"Stacks": [{**described, "Outputs": outputs}]}, get_item={"Item": {}})
        ran = relayq("doctor", "--stack", "relayq", "--json")
        assert verdicts(ran)["last sweep"] == verdict
        found = {finding["check"]: finding["found"] for finding in ran.json["findings"]}["last sweep"]
        assert ("not yet: the stack is new" in found) == (verdict == "ok")


def test_a_table_with_replicas_is_refused(relayq: Relayq, stack: Aws) -> None:
    """A condition holds in its region only."""
    tell(stack, describe_table={"Table": {"Replicas": [{"RegionName": "us-east-1"}]}})
    ran = relayq("doctor", "--stack", "relayq", "--json")
    (found,) = (finding for finding in ran.json["findings"] if finding["check"] == "one region")
    assert found["found"] == "jobs is a global table, with replicas in us-east-1"


@pytest.mark.parametrize(("qualifier", "retries"), [("", 1), (":$LATEST", 1), (":7", 2), (":live", 2)])
def test_retries_are_those_of_the_function_as_it_is_handed_jobs(
    relayq: Relayq, stack: Aws, qualifier: str, retries: int
) -> None:
    """The bare name and $LATEST count; a version or an alias that is not invoked leaves Lambda's default of 2."""
    arn = f"arn:aws:lambda:{PLACE}:function:runner{qualifier}"
    ours = {"FunctionArn": arn, "MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 300}
    tell(stack, list_function_event_invoke_configs={"FunctionEventInvokeConfigs": [ours]})
    ran = relayq("doctor", "--stack", "relayq", "--json")
    assert verdicts(ran)["Lambda's own retries"] == "wrong"
    assert f"retries runner {retries} times" in ran.json["findings"][0]["found"]


@pytest.mark.parametrize(("configured", "verdict"), [(":live", "ok"), (":$LATEST", "wrong"), ("", "wrong")])
def test_a_runner_named_by_an_alias_goes_by_the_configuration_of_that_alias(
    relayq: Relayq, stack: Aws, configured: str, verdict: str
) -> None:
    """Lambda keeps one for each version and alias; what $LATEST has says nothing about `heavy:live`."""
    environ = {
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_RUNNER_FUNCTIONS": '{"reports": "heavy:live"}',
    }
    tell(stack, get_function_configuration={"Environment": {"Variables": environ}})
    arn = f"arn:aws:lambda:{PLACE}:function:heavy"
    config = {"FunctionArn": f"{arn}:live", "Role": "arn:aws:iam::123456789012:role/heavy", "Timeout": 900}
    config |= {"Environment": {"Variables": environ}}
    ours = {"FunctionArn": f"{arn}{configured}", "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 300}
    configurations = {"FunctionEventInvokeConfigs": [ours]}
    stack.answers("lambda", "get_function_configuration", config, FunctionName="heavy:live")
    stack.answers("lambda", "list_function_event_invoke_configs", configurations, FunctionName="heavy")
    stack.answers("lambda", "get_function_recursion_config", {"RecursiveLoop": "Allow"}, FunctionName="heavy")
    ran = relayq("doctor", "--stack", "relayq", "--json")
    stack.all_were_asked()
    found = verdicts(ran)
    assert (found["Lambda's own retries"], found["event age"], found["recursive loop"]) == (verdict, verdict, "ok")
    if verdict == "wrong":
        assert "--function-name heavy --qualifier live " in ran.json["findings"][0]["fix"]


def test_the_right_to_write_many_jobs_is_looked_up_too(relayq: Relayq, stack: Aws) -> None:
    """Without it dispatch_many() in a job goes on one by one, many times slower."""
    tell(
        stack,
        simulate_principal_policy={
            "EvaluationResults": [
                {"EvalActionName": f"{service}:{name}", "EvalDecision": "allowed"}
                for names in RUNNER_MAY + SWEEPER_MAY
                for name in names
                if name != "PartiQLInsert"
                for service in ("lambda", "dynamodb")
            ]
        },
    )
    ran = relayq("doctor", "--stack", "relayq", "--json")
    (found,) = (finding for finding in ran.json["findings"] if finding["check"] == "grants")
    table = f"arn:aws:dynamodb:{PLACE}:table/jobs"
    assert found["found"] == f"the runner may not dynamodb:PartiQLInsert on {table}"


def test_what_is_wrong_is_shown_with_its_fix_and_exits_1(relayq: Relayq, stack: Aws) -> None:
    """What people read: a line for each check, the fix of each that is wrong, and the counts."""
    tell(
        stack,
        list_function_event_invoke_configs={"FunctionEventInvokeConfigs": []},
        get_schedule={"State": "DISABLED"},
        get_parameter="ParameterNotFound",
        simulate_principal_policy={"EvaluationResults": []},
    )
    ran = relayq("doctor", "--stack", "relayq")
    assert ran.code == 1
    assert "Lambda's own retries: Lambda itself retries runner 2 times\n  aws lambda put-function" in ran.out
    assert f"{SCHEDULE} is disabled" in ran.out
    assert "there is no SSM parameter /relayq/relayq/layer" in ran.out
    assert f"the runner may not dynamodb:GetItem on arn:aws:dynamodb:{PLACE}:table/jobs, and 14 more" in ran.out
    assert ran.out.endswith("13 ok, 5 wrong\n")


@pytest.mark.parametrize("call", ACTIONS)
def test_what_may_not_be_read_is_unknown_and_no_crash(relayq: Relayq, stack: Aws, call: str) -> None:
    """The right that is missing is named; the rest is examined all the same."""
    code = "AccessDeniedException" if call != "simulate_principal_policy" else "AccessDenied"
    tell(stack, **{call: code})
    ran = relayq("doctor", "--stack", "relayq", "--json")
    assert ran.code == 0, ran.out
    unknown = [finding for finding in ran.json["findings"] if finding["verdict"] == "unknown"]
    assert unknown
    assert {finding["found"] for finding in unknown} == {f"{ACTIONS[call]}: access denied"}
    assert {finding["fix"] for finding in unknown} == {f"grant yourself {ACTIONS[call]}, and run the doctor again"}
    assert {"ok", "unknown"} == set(verdicts(ran).values()) | {"ok"}


def test_what_the_runners_environment_names_is_looked_at_too(relayq: Relayq, stack: Aws) -> None:
    """A queue's own runner that is not there, and the right to put events on the bus."""
    environ = {
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_RUNNER_FUNCTIONS": '{"reports": "heavy"}',
        "RELAYQ_EVENT_BUS": "orders",
    }
    tell(stack, get_function_configuration={"Environment": {"Variables": environ}})
    for call in ("get_function_configuration", "list_function_event_invoke_configs", "get_function_recursion_config"):
        stack.answers("lambda", call, "ResourceNotFoundException", FunctionName="heavy")
    for who in ("runner", "sweeper"):
        denied = {
            "EvalActionName": "events:PutEvents",
            "EvalDecision": "allowed" if who == "runner" else "implicitDeny",
        }
        stack.answers("iam", "simulate_principal_policy", {"EvaluationResults": [denied]})
    ran = relayq("doctor", "--stack", "relayq", "--json")
    stack.all_were_asked()
    findings = {finding["check"]: finding for finding in ran.json["findings"]}
    assert findings["own runners"]["found"] == "RunnerFunctions names heavy, but there is no such function"
    bus = f"arn:aws:events:{PLACE}:event-bus/orders"
    assert findings["grants"]["found"] == f"the sweeper may not events:PutEvents on {bus}"


def test_the_rights_that_it_needs_are_documented() -> None:
    """An administrator who grants them copies the list."""
    page = (ROOT / "docs/reference/command-line.md").read_text()
    assert [action for action in ACTIONS.values() if f"`{action}`" not in page] == []


def test_an_error_of_another_kind_is_shown_as_it_is(relayq: Relayq, stack: Aws) -> None:
    """An emulator knows less than AWS."""
    tell(stack, simulate_principal_policy="InvalidAction")
    ran = relayq("doctor", "--stack", "relayq", "--json")
    (finding,) = (finding for finding in ran.json["findings"] if finding["verdict"] == "unknown")
    assert finding["found"].startswith("iam:SimulatePrincipalPolicy: An error occurred (InvalidAction)")
    assert finding["fix"] == ""


def test_the_longest_timeout_of_the_registered_jobs_counts(
    relayq: Relayq, stack: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of fourteen minutes fits no runner that may first sleep one."""
    (tmp_path / "doctor_jobs.py").write_text(
        "from relayq_core import job\n\n@job(timeout=840)\ndef slow() -> None: ...\n\n@job\ndef quick() -> None: ...\n"
    )
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "doctor_jobs")
    tell(stack)
    with isolated_registry():
        ran = relayq("doctor", "--stack", "relayq", "--json")
    assert (ran.code, verdicts(ran)["runner timeout"]) == (1, "wrong")


def test_jobs_that_cannot_be_imported_do_not_keep_the_doctor_from_the_stack(
    relayq: Relayq, stack: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop need not have what the jobs need."""
    (tmp_path / "doctor_broken.py").write_text("import no_such_library\n")
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "doctor_broken")
    tell(stack)
    ran = relayq("doctor", "--stack", "relayq", "--json")
    assert ran.code == 0
    assert "note: cannot import the job modules doctor_broken" in ran.err


def test_the_doctor_needs_a_stack(relayq: Relayq) -> None:
    """There is nothing else that it could look at."""
    ran = relayq("doctor")
    assert (ran.code, "say which stack: --stack NAME" in ran.err) == (2, True)


def test_a_foreign_stack_is_reported(relayq: Relayq, stack: Aws) -> None:
    """Another stack's name is soon typed."""
    told = {"StackName": "x", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC), "StackStatus": "CREATE_COMPLETE"}
    stack.answers("cloudformation", "describe_stacks", {"Stacks": [told]})
    ran = relayq("doctor", "--stack", "x")
    assert (ran.code, "is it a RelayQ stack?" in ran.err) == (1, True)
