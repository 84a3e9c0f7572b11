"""What a stack is made of, and what its operators and readers find: HTTP, schema, logs, settings, documents."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from relayq_core import Settings, SettingsError, api
from relayq_core.adapters.dynamodb.store import DynamoStore
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.events.listeners import events
from relayq_core.testing import MemoryStore, RecordingHandoff
from tests.support.factories import a_job
from tests.support.lambda_context import Context
from tests.support.paths import ROOT


@pytest.fixture
def cold_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Load a function's handler as Lambda does, with its tables in memory."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_RUNNER_FUNCTION": "runner",
        "RELAYQ_HTTP_TOKEN": "the-token-of-the-stack",
        "RELAYQ_JOB_MODULES": "tests.features.no_jobs",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "tests.features.no_jobs", ModuleType("no_jobs"))
    listeners = {kind: list(found) for kind, found in events._listeners.items()}
    former = api.use(None)

    def load(name: str) -> ModuleType:
        for module in ("telemetry", name):
            monkeypatch.delitem(sys.modules, f"relayq_core.handlers.{module}", raising=False)
        loaded = importlib.import_module(f"relayq_core.handlers.{name}")
        loaded._relayq.store, loaded._relayq.handoff = MemoryStore(), RecordingHandoff()
        return loaded

    yield load
    api.use(former)
    events._listeners.clear()
    events._listeners.update(listeners)


@pytest.mark.parametrize(("token", "status"), [("the-token-of-the-stack", 202), ("wrong", 401), (None, 401)])
def test_row_05_a_job_is_handed_off_over_http(cold_start: Any, token: str | None, status: int) -> None:
    """POST /_relayq/run with the token invokes the runner, and waits for nothing; without it nothing happens."""
    module = cold_start("api")
    event = json.loads((ROOT / "events" / "api_run.json").read_text())
    event["headers"] = {"content-type": "application/json", **({"x-relayq-token": token} if token else {})}
    asked = json.loads(event["body"])["job_id"]
    assert module.handler(event, Context())["statusCode"] == status
    assert [offer.job_id for offer in module._relayq.handoff.offers] == ([asked] if status == 202 else [])


def test_row_41_the_tables_are_made_by_the_template_or_by_a_command() -> None:
    """`relayq tables create` makes what template.yaml declares; a job written there is found again."""
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-central-1")
        for table in (jobs_table("jobs"), failed_table("failed")):
            client.create_table(**table)
        store = DynamoStore(lambda: client, "jobs", "failed")
        job = a_job(created_at=2_000_000_000_000)
        store.add(job)
        assert store.get(job.id) == job
        indexes = client.describe_table(TableName="jobs")["Table"]["GlobalSecondaryIndexes"]
        assert [index["IndexName"] for index in indexes] == ["due"]


def test_row_45_each_line_of_the_log_says_which_job_it_is_about(cold_start: Any) -> None:
    """Structured, as JSON, from the runner and from what the job itself logs."""
    module = cold_start("runner")
    log = io.StringIO()
    module.logger.registered_handler.setStream(log)
    job = a_job(id="job-1", name="nobody_knows_it")
    module._relayq.store.register_queue(job.queue)
    module._relayq.store.add(job)
    module.handler({"job_id": "job-1"}, Context())
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert lines
    assert {(line["job_id"], line["job_name"], line["queue"]) for line in lines} == {
        ("job-1", "nobody_knows_it", job.queue)
    }


def test_row_46_settings_come_from_the_environment_and_a_wrong_one_stops_the_start() -> None:
    """No setting is ignored: one that is misspelt or malformed is named in a sentence."""
    found = Settings.from_environ({"RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_MAX_ATTEMPTS": "5", "PATH": "/bin"})
    assert (found.jobs_table, found.max_attempts) == ("jobs", 5)
    for wrong, told in {
        "RELAYQ_MAX_ATTEMPS": 'Did you mean "RELAYQ_MAX_ATTEMPTS"',
        "RELAYQ_STALE_SECONDS": "soon",
    }.items():
        with pytest.raises(SettingsError, match=told):
            Settings.from_environ({"RELAYQ_JOBS_TABLE": "jobs", wrong: "soon"})


def test_row_48_the_readme_says_what_it_is_not_for() -> None:
    """Bulk, streams, long work: a reader who has those learns it before the first deploy."""
    (section,) = [part for part in _sections("README.md") if part.startswith("When not to use it")]
    for word in ("Bulk", "Streams", "Long work", "Cron"):
        assert f"**{word}" in section


def test_row_49_a_schedule_is_not_a_queue() -> None:
    """The only schedule in the template is the sweeper's; a cron job calls dispatch()."""
    from cfnlint.decode import cfn_yaml

    template = cfn_yaml.load(str(ROOT / "template.yaml"))
    schedules = [
        (name, event["Properties"].get("ScheduleExpression"))
        for name, resource in template["Resources"].items()
        for event in resource.get("Properties", {}).get("Events", {}).values()
        if event["Type"].startswith("Schedule")
    ]
    assert schedules == [("SweeperFunction", "rate(1 minute)")]


def test_row_54_mail_and_webhooks_are_there_from_the_first_deploy() -> None:
    """Three jobs that most applications need, ready to be dispatched by name."""
    code = (
        "from relayq_core.jobs.registry import import_jobs, registry; import_jobs(['jobs.email', 'jobs.webhook']); "
        "print(*sorted(registry))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "functions" / "runner", capture_output=True, text=True, check=True
    )
    assert set(told.stdout.split()) >= {"send_email", "send_templated_email", "post_webhook"}


def test_row_56_the_core_knows_neither_the_functions_nor_the_command_line() -> None:
    """Imports flow one way; `make check` has import-linter look at every module, and this at the functions."""
    for app in sorted((ROOT / "functions").glob("*/app.py")):
        lines = [line for line in app.read_text().splitlines() if line and not line.startswith(("#", '"""'))]
        assert all(line.startswith(("from relayq_core.handlers.", "__all__")) for line in lines), app
    code = "import sys, relayq_core.handlers.runner; print(*sys.modules)"
    environment = {
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_JOB_MODULES": "json",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(told.stdout.split())
    assert "relayq_core.client" in loaded
    assert loaded.isdisjoint({"relayq_core.cli", "relayq_core.local", "relayq_core.testing", "typer", "rich", "moto"})


def test_row_57_the_readme_says_what_to_do_when_something_is_wrong() -> None:
    """Nothing happens, a wrong queue, no rights: a table of what you see, why, and what to do."""
    (section,) = [part for part in _sections("README.md") if part.startswith("When something is wrong")]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    assert any("nothing happens" in row for row in rows)


def _sections(name: str) -> list[str]:
    """A page's sections, each beginning with its heading."""
    return [part.lstrip("# ") for part in (ROOT / name).read_text().split("\n#")]
