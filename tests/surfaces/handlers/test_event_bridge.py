"""The functions, EventBridge and a rule: what is published is what the schema says, and the example's rule hears it."""

from __future__ import annotations

import json
from typing import Any

import boto3
import jsonschema
import pytest

from relayq_core import RelayQ, Settings
from relayq_core.adapters.event_bridge import EventBridge
from relayq_core.ports import Announcement
from tests.support.aws_stub import Stub
from tests.support.paths import ROOT
from tests.surfaces.handlers.lambdas import (
    SECRET,
    Context,
    Lambdas,
    logs_of,
    metrics_of,
)
from tests.surfaces.template.grants import grants, needed
from tests.surfaces.template.translate import read

SCHEMA = json.loads((ROOT / "docs/reference/job-event.schema.json").read_text())
EXAMPLE = ROOT / "examples/listener"


class Ear:
    """A queue behind a rule: what it heard."""

    def __init__(self, pattern: dict[str, Any], bus: str = "jobs") -> None:
        self._sqs = boto3.client("sqs")
        events = boto3.client("events")
        if bus not in {found["Name"] for found in events.list_event_buses()["EventBuses"]}:
            events.create_event_bus(Name=bus)
        name = f"ear-{len(self._sqs.list_queues().get('QueueUrls', []))}"
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        told = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))
        events.put_targets(
            Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": told["Attributes"]["QueueArn"]}]
        )

    def heard(self) -> list[dict[str, Any]]:
        """Every event since the last look, as a target is given it."""
        found: list[dict[str, Any]] = []
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture
def ear(lambdas: Lambdas) -> Ear:
    """Hears all that RelayQ publishes."""
    return Ear({"source": ["relayq"]})


def test_a_run_is_published_as_the_schema_says(lambdas: Lambdas, ear: Ear) -> None:
    """Every field of every event is in the schema, and no payload or result is in any."""
    runner = lambdas.load("runner", RELAYQ_EVENT_BUS="jobs")
    failing = lambdas.dispatch("fail", {"to": SECRET})
    for job_id in (lambdas.dispatch("send", {"to": SECRET}), lambdas.dispatch("sleepy"), failing, failing):
        runner.handler({"job_id": job_id}, Context())
    runner.handler({"job_id": lambdas.dispatch("parent")}, Context())
    heard = ear.heard()
    assert SECRET not in json.dumps(heard)
    titles = {event["detail-type"] for event in heard}
    assert titles == {"Job Dispatched", "Job Started", "Job Processed", "Job Failed", "Job Snoozed"}
    for event in heard:
        jsonschema.validate(event["detail"], SCHEMA)
        assert event["detail-type"] == f"Job {event['detail']['event'].title()}"
    assert {field for event in heard for field in event["detail"]} <= set(SCHEMA["properties"])


def test_the_rule_of_the_example_hears_of_jobs_that_are_given_up(
    lambdas: Lambdas, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not hear of a job that is tried again, or of other queues; and its function makes a sentence of it."""
    rule = read(EXAMPLE / "template.yaml")["Resources"]["ListenerFunction"]["Properties"]["Events"]["JobGivenUp"]
    ear = Ear(rule["Properties"]["Pattern"])
    runner = lambdas.load("runner", RELAYQ_EVENT_BUS="jobs")
    elsewhere = lambdas.dispatch("fail", {"to": "x"}, queue="other")
    for job_id in (lambdas.dispatch("send", {"to": "x"}), elsewhere, elsewhere):
        runner.handler({"job_id": job_id}, Context())
    job_id = lambdas.dispatch("fail", {"to": "x"})
    runner.handler({"job_id": job_id}, Context())
    assert ear.heard() == []
    runner.handler({"job_id": job_id}, Context())
    (event,) = ear.heard()
    capsys.readouterr()
    handler: dict[str, Any] = {}
    exec(compile((EXAMPLE / "src/app.py").read_text(), "app.py", "exec"), handler)
    assert handler["handler"](event, None) == {"reported": job_id}
    assert capsys.readouterr().out == f"fail {job_id} failed after 2 attempts: ValueError: no such mailbox\n"


def test_a_bus_that_is_not_there_is_a_line_and_a_metric(lambdas: Lambdas, invocations: Stub) -> None:
    """The answer of the runner is the same."""
    runner = lambdas.load("runner", RELAYQ_EVENT_BUS="jobs", AWS_ENDPOINT_URL_EVENTS="http://127.0.0.1:9")
    job_id = lambdas.dispatch("send", {"to": "x"})
    assert runner.handler({"job_id": job_id}, Context())["ended"] == "completed"
    lines = lambdas.output()
    assert metrics_of(lines)["PublishFailed"] == [1.0, 1.0]
    (line,) = [line for line in logs_of(lines) if line["level"] == "WARNING"]
    assert line["message"].startswith("2 events were not published: ")
    assert lambdas.job(job_id).status == "completed"


def test_the_sweeper_publishes_the_crashes_it_finds(lambdas: Lambdas, ear: Ear) -> None:
    """The runner that held the job cannot."""
    sweeper = lambdas.load("sweeper", RELAYQ_EVENT_BUS="jobs", RELAYQ_RUNNER_FUNCTION="the-runner")
    job_id = lambdas.dispatch("send", {"to": "x"}, max_attempts=1)
    row = {"status": "processing", "attempt": 1, "lease_id": "gone", "lease_until": 1, "due_at": 1}
    item = boto3.client("dynamodb").get_item(TableName="jobs-table", Key={"pk": {"S": f"job#{job_id}"}})["Item"]
    item |= {name: {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in row.items()}
    boto3.client("dynamodb").put_item(TableName="jobs-table", Item=item)
    sweeper.handler({}, Context())
    (event,) = ear.heard()
    assert (event["detail-type"], event["detail"]["id"]) == ("Job Failed", job_id)
    jsonschema.validate(event["detail"], SCHEMA)


def test_the_call_that_publishes_is_the_one_that_is_granted(lambdas: Lambdas, ear: Ear) -> None:
    """A function without the variable makes no such client at all."""
    runner = lambdas.load("runner", RELAYQ_EVENT_BUS="jobs")
    recorded = set()

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        recorded.update(needed(model.name, params, jobs_table="jobs-table", failed_table="failed-table"))

    runner._relayq.clients.get("events").meta.events.register("before-parameter-build.events", record)
    runner.handler({"job_id": lambdas.dispatch("send", {"to": "x"})}, Context())
    assert recorded == {("bus", "events:PutEvents")}
    assert recorded <= grants("runner")
    silent = lambdas.load("runner", RELAYQ_EVENT_BUS="")
    silent.handler({"job_id": lambdas.dispatch("send", {"to": "x"})}, Context())
    assert "events" not in silent._relayq.clients.by_service
    assert len(ear.heard()) == 2


def test_code_of_ones_own_publishes_too_where_it_has_the_variable(lambdas: Lambdas, ear: Ear) -> None:
    """Once for each dispatch, with the parameters validated by botocore."""
    caller = RelayQ(Settings(jobs_table="jobs-table", handoff="none", event_bus="jobs"), validate_parameters=True)
    caller.dispatch("send", {"to": SECRET}, delay=3600)
    (event,) = ear.heard()
    assert (event["source"], event["detail-type"]) == ("relayq", "Job Dispatched")
    assert event["detail"]["table"] == "jobs-table"
    jsonschema.validate(event["detail"], SCHEMA)


def test_an_entry_that_is_refused_is_logged_by_its_code() -> None:
    """The answer of PutEvents lists the entries in their order."""

    class Client:
        def put_events(self, **_: Any) -> dict[str, Any]:
            return {"FailedEntryCount": 1, "Entries": [{"EventId": "1"}, {"ErrorCode": "InternalFailure"}]}

    announcement = Announcement("Job Failed", 0, "{}")
    assert EventBridge(Client, "jobs").put([announcement] * 2) == [None, "InternalFailure"]


def test_a_call_is_sent_once_and_waits_a_second(lambdas: Lambdas) -> None:
    """No job is to be billed for minutes of a bus that does not answer."""
    config = lambdas.load("runner", RELAYQ_EVENT_BUS="jobs")._relayq.clients.get("events").meta.config
    assert (config.connect_timeout, config.read_timeout) == (1, 1)
    assert config.retries["total_max_attempts"] == 1
