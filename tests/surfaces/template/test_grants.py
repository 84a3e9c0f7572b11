"""Each principal may do exactly what its code does."""

import json

import pytest

from tests.surfaces.template.grants import PRINCIPALS, Grant, grants, needed, statements, translated

#: Into the group that the stack made, so that no function makes one, or writes into another's.
LOGS: set[Grant] = {("own logs", "logs:CreateLogStream"), ("own logs", "logs:PutLogEvents")}
#: The explicit table of allowed calls: a change of the template's grants has to be made here too.
ALLOWED: dict[str, set[Grant]] = {
    "dispatcher": {
        ("jobs", "dynamodb:PutItem"),  # dispatch
        ("jobs", "dynamodb:PartiQLInsert"),  # dispatch_many
        ("jobs", "dynamodb:GetItem"),  # get, and a dispatch whose answer was lost
        ("jobs", "dynamodb:UpdateItem"),  # cancel, and a queue's first dispatch
        ("jobs", "dynamodb:DeleteItem"),  # cancelling releases the unique key
        ("failed", "dynamodb:GetItem"),  # get
        ("runner", "lambda:InvokeFunction"),
        ("runners", "lambda:InvokeFunction"),
        ("bus", "events:PutEvents"),  # with EventBusName
    },
    "runner": {
        ("jobs", "dynamodb:GetItem"),
        ("jobs", "dynamodb:PutItem"),  # dispatch from within a job
        ("jobs", "dynamodb:PartiQLInsert"),  # dispatch_many from within a job
        ("jobs", "dynamodb:UpdateItem"),  # claim, settle
        ("jobs", "dynamodb:DeleteItem"),  # bury, release a unique key, RETENTION_SECONDS 0
        ("failed", "dynamodb:GetItem"),
        ("failed", "dynamodb:PutItem"),  # bury
        ("runner", "lambda:InvokeFunction"),
        ("runners", "lambda:InvokeFunction"),
        ("bus", "events:PutEvents"),  # with EventBusName
        ("mail", "ses:SendEmail"),
        ("mail", "ses:SendTemplatedEmail"),
        *LOGS,
    },
    "worker": {
        ("jobs/due", "dynamodb:Query"),  # a runner is handed its job, a worker looks for it
        ("jobs", "dynamodb:GetItem"),
        ("jobs", "dynamodb:PutItem"),
        ("jobs", "dynamodb:PartiQLInsert"),
        ("jobs", "dynamodb:UpdateItem"),
        ("jobs", "dynamodb:DeleteItem"),
        ("failed", "dynamodb:GetItem"),
        ("failed", "dynamodb:PutItem"),
        ("runner", "lambda:InvokeFunction"),
        ("runners", "lambda:InvokeFunction"),
        ("bus", "events:PutEvents"),
    },
    "api": {
        ("jobs", "dynamodb:PutItem"),  # dispatch, redrive
        ("jobs", "dynamodb:GetItem"),
        ("jobs", "dynamodb:UpdateItem"),  # cancel, and a queue's first dispatch
        ("jobs", "dynamodb:DeleteItem"),  # cancelling releases the unique key
        ("jobs/due", "dynamodb:Query"),  # queues, health
        ("jobs", "dynamodb:BatchGetItem"),  # the dashboard's page of a queue
        ("anything", "cloudwatch:GetMetricData"),  # its history; metrics are no resources
        ("failed", "dynamodb:GetItem"),
        ("failed", "dynamodb:DeleteItem"),  # redrive, forget
        ("failed/by_queue", "dynamodb:Query"),
        ("runner", "lambda:InvokeFunction"),
        ("runners", "lambda:InvokeFunction"),
        ("bus", "events:PutEvents"),  # with EventBusName
        ("token", "secretsmanager:GetSecretValue"),
        ("token", "ssm:GetParameter"),
        *LOGS,
    },
    "sweeper": {
        ("jobs/due", "dynamodb:Query"),
        ("jobs", "dynamodb:GetItem"),
        ("jobs", "dynamodb:UpdateItem"),  # nudge, release
        ("jobs", "dynamodb:DeleteItem"),  # bury
        ("failed", "dynamodb:PutItem"),  # bury
        ("failed", "dynamodb:GetItem"),  # was it this very write that buried it?
        ("runner", "lambda:InvokeFunction"),
        ("runners", "lambda:InvokeFunction"),
        ("bus", "events:PutEvents"),  # with EventBusName
        *LOGS,
    },
}


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_a_principal_is_granted_what_the_table_allows(principal: str) -> None:
    """A right too few fails in production only, and one too many is a hole."""
    assert grants(principal) == ALLOWED[principal]


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_no_grant_is_a_wildcard_or_a_scan(principal: str) -> None:
    """Every action is named, and nothing may read a whole table."""
    for _, action in grants(principal):
        assert "*" not in action
        assert not action.endswith(":Scan")


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_only_metrics_are_granted_without_a_resource(principal: str) -> None:
    """IAM knows no narrower right to read them; everything else has one."""
    assert {action for kind, action in grants(principal) if kind == "anything"} <= {"cloudwatch:GetMetricData"}


@pytest.mark.parametrize("holder", ["DispatchPolicy", "ApiFunctionRole"])
def test_a_dispatcher_deletes_unique_keys_only(holder: str) -> None:
    """A caller of dispatch(), or of the API, cannot delete a job, not even by mistake."""
    jobs = {"Fn::GetAtt": ["JobsTable", "Arn"]}
    (deleting,) = [s for s in statements(holder) if "dynamodb:DeleteItem" in s["Action"] and s["Resource"] == jobs]
    assert deleting["Action"] == "dynamodb:DeleteItem"
    assert deleting["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["unique#*"]}}


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_each_write_spares_the_items_that_are_everybodys(principal: str) -> None:
    """Without `queues` nothing is swept, and a forged `sweeper` hides that: each is written by whom it concerns."""
    jobs = {"Fn::GetAtt": ["JobsTable", "Arn"]}
    for holder in PRINCIPALS[principal]:
        for statement in statements(holder):
            if statement["Resource"] != jobs or statement["Action"] in ("dynamodb:GetItem", "dynamodb:BatchGetItem"):
                continue
            ((operator, condition),) = statement["Condition"].items()
            spared = set(condition["dynamodb:LeadingKeys"])
            if operator == "ForAllValues:StringLike":
                assert spared == {"unique#*"}
            elif statement["Action"] == "dynamodb:UpdateItem":
                assert spared == {"queues" if principal == "sweeper" else "sweeper"}
            else:
                assert spared == {"queues", "sweeper"}
            assert operator in ("ForAllValues:StringLike", "ForAllValues:StringNotEquals")


def test_mail_may_be_sent_as_the_given_identity_only() -> None:
    """Without SesIdentityArn the stack has no right to send mail."""
    policy = translated()["Resources"]["MailPolicy"]
    assert policy["Condition"] == "HasSesIdentity"
    (sending,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert [r for r in sending["Resource"] if "identity" in str(r).lower()] == [{"Ref": "SesIdentityArn"}]


def test_events_may_be_put_only_where_there_is_a_bus() -> None:
    """Without EventBusName nothing in the stack has the right to publish."""
    written = json.dumps(translated()["Resources"])
    publish = written.count('"Action": "events:PutEvents"')
    assert publish == written.count('"Fn::If": ["HasEventBus", {"Sid": "TellTheEventBus", ') == 4
    assert translated()["Conditions"]["HasEventBus"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "EventBusName"}, ""]}]}


@pytest.mark.parametrize("function", ["Runner", "Sweeper", "Api"])
def test_a_function_logs_into_its_own_group_only(function: str) -> None:
    """AWS's policy for it, which SAM attaches to roles that it makes, opens every group of the account."""
    role = translated()["Resources"][f"{function}FunctionRole"]["Properties"]
    assert "ManagedPolicyArns" not in role
    (logs,) = [s for s in statements(f"{function}FunctionRole") if s["Sid"] == "WriteItsOwnLogs"]
    assert logs["Resource"] == {"Fn::GetAtt": [f"{function}Logs", "Arn"]}
    resource = translated()["Resources"][f"{function}Function"]["Properties"]
    assert resource["LoggingConfig"]["LogGroup"] == {"Ref": f"{function}Logs"}
    assert resource["Role"] == {"Fn::GetAtt": [f"{function}FunctionRole", "Arn"]}


def test_the_schedule_may_start_the_sweeper_only() -> None:
    """Only a schedule of this account may take its role."""
    role = translated()["Resources"]["SweeperFunctionTickRole"]["Properties"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    target = translated()["Resources"]["SweeperFunctionTick"]["Properties"]["Target"]
    assert target["RoleArn"] == {"Fn::GetAtt": ["SweeperFunctionTickRole", "Arn"]}
    (statement,) = statements("SweeperFunctionTickRole")
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Resource"] == {"Fn::GetAtt": ["SweeperFunction", "Arn"]}


def test_a_runner_of_ones_own_gets_what_the_runner_has() -> None:
    """RunnerPolicy is not a copy: it is what the runner itself runs with, but for mail."""
    assert {"Ref": "RunnerFunctionRole"} in translated()["Resources"]["RunnerPolicy"]["Properties"]["Roles"]
    own = [statement["Sid"] for statement in statements("RunnerFunctionRole")]
    shared = [statement["Sid"] for statement in statements("RunnerPolicy")]
    assert sorted(own) == sorted([*shared, "WriteItsOwnLogs", "SendAsTheIdentity"])


@pytest.mark.parametrize("runners", [1, 45])
def test_a_managed_policy_stays_well_below_its_limit(runners: int) -> None:
    """6,144 characters, with a few runners of one's own and with as many as RunnerFunctions can name."""
    arn = "arn:aws-us-gov:lambda:us-gov-east-1:111122223333:function:" + "x" * 40
    for policy in ("DispatchPolicy", "RunnerPolicy", "WorkerPolicy"):
        document = json.dumps(translated()["Resources"][policy]["Properties"]["PolicyDocument"], separators=(",", ":"))
        size = len(document) + (runners - 1) * len(f'"{arn}",')
        assert size < (6144 if runners > 1 else 2500), policy


def test_a_recorded_transaction_needs_the_grants_of_its_members() -> None:
    """This is how recorded calls are compared with the grants."""
    burying = {
        "TransactItems": [
            {"Put": {"TableName": "f", "Item": {}}},
            {"Delete": {"TableName": "j", "Key": {}}},
        ]
    }
    assert needed("TransactWriteItems", burying, jobs_table="j", failed_table="f") == {
        ("failed", "dynamodb:PutItem"),
        ("jobs", "dynamodb:DeleteItem"),
    }
    sweeping = {"TableName": "j", "IndexName": "due"}
    assert needed("Query", sweeping, jobs_table="j", failed_table="f") == {("jobs/due", "dynamodb:Query")}
    assert needed("Invoke", {}, jobs_table="j", failed_table="f") == {("runner", "lambda:InvokeFunction")}
    assert needed("PutEvents", {}, jobs_table="j", failed_table="f") == {("bus", "events:PutEvents")}
