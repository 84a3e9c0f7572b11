"""The shipped template, deployed by `sam build` and `sam deploy`, does what the README promises.

Every call here is checked against the template's grants: by the caller's key, and by the role of each function.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest
from botocore.exceptions import ClientError

from relayq_core import Dispatched, JobRecord, RelayQ, Status
from tests.e2e.deployment import Deployment
from tests.support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

Ended = Callable[[str], JobRecord]
Slow = dict[str, Dispatched]


@pytest.fixture(autouse=True)
def _slow_jobs_are_under_way(slow: Slow) -> None:
    """So that they are waited for once, and not one after the other."""


# ---------------------------------------------------------------- from a process that holds the outputs


def test_a_job_dispatched_by_name_completes_with_its_result(
    relayq: RelayQ, completed: Ended, deployment: Deployment
) -> None:
    """The job is a file that was added to functions/runner/jobs/; nothing else was changed."""
    dispatched = relayq.dispatch("Greet", {"name": "Ada"}, queue="probes")
    record = completed(dispatched.job_id)
    assert (dispatched.duplicate, dispatched.handed_off) == (False, True)
    assert record.attempt == 1
    assert record.result == {"greeting": "hello Ada", "by": deployment.outputs["RunnerFunctionName"]}


def test_a_job_dispatched_by_class_completes(relayq: RelayQ, completed: Ended) -> None:
    """Where the code is there, the object is checked before it is written down."""
    from tests.e2e.probes import Greet

    record = completed(relayq.dispatch(Greet(name="Grace")).job_id)
    assert record.queue == "probes"
    assert record.result["greeting"] == "hello Grace"


def test_the_module_functions_need_nothing_but_the_environment(deployment: Deployment, completed: Ended) -> None:
    """Two variables suffice, in a process that never saw this repository's jobs."""
    script = 'from relayq_core import dispatch; print(dispatch("Greet", {"name": "Joan"}, queue="probes").job_id)'
    given = {
        "RELAYQ_JOBS_TABLE": deployment.outputs["JobsTableName"],
        "RELAYQ_RUNNER_FUNCTION": deployment.outputs["RunnerFunctionName"],
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={name: value for name, value in os.environ.items() if not name.startswith("RELAYQ_")} | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert completed(done.stdout.strip()).result["greeting"] == "hello Joan"


def test_a_job_that_falters_is_retried_until_it_completes(
    relayq: RelayQ, completed: Ended, deployment: Deployment
) -> None:
    """The runner's retries are its own invocations of itself."""
    log = deployment.log("falter")
    record = completed(relayq.dispatch("falter", {"log": str(log)}, queue="probes").job_id)
    assert record.result == 3
    assert log.read_text().splitlines() == ["attempt 1", "attempt 2", "attempt 3"]


def test_a_job_that_keeps_failing_ends_in_the_failed_table(
    relayq: RelayQ, ended: Ended, deployment: Deployment
) -> None:
    """The row has its error and its payload, after one call of failed(); the jobs table has forgotten it."""
    log = deployment.log("doomed")
    record = ended(relayq.dispatch("Doomed", {"log": str(log)}, queue="probes").job_id)
    assert (record.status, record.attempt, record.payload) == (Status.FAILED, 2, {"log": str(log)})
    assert "ValueError: this cannot work" in (record.error or "")
    assert log.read_text().splitlines() == ["attempt 1", "attempt 2", "failed: this cannot work"]
    dynamodb = deployment.emulator.client("dynamodb")
    key = {"pk": {"S": f"job#{record.id}"}}
    assert "Item" not in dynamodb.get_item(TableName=deployment.outputs["JobsTableName"], Key=key)
    buried = dynamodb.get_item(TableName=deployment.outputs["FailedJobsTableName"], Key={"id": {"S": record.id}})
    assert buried["Item"]["queue"] == {"S": "probes"}


def test_a_duplicate_is_turned_away_with_the_first_ones_id(relayq: RelayQ, completed: Ended) -> None:
    """The first one runs once."""
    first = relayq.dispatch("Greet", {"name": "one"}, queue="probes", unique="e2e:1", unique_for=300)
    second = relayq.dispatch("Greet", {"name": "two"}, queue="probes", unique="e2e:1", unique_for=300)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.job_id == first.job_id
    assert completed(first.job_id).result["greeting"] == "hello one"


def test_a_job_dispatches_another(relayq: RelayQ, completed: Ended) -> None:
    """It has the runner's rights, and knows its parent."""
    parent = completed(relayq.dispatch("spawn", {"name": "child"}, queue="probes").job_id)
    child = completed(parent.result)
    assert (child.parent_id, child.root_id) == (parent.id, parent.id)
    assert child.result["greeting"] == "hello child"


def test_a_waiting_job_is_cancelled_and_releases_its_key(relayq: RelayQ, completed: Ended) -> None:
    """DispatchPolicy alone is enough: it may delete a unique key."""
    first = relayq.dispatch("Greet", {"name": "no"}, queue="probes", delay=3600, unique="e2e:2")
    cancelled = relayq.cancel(first.job_id)
    assert cancelled is not None
    assert cancelled.status is Status.CANCELLED
    second = relayq.dispatch("Greet", {"name": "yes"}, queue="probes", unique="e2e:2")
    assert not second.duplicate
    assert completed(second.job_id).result["greeting"] == "hello yes"


def test_the_dispatchers_key_may_do_no_more(relayq: RelayQ, deployment: Deployment) -> None:
    """Else the tests above would say nothing about DispatchPolicy."""
    dynamodb = boto3.client("dynamodb")
    for table in (deployment.outputs["JobsTableName"], deployment.outputs["FailedJobsTableName"]):
        with pytest.raises(ClientError, match="AccessDenied"):
            dynamodb.scan(TableName=table)
    with pytest.raises(ClientError, match="AccessDenied"):
        boto3.client("lambda").invoke(FunctionName=deployment.outputs["SweeperFunctionName"])


# ---------------------------------------------------------------- from another stack


def test_the_caller_dispatches_by_name_and_sees_the_status(deployment: Deployment, completed: Ended) -> None:
    """examples/caller as it is shipped."""
    event = {"dispatch": "Greet", "args": {"name": "caller"}, "options": {"queue": "probes"}}
    answer = deployment.emulator.invoke(deployment.caller, event)
    record = completed(answer["job_id"])
    status = deployment.emulator.invoke(deployment.caller, {"status": record.id})
    assert status == {"status": "completed", "result": record.result}
    assert record.result["greeting"] == "hello caller"


def test_the_caller_dispatches_by_class(deployment: Deployment, completed: Ended) -> None:
    """A caller that holds the job's code."""
    answer = deployment.emulator.invoke(deployment.caller, {"greet": "class"})
    assert completed(answer["job_id"]).result["greeting"] == "hello class"


def test_a_runner_in_a_stack_of_its_own_takes_its_queue(deployment: Deployment, completed: Ended) -> None:
    """examples/own-jobs as it is shipped, dispatched to by the caller's stack."""
    event = {"dispatch": "build_report", "args": {"month": "2026-11"}, "options": {"queue": "reports"}}
    record = completed(deployment.emulator.invoke(deployment.caller, event)["job_id"])
    assert record.result == {"month": "2026-11", "lines": 100, "attempt": 1}


# ---------------------------------------------------------------- the jobs that ship with RelayQ


def test_the_shipped_webhook_is_posted_and_retried(relayq: RelayQ, completed: Ended) -> None:
    """A receiver that answers 503 with Retry-After, then 200."""
    answers = [503, 200]
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(answers[len(bodies) - 1])
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        record = completed(relayq.dispatch("post_webhook", {"url": url, "payload": {"order": 7}}).job_id)
        server.shutdown()
    assert record.attempt == 2
    assert bodies == [b'{"order":7}'] * 2 or bodies == [b'{"order": 7}'] * 2


def test_the_shipped_mail_job_sends(relayq: RelayQ, completed: Ended, deployment: Deployment) -> None:
    """The sender comes from MailFrom. The emulator asks for the right to any identity, so that is added."""
    any_identity = {"Effect": "Allow", "Action": "ses:SendEmail", "Resource": "*"}
    role = deployment.emulator.client("lambda").get_function_configuration(
        FunctionName=deployment.outputs["RunnerFunctionName"]
    )["Role"]
    deployment.emulator.client("iam").put_role_policy(
        RoleName=role.rpartition("/")[2],
        PolicyName="any-identity",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [any_identity]}),
    )
    deployment.emulator.client("sesv2").create_email_identity(EmailIdentity="example.com")
    mail = {"to": "grace@example.com", "subject": "Hello", "text": "It works."}
    record = completed(relayq.dispatch("send_email", mail).job_id)
    assert record.result


# ---------------------------------------------------------------- what goes wrong, and what takes a while


def test_a_delayed_job_starts_at_its_time(completed: Ended, slow: Slow) -> None:
    """Within a tick: a runner sleeps until then."""
    _started_when_it_was_due(completed(slow["within a tick"].job_id))
    assert slow["within a tick"].handed_off


def test_a_function_that_times_out_is_retried(completed: Ended, slow: Slow, deployment: Deployment) -> None:
    """Nothing of the attempt's own code runs at its end: the emulator kills the process, the sweeper finds the row."""
    record = completed(slow["frozen"].job_id)
    assert (record.attempt, record.result) == (2, "attempt 2")
    first, second = deployment.log("freeze").read_text().split()
    assert first != second


def test_a_job_beyond_its_own_timeout_is_retried_with_that_error(relayq: RelayQ, completed: Ended) -> None:
    """The soft deadline ends the handler, so the error is recorded."""
    record = completed(relayq.dispatch("dawdle", queue="probes").job_id)
    assert record.result == "attempt 2"
    assert [error["error"].startswith("JobTimeout") for error in record.errors] == [True]


def test_a_runner_killed_in_the_middle_is_saved_by_the_schedule(
    completed: Ended, slow: Slow, deployment: Deployment
) -> None:
    """SIGKILL: only the sweeper can know of it, and only its schedule starts the sweeper."""
    log = deployment.log("linger")
    record = completed(slow["killed"].job_id)
    assert (record.attempt, record.result) == (2, "attempt 2")
    first, second = log.read_text().split()
    assert first != second
    assert ["JobCrashed" in error["error"] for error in record.errors] == [True]


def test_a_job_that_reached_the_wrong_runner_is_passed_on(completed: Ended, slow: Slow) -> None:
    """A dispatcher that does not know of the queue's runner costs a minute, and no attempt."""
    record = completed(slow["misdirected"].job_id)
    assert record.result == {"month": "2026-10", "lines": 100, "attempt": 1}


def test_a_job_delayed_beyond_a_tick_starts_at_its_time(completed: Ended, slow: Slow) -> None:
    """There was no handoff: the sweeper starts it."""
    _started_when_it_was_due(completed(slow["beyond a tick"].job_id))
    assert not slow["beyond a tick"].handed_off


def _started_when_it_was_due(record: JobRecord) -> None:
    assert record.started_at is not None
    assert record.started_at >= record.available_at


# ---------------------------------------------------------------- the files beside the template


def test_sam_finds_no_fault_with_any_template(deployment: Deployment) -> None:
    """`sam validate --lint`."""
    for folder in (ROOT, ROOT / "examples/caller", ROOT / "examples/own-jobs"):
        deployment.emulator.sam(folder, "validate", "--lint", "--template", "template.yaml")


@pytest.mark.parametrize(
    ("function", "event"),
    [("RunnerFunction", "runner.json"), ("SweeperFunction", "sweeper_schedule.json")],
)
def test_the_events_are_what_the_functions_take(deployment: Deployment, function: str, event: str) -> None:
    """`sam remote invoke` with each of them: a job that is not there is no error."""
    deployment.emulator.sam(
        ROOT,
        "remote",
        "invoke",
        function,
        "--stack-name",
        "relayq",
        "--event-file",
        f"events/{event}",
    )


def test_the_logs_are_json_with_the_jobs_id(relayq: RelayQ, completed: Ended, deployment: Deployment) -> None:
    """They go where the template says."""
    job_id = completed(relayq.dispatch("Greet", {"name": "log"}, queue="probes").job_id).id
    logs = deployment.emulator.client("logs")
    for _ in range(50):
        found = logs.filter_log_events(logGroupName="/relayq/relayq/runner", filterPattern=f'"{job_id}"')
        if found["events"]:
            break
        time.sleep(0.2)
    assert any('"job_id"' in event["message"] for event in found["events"])
