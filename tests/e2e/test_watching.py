"""Given a bus and an address, the deployed stack publishes to the bus, and has alarms that mail the address."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from relayq_core import JobRecord, RelayQ
from tests.e2e.deployment import Deployment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def test_a_rule_hears_of_a_job_by_the_rights_of_the_runner(
    relayq: RelayQ, deployment: Deployment, completed: Callable[[str], JobRecord]
) -> None:
    """Started and processed, in the order of their times; the dispatcher has no variable and publishes nothing."""
    sqs, rules = deployment.emulator.client("sqs"), deployment.emulator.client("events")
    queue = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rules.put_rule(Name="heard", EventPattern=json.dumps({"source": ["relayq"], "detail": {"name": ["Greet"]}}))
    rules.put_targets(Rule="heard", Targets=[{"Id": "queue", "Arn": arn}])
    try:
        job_id = relayq.dispatch("Greet", {"name": "Ada"}, queue="probes").job_id
        completed(job_id)
        heard: list[dict[str, Any]] = []
        for _ in range(60):  # the runner publishes once the job is settled
            heard += [json.loads(m["Body"]) for m in sqs.receive_message(QueueUrl=queue).get("Messages", [])]
            mine = {event["detail-type"] for event in heard if event["detail"]["id"] == job_id}
            if mine == {"Job Started", "Job Processed"}:
                break
            time.sleep(0.5)
        assert mine == {"Job Started", "Job Processed"}, deployment.told()
        assert {event["detail"]["table"] for event in heard} == {deployment.outputs["JobsTableName"]}
    finally:
        rules.remove_targets(Rule="heard", Ids=["queue"])
        rules.delete_rule(Name="heard")


def test_the_alarms_are_there_and_notify_the_topic(deployment: Deployment) -> None:
    """By names that a mail's subject shows, and to the address that was named."""
    topic = deployment.outputs["AlarmTopicArn"]
    alarms = deployment.emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
    told = {alarm["AlarmName"]: alarm["AlarmActions"] for alarm in alarms if alarm["AlarmName"].startswith("relayq-")}
    assert len(told) == 9
    assert told["relayq-jobs-failed"] == [topic]
    subscribed = deployment.emulator.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(found["Protocol"], found["Endpoint"]) for found in subscribed] == [("email", "ops@example.com")]
