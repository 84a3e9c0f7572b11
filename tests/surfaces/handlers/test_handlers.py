"""The Lambda handlers as Lambda calls them: real environment, real events, and what they write to the logs."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relayq_core import SettingsError, StoreError, UnknownJob
from relayq_core.jobs.registry import registry
from relayq_core.testing import isolated_registry
from tests.support.aws_stub import Stub
from tests.support.paths import ROOT
from tests.surfaces.handlers.lambdas import (
    JOBS,
    SECRET,
    Context,
    Lambdas,
    logs_of,
    metrics_of,
    no_such_function,
)

RUNNER_EVENT = json.loads((ROOT / "events/runner.json").read_text())
SWEEPER_EVENT = json.loads((ROOT / "events/sweeper_schedule.json").read_text())


# --- the runner ---


def test_a_handoff_runs_the_job(lambdas: Lambdas) -> None:
    """The event is the one in events/, which `sam remote invoke` sends too."""
    runner = lambdas.load("runner")
    lambdas.dispatch("send", {"to": SECRET}, job_id=RUNNER_EVENT["job_id"])
    assert runner.handler(RUNNER_EVENT, Context()) == {"job_id": RUNNER_EVENT["job_id"], "ended": "completed"}
    assert lambdas.job(RUNNER_EVENT["job_id"]).status == "completed"


def test_a_run_is_one_structured_line_with_the_jobs_fields(lambdas: Lambdas) -> None:
    """One search finds it by id, name, queue or attempt; what the job logs itself has the same fields."""
    runner = lambdas.load("runner")
    job_id = lambdas.dispatch("send", {"to": SECRET}, queue="vip")
    runner.handler({"job_id": job_id}, Context())
    lines = logs_of(lambdas.output())
    assert [line["message"] for line in lines] == ["sending", "also sending", "job completed"]
    assert [line["level"] for line in lines] == ["INFO"] * 3
    assert {line["job_id"] for line in lines} == {job_id}
    for line in (lines[0], lines[2]):
        assert (line["job_name"], line["queue"], line["attempt"]) == ("send", "vip", 1)
    assert lines[2]["duration_ms"] >= 0


@pytest.mark.parametrize(
    "config",
    [{}, {"root": {"level": "WARNING"}}, {"loggers": {"relayq": {"level": "INFO"}, "shop_jobs": {"level": "INFO"}}}],
    ids=["a version alone", "a root", "RelayQ's and the job's own logger"],
)
@pytest.mark.parametrize("where", ["in its module", "in its handler"])
def test_a_job_that_configures_logging_silences_nothing(lambdas: Lambdas, config: dict[str, Any], where: str) -> None:
    """Django's LOGGING and most examples disable whatever logger exists."""
    configure = f"import logging.config; logging.config.dictConfig({{'version': 1, **{config}}})"
    handler = "    context.logger.info"
    changed = JOBS.replace(handler, f"    {configure}\n{handler}") if where == "in its handler" else configure + JOBS
    lambdas.write("shop_jobs", changed)
    root = logging.root
    kept = root.handlers, root.level
    try:
        runner = lambdas.load("runner")
        runner.handler({"job_id": lambdas.dispatch("send", {"to": SECRET})}, Context())
        runner.handler({"no": "handoff"}, Context())
    finally:
        root.handlers, root.level = kept
    messages = [line["message"] for line in logs_of(lambdas.output())]
    assert messages[:3] == ["sending", "also sending", "job completed"]
    assert "the event is not a handoff" in messages[3]


def test_a_run_is_counted(lambdas: Lambdas) -> None:
    """Started and completed, how long it waited and how long it took; the service is the stack."""
    runner = lambdas.load("runner")
    runner.handler({"job_id": lambdas.dispatch("send", {"to": "x"})}, Context())
    lines = lambdas.output()
    metrics = metrics_of(lines)
    assert sorted(metrics) == ["Completed", "Duration", "Started", "Wait"]
    assert (metrics["Started"], metrics["Completed"]) == ([1.0], [1.0])
    (blob,) = [line for line in lines if "_aws" in line]
    assert blob["service"].startswith(lambdas.folder.name)
    units = {metric["Name"]: metric["Unit"] for metric in blob["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert units == {"Started": "Count", "Completed": "Count", "Wait": "Milliseconds", "Duration": "Milliseconds"}


def test_a_failure_is_counted_as_a_retry_and_the_last_as_failed(lambdas: Lambdas) -> None:
    """An alarm on Failed must not ring for what is tried again."""
    runner = lambdas.load("runner")
    job_id = lambdas.dispatch("fail", {"to": SECRET})
    assert runner.handler({"job_id": job_id}, Context())["ended"] == "retrying"
    first = lambdas.output()
    assert runner.handler({"job_id": job_id}, Context())["ended"] == "failed"
    second = lambdas.output()
    assert sorted(metrics_of(first)) == ["Duration", "Retried", "Started", "Wait"]
    assert sorted(metrics_of(second)) == ["Duration", "Failed", "Started", "Wait"]
    (line,) = logs_of(second)
    told = r"job failed: ValueError: no such mailbox, at /.+\.py:\d+ in fail; it is in the failed table"
    assert re.fullmatch(told, line["message"])
    assert (line["level"], line["job_id"], line["attempt"]) == ("WARNING", job_id, 2)


def test_a_job_that_dispatches_is_counted_and_finds_this_runner(lambdas: Lambdas) -> None:
    """A function cannot name itself in its own template: Lambda gives the name in the environment."""
    runner = lambdas.load("runner")
    runner.handler({"job_id": lambdas.dispatch("parent", job_id="parent")}, Context())
    metrics = metrics_of(lambdas.output())
    assert metrics["Dispatched"] == [1.0]
    assert "HandoffFailed" not in metrics
    assert lambdas.job("child").parent_id == "parent"
    runner.handler({"job_id": "child"}, Context())
    assert lambdas.job("child").result == {"runner": "the-runner"}


def test_a_handoff_that_fails_is_counted_and_harms_nothing(lambdas: Lambdas, invocations: Stub) -> None:
    """The job is safe; but the operator should look why."""
    invocations.answer = no_such_function
    runner = lambdas.load("runner")
    assert runner.handler({"job_id": lambdas.dispatch("parent")}, Context())["ended"] == "completed"
    lines = lambdas.output()
    assert metrics_of(lines)["HandoffFailed"] == [1.0]
    (line,) = [line for line in logs_of(lines) if line["level"] == "WARNING"]
    assert line["message"].startswith("the handoff failed (ResourceNotFoundException: ")
    assert line["job_name"] == "send"


def test_a_lost_lease_is_counted(lambdas: Lambdas) -> None:
    """It means that a job ran twice at once: too short a lease, or a runner that hung."""
    runner = lambdas.load("runner")
    assert runner.handler({"job_id": lambdas.dispatch("robbed")}, Context())["ended"] == "lease lost"
    metrics = metrics_of(lambdas.output())
    assert metrics["LeaseLost"] == [1.0]
    assert "Completed" not in metrics


def test_a_snooze_is_counted_as_neither(lambdas: Lambdas) -> None:
    """It is no failure and no success."""
    runner = lambdas.load("runner")
    assert runner.handler({"job_id": lambdas.dispatch("sleepy")}, Context())["ended"] == "snoozed"
    assert sorted(metrics_of(lambdas.output())) == ["Snoozed", "Started", "Wait"]


@pytest.mark.parametrize(
    ("level", "of_lambda", "written"),
    [("WARN", "INFO", {"WARNING"}), ("ERROR", "INFO", set()), ("INFO", "INFO", {"INFO", "WARNING"})],
)
def test_a_stricter_level_than_lambdas_leaves_out_lines_but_no_metrics(
    lambdas: Lambdas, level: str, of_lambda: str, written: set[str]
) -> None:
    """By its own level Lambda would filter the metrics too."""
    runner = lambdas.load("runner", POWERTOOLS_LOG_LEVEL=level, AWS_LAMBDA_LOG_LEVEL=of_lambda)
    for name in ("send", "fail"):
        runner.handler({"job_id": lambdas.dispatch(name, {"to": "x"})}, Context())
    lines = lambdas.output()
    assert {line["level"] for line in logs_of(lines) if str(line["message"]).startswith("job ")} == written
    assert metrics_of(lines)["Completed"] == [1.0]


def test_the_payload_is_in_no_line_whatever_becomes_of_the_job(lambdas: Lambdas) -> None:
    """Logs are read by more people than tables are."""
    runner = lambdas.load("runner", POWERTOOLS_LOG_LEVEL="DEBUG")
    stories: list[tuple[str, dict[str, Any]]] = [
        ("send", {"to": SECRET}),
        ("send", {"to": SECRET, "more": SECRET}),
        ("send", {"to": [SECRET]}),
        ("fail", {"to": SECRET}),
        ("unknown", {"to": SECRET}),
    ]
    for name, args in stories:
        with isolated_registry():  # a caller that has none of the code cannot check more than JSON
            job_id = lambdas.dispatch(name, args)
        runner.handler({"job_id": job_id}, Context())
    lines = lambdas.output()
    assert len(logs_of(lines)) >= 5
    assert SECRET not in json.dumps(lines)


def test_a_jobs_own_metrics_stay_its_own(lambdas: Lambdas) -> None:
    """Powertools' Metrics share one set by default: the job's would be ours, and ours the job's."""
    runner = lambdas.load("runner")
    runner.handler({"job_id": lambdas.dispatch("counting")}, Context())
    lines = lambdas.output()
    assert metrics_of(lines, "Shop") == {"Sold": [1.0]}
    assert sorted(metrics_of(lines)) == ["Completed", "Duration", "Started", "Wait"]


def test_each_invocation_writes_its_own_metrics(lambdas: Lambdas) -> None:
    """A warm runner lives for hours: nothing may pile up, and nothing be counted twice."""
    runner = lambdas.load("runner")
    ids = [lambdas.dispatch("send", {"to": "x"}) for _ in range(30)]
    per_run = []
    for job_id in ids:
        runner.handler({"job_id": job_id}, Context())
        per_run.append(metrics_of(lambdas.output()))
    assert [metrics["Completed"] for metrics in per_run] == [[1.0]] * 30
    assert {tuple(sorted(metrics)) for metrics in per_run} == {("Completed", "Duration", "Started", "Wait")}


def test_an_invocation_without_anything_to_count_writes_nothing(lambdas: Lambdas) -> None:
    """Powertools warns of empty metrics; a doubled handoff is an everyday thing."""
    runner = lambdas.load("runner")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runner.handler({"job_id": "nobody"}, Context()) == {"job_id": "nobody", "ended": "not claimed"}
    assert lambdas.output() == []


def test_metrics_that_are_switched_off_do_not_pile_up(lambdas: Lambdas) -> None:
    """POWERTOOLS_METRICS_DISABLED keeps what it does not write."""
    runner = lambdas.load("runner", POWERTOOLS_METRICS_DISABLED="true")
    runner.handler({"job_id": lambdas.dispatch("send", {"to": "x"})}, Context())
    assert metrics_of(lambdas.output()) == {}
    assert runner.metrics.metric_set == {}


def test_a_run_that_raises_leaves_nothing_for_the_next_invocation(lambdas: Lambdas) -> None:
    """The table is gone for a while: the lines of the next invocation must not have this job's id."""
    runner = lambdas.load("runner")
    boto3.client("dynamodb").delete_table(TableName="jobs-table")
    with pytest.raises(StoreError, match="table 'jobs-table' does not exist"):
        runner.handler({"job_id": "the-first"}, Context())
    assert runner.handler("nonsense", Context())["error"]
    (line,) = logs_of(lambdas.output())
    assert "job_id" not in line


def test_each_claim_takes_a_lease_of_its_own(lambdas: Lambdas) -> None:
    """A snapshot of the process may be restored many times: nothing random may be made at import."""
    runner = lambdas.load("runner")
    leases = set()
    for _ in range(2):
        job_id = lambdas.dispatch("send", {"to": "x"})
        runner.handler({"job_id": job_id}, Context())
        leases.add(lambdas.job(job_id).settled_by)
    assert len(leases) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["job_id", "run_at"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(event=json_values)
def test_whatever_the_event_is_the_runner_answers(lambdas: Lambdas, event: Any) -> None:
    """Raising would only make Lambda say that it failed; a sentence says what was wrong with it."""
    runner = sys.modules.get("relayq_core.handlers.runner") or lambdas.load("runner")
    answer = runner.handler(event, Context())
    assert answer.keys() in ({"error"}, {"job_id", "ended"})
    assert answer.get("ended") in {None, "not claimed"}


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({}, "job_id: expected 1 to 64 letters, digits, '_', '-', '.' or ':', not beginning with '.', got None"),
        ([], 'event: expected {"job_id": "...", "run_at": ms}, got list'),
        (None, 'event: expected {"job_id": "...", "run_at": ms}, got NoneType'),
        ({"job_id": 5}, "job_id: expected 1 to 64"),
        ({"job_id": "a b"}, "job_id: expected 1 to 64"),
        ({"job_id": "a", "run_at": "now"}, "run_at: expected epoch milliseconds as a whole number"),
        ({"job_id": "a", "run_at": True}, "run_at: expected epoch milliseconds"),
        ({"job_id": "a", "run_at": -1}, "run_at: expected epoch milliseconds"),
        ({"job_id": "a", "run_at": 10**15}, "run_at: expected epoch milliseconds"),
        ({"Records": [{"eventSource": "aws:sqs"}]}, "job_id: expected 1 to 64"),
    ],
    ids=repr,
)
def test_a_malformed_event_is_refused_in_words_and_touches_nothing(lambdas: Lambdas, event: Any, says: str) -> None:
    """In the answer, for an operator who invoked it by hand, and in the log, for one who reads it later."""
    runner = lambdas.load("runner")
    answer = runner.handler(event, Context())
    assert says in answer["error"]
    (line,) = lambdas.output()
    assert (line["level"], line["message"]) == ("ERROR", f"the event is not a handoff: {answer['error']}")


# --- the start ---


@pytest.mark.parametrize(
    ("function", "environment", "says"),
    [
        ("runner", {"RELAYQ_JOBS_TABLE": ""}, "RELAYQ_JOBS_TABLE: it is not set; take it from the outputs"),
        ("runner", {"RELAYQ_FAILED_TABLE": ""}, "RELAYQ_FAILED_TABLE: it is not set"),
        ("sweeper", {"RELAYQ_JOBS_TABLE": ""}, "RELAYQ_JOBS_TABLE: it is not set"),
        ("sweeper", {"RELAYQ_FAILED_TABLE": ""}, "RELAYQ_FAILED_TABLE: it is not set"),
        ("sweeper", {}, "RELAYQ_RUNNER_FUNCTION: it is not set"),
        ("runner", {"RELAYQ_MAX_ATEMPTS": "3"}, 'there is no such setting. Did you mean "RELAYQ_MAX_ATTEMPTS"?'),
        ("sweeper", {"RELAYQ_SWEEP_LIMITS": "3"}, 'there is no such setting. Did you mean "RELAYQ_SWEEP_LIMIT"?'),
        ("runner", {"RELAYQ_MAX_WAIT_SECONDS": "a minute"}, "expected a whole number from 0 to 600, got 'a minute'"),
        ("runner", {"RELAYQ_JOB_MODULES": "no_such_jobs"}, "RELAYQ_JOB_MODULES: no module named 'no_such_jobs'"),
    ],
)
def test_a_wrong_environment_fails_the_start_with_a_sentence(
    lambdas: Lambdas, function: str, environment: dict[str, str], says: str
) -> None:
    """A deploy is watched; the first job of the night is not."""
    with pytest.raises(SettingsError) as raised:
        lambdas.load(function, **environment)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_dependency", ModuleNotFoundError),
        ("1 / 0", ZeroDivisionError),
        ("def broken(:", SyntaxError),
        ("from relayq_core import Job\nclass Broken(Job): pass", TypeError),
    ],
)
def test_a_job_module_that_fails_to_import_fails_the_start_and_claims_nothing(
    lambdas: Lambdas, source: str, error: type[Exception]
) -> None:
    """Its jobs stay where they are until the module is mended."""
    lambdas.write("broken_jobs", source)
    job_id = lambdas.dispatch("send", {"to": "x"})
    with pytest.raises(error):
        lambdas.load("runner", RELAYQ_JOB_MODULES="shop_jobs,broken_jobs")
    assert (lambdas.job(job_id).status, lambdas.job(job_id).attempt) == ("pending", 0)


def test_the_runner_needs_no_name_of_itself_but_takes_one(lambdas: Lambdas) -> None:
    """A function that runs jobs for another stack may hand off to that one."""
    assert lambdas.load("runner")._relayq.settings.runner_function == "the-runner"
    named = lambdas.load("runner", RELAYQ_RUNNER_FUNCTION="another")
    assert named._relayq.settings.runner_function == "another"


def test_the_shipped_jobs_are_found(lambdas: Lambdas, monkeypatch: pytest.MonkeyPatch) -> None:
    """`jobs` in functions/runner is on the path as in the Lambda: mail and webhooks work with no code written."""
    for module in [module for module in sys.modules if module.partition(".")[0] == "jobs"]:
        monkeypatch.delitem(sys.modules, module)
    lambdas.load("runner", RELAYQ_JOB_MODULES="jobs")
    assert {"send_email", "send_templated_email", "post_webhook"} <= set(registry)


@pytest.mark.parametrize(
    ("app", "environment"),
    [("runner", {}), ("sweeper", {"RELAYQ_RUNNER_FUNCTION": "the-runner"})],
)
def test_the_entry_points_expose_the_handlers(lambdas: Lambdas, app: str, environment: dict[str, str]) -> None:
    """The template's `Handler: app.handler` is this."""
    handlers = lambdas.load(app, **environment)
    spec = importlib.util.spec_from_file_location(f"{app}_app", ROOT / "functions" / app / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.handler is handlers.handler
    assert module.__all__ == ["handler"]


# --- the sweeper ---


@pytest.fixture
def sweep(lambdas: Lambdas) -> Callable[[object], dict[str, Any]]:
    """One tick of a sweeper that looks no further than now."""

    @functools.cache  # within the test: pytest closes what stdout was while fixtures are made
    def sweeper() -> ModuleType:
        return lambdas.load("sweeper", RELAYQ_RUNNER_FUNCTION="the-runner", RELAYQ_LOOKAHEAD_SECONDS="0")

    def tick(event: object) -> dict[str, Any]:
        answer: dict[str, Any] = sweeper().handler(event, Context())
        return answer

    return tick


def test_a_tick_of_the_schedule_hands_off_what_is_due(
    lambdas: Lambdas, sweep: Callable[[object], dict[str, Any]], invocations: Stub
) -> None:
    """The event is the one in events/."""
    ids = {lambdas.dispatch("send", {"to": SECRET}) for _ in range(3)}
    answer = sweep(SWEEPER_EVENT)
    assert answer["counts"] == {"nudged": 3}
    assert {request.body["job_id"] for request in invocations.requests} == ids
    lines = lambdas.output()
    (line,) = logs_of(lines)
    assert (line["message"], line["counts"]) == ("swept", {"nudged": 3})
    assert list(metrics_of(lines)) == ["OldestDueAge"]
    assert SECRET not in json.dumps(lines)


def test_a_tick_with_nothing_to_do_still_reports_the_age_of_the_oldest(
    lambdas: Lambdas, sweep: Callable[[object], dict[str, Any]]
) -> None:
    """An alarm on missing data means that the sweeper itself is gone."""
    assert sweep(SWEEPER_EVENT) == {"counts": {}, "oldest_due_age_ms": 0}
    lines = lambdas.output()
    assert metrics_of(lines) == {"OldestDueAge": [0.0]}
    assert logs_of(lines) == []


def test_the_age_of_the_oldest_is_measured(lambdas: Lambdas, sweep: Callable[[object], dict[str, Any]]) -> None:
    """It is how one sees that runners do not keep up."""
    lambdas.dispatch("send", {"to": "x"}, job_id="late")
    boto3.client("dynamodb").update_item(
        TableName="jobs-table",
        Key={"pk": {"S": "job#late"}},
        UpdateExpression="SET due_at = due_at - :hour",
        ExpressionAttributeValues={":hour": {"N": "3600000"}},
    )
    answer = sweep(SWEEPER_EVENT)
    assert answer["oldest_due_age_ms"] >= 3_600_000
    assert metrics_of(lambdas.output())["OldestDueAge"] == [answer["oldest_due_age_ms"]]


def test_a_crash_found_by_the_sweeper_is_counted_as_a_retry(
    lambdas: Lambdas, sweep: Callable[[object], dict[str, Any]]
) -> None:
    """Its runner could not count it any more."""
    job_id = lambdas.dispatch("send", {"to": "x"}, queue="emails")
    boto3.client("dynamodb").update_item(
        TableName="jobs-table",
        Key={"pk": {"S": f"job#{job_id}"}},
        UpdateExpression="SET #s = :processing, lease_id = :gone, lease_until = :past, attempt = :one",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={
            ":processing": {"S": "processing"},
            ":gone": {"S": "gone"},
            ":past": {"N": "1"},
            ":one": {"N": "1"},
        },
    )
    assert sweep(SWEEPER_EVENT)["counts"] == {"released": 1}
    lines = lambdas.output()
    assert metrics_of(lines)["Retried"] == [1.0]
    crash = next(line for line in logs_of(lines) if line["level"] == "WARNING")
    assert crash["message"].startswith("job failed: JobCrashed: the runner of attempt 1 ended without settling")
    assert (crash["job_id"], crash["job_name"], crash["queue"]) == (job_id, "send", "emails")


def test_more_than_a_hundred_values_are_all_counted(
    lambdas: Lambdas, sweep: Callable[[object], dict[str, Any]], invocations: Stub
) -> None:
    """EMF takes a hundred values of a metric at a time; a bad night has more."""
    invocations.answer = no_such_function
    for _ in range(230):
        lambdas.dispatch("send", {"to": "x"})
    assert sweep(SWEEPER_EVENT)["counts"] == {"nudged": 230}
    lines = lambdas.output()
    metrics = metrics_of(lines)
    assert sum(metrics["HandoffFailed"]) == 230
    assert len(metrics["OldestDueAge"]) == 1
    assert all(len(line[name]) <= 100 for line in lines if "_aws" in line for name in metrics if name in line)


@pytest.mark.parametrize("event", [{}, None, [], "tick", {"detail": "{}"}, 5], ids=repr)
def test_whatever_the_event_is_a_tick_is_a_tick(sweep: Callable[[object], dict[str, Any]], event: object) -> None:
    """An operator tries it by hand from the console."""
    assert sweep(event)["counts"] == {}


def test_a_tick_with_no_time_left_ends_at_once(lambdas: Lambdas, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops before Lambda stops it."""
    sweeper = lambdas.load("sweeper", RELAYQ_RUNNER_FUNCTION="the-runner")
    lambdas.dispatch("send", {"to": "x"})
    monkeypatch.setattr(Context, "remaining", 1_000)
    assert sweeper.handler(SWEEPER_EVENT, Context())["counts"] == {}


def test_a_sweeper_knows_no_jobs(lambdas: Lambdas) -> None:
    """It has none of their code: its function needs no dependency of theirs."""
    sweeper = lambdas.load("sweeper", RELAYQ_RUNNER_FUNCTION="the-runner")
    with pytest.raises(UnknownJob):
        sweeper._relayq.runner._registry.find("send")
