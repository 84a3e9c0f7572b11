"""Each principal may do exactly what its code does."""

import json

import pytest

from tests.template.grants import PRINCIPALS, Grant, grants, needed, statements, translated

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
    },
}


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_a_principal_is_granted_what_the_table_allows(principal: str) -> None:
    """Neither a right too few, which fails in production only, nor one too many."""
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


def test_mail_may_be_sent_as_the_given_identity_only() -> None:
    """Without SesIdentityArn the stack has no right to send mail."""
    policy = translated()["Resources"]["MailPolicy"]
    assert policy["Condition"] == "HasSesIdentity"
    (sending,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert [r for r in sending["Resource"] if "identity" in str(r).lower()] == [{"Ref": "SesIdentityArn"}]


def test_the_event_bus_may_be_told_only_where_there_is_one() -> None:
    """Without EventBusName nobody in the stack has the right to publish anything."""
    written = json.dumps(translated()["Resources"])
    assert written.count('"Action": "events:PutEvents"') == len(PRINCIPALS)
    assert written.count('"Fn::If": ["HasEventBus", {"Sid": "TellTheEventBus", ') == len(PRINCIPALS)
    assert translated()["Conditions"]["HasEventBus"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "EventBusName"}, ""]}]}


def test_the_functions_hold_no_other_policy_than_that_for_logs() -> None:
    """What SAM adds by itself is the right to write logs."""
    for role in ("RunnerFunctionRole", "SweeperFunctionRole", "ApiFunctionRole"):
        assert translated()["Resources"][role]["Properties"]["ManagedPolicyArns"] == [
            "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
        ]


def test_the_schedule_may_start_the_sweeper_only() -> None:
    """Its role is one that SAM makes."""
    (statement,) = statements("SweeperFunctionTickRole")
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Resource"] == {"Fn::GetAtt": ["SweeperFunction", "Arn"]}


def test_a_runner_of_ones_own_gets_what_the_runner_has() -> None:
    """RunnerPolicy is not a copy: it is what the runner itself runs with, but for mail."""
    assert {"Ref": "RunnerFunctionRole"} in translated()["Resources"]["RunnerPolicy"]["Properties"]["Roles"]
    assert "Policies" not in translated()["Resources"]["RunnerFunctionRole"]["Properties"]


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
