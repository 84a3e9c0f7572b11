"""Alarms, dashboard and saved queries ask for what the functions really write."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from relayq_core.events.listeners import KINDS, JobEvent, events
from tests.support.factories import a_job
from tests.surfaces.handlers.lambdas import Context, Lambdas, logs_of
from tests.surfaces.template.grants import translated

RESOURCES = translated()["Resources"]
ALARMS = {name: found for name, found in RESOURCES.items() if found["Type"] == "AWS::CloudWatch::Alarm"}
QUERIES = {name: found for name, found in RESOURCES.items() if found["Type"] == "AWS::Logs::QueryDefinition"}
#: What RelayQ does not write itself; the dimension that AWS's own metrics have, and what it may name.
OF_AWS = {
    "AWS/Lambda": ("FunctionName", {"RunnerFunction", "SweeperFunction"}),
    "AWS/DynamoDB": ("TableName", {"JobsTable", "FailedJobsTable"}),
}

#: namespace, name, dimension, its value
Metric = tuple[str, str, str, str]


def widgets() -> list[dict[str, Any]]:
    """The dashboard, as CloudWatch is given it but for what CloudFormation fills in."""
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    found: list[dict[str, Any]] = json.loads(body)["widgets"]
    return found


def drawn() -> set[Metric]:
    """Every metric that the dashboard draws."""
    return {
        (namespace, name, dimension, re.sub(r"^\$\{(.+)\}$", r"\1", value))
        for widget in widgets()
        if widget["type"] == "metric"
        for namespace, name, dimension, value, *_ in widget["properties"]["metrics"]
    }


def alarmed() -> set[Metric]:
    """Every metric that an alarm watches."""
    found = set()
    for alarm in ALARMS.values():
        given = alarm["Properties"]
        dimension, *_index = given["Dimensions"]  # an index of a table has a second one
        found.add((given["Namespace"], given["MetricName"], dimension["Name"], dimension["Value"]["Ref"]))
    return found


def written(handlers: Lambdas) -> set[Metric]:
    """Every metric that the runner and the sweeper can write, whatever happens to jobs."""
    runner = handlers.load("runner")
    with runner.flush_at_end(runner.metrics):
        for kind in KINDS:
            for will_retry in (True, False):
                events.emit(JobEvent(kind=kind, job=a_job(), duration_ms=1, wait_ms=1, will_retry=will_retry))
    handlers.load("sweeper", RELAYQ_RUNNER_FUNCTION="the-runner").handler({}, Context())
    found = set()
    for line in handlers.output():
        for blob in line.get("_aws", {}).get("CloudWatchMetrics", []):
            ((dimension,),) = blob["Dimensions"]
            assert line[dimension].startswith(handlers.folder.name)  # POWERTOOLS_SERVICE_NAME, the stack's name
            found |= {(blob["Namespace"], metric["Name"], dimension, "AWS::StackName") for metric in blob["Metrics"]}
    return found


def test_the_dashboard_draws_every_metric_that_is_written_and_no_other(lambdas: Lambdas) -> None:
    """A name that is misspelt draws an empty line forever, and what is not drawn is not missed."""
    assert {metric for metric in drawn() if metric[0] not in OF_AWS} == written(lambdas)


def test_an_alarm_watches_a_metric_that_is_written(lambdas: Lambdas) -> None:
    """One on a metric that is not there never rings."""
    assert {metric for metric in alarmed() if metric[0] not in OF_AWS} <= written(lambdas)


def test_the_service_is_the_stack() -> None:
    """The dimension that alarms and dashboard ask for is the one in the functions' environment."""
    for function in ("RunnerFunction", "SweeperFunction", "ApiFunction"):
        variables = RESOURCES[function]["Properties"]["Environment"]["Variables"]
        assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def test_metrics_of_aws_are_of_what_the_stack_has() -> None:
    """By the dimension that AWS gives them."""
    for namespace, _, dimension, value in drawn() | alarmed():
        if namespace in OF_AWS:
            assert (dimension, value in OF_AWS[namespace][1]) == (OF_AWS[namespace][0], True)


def test_a_stack_watches_over_what_goes_wrong() -> None:
    """Failures, lateness, a sweeper that is silent, throttles, lost leases and lost handoffs."""
    assert {name for _, name, _, _ in alarmed()} == {
        "Failed",
        "OldestDueAge",
        "LeaseLost",
        "HandoffFailed",
        "Throttles",
        "Errors",
        "WriteThrottleEvents",
    }


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_in_words_what_is_wrong_and_notifies_the_topic(name: str) -> None:
    """The operator who gets the mail at night has not read the template."""
    alarm = ALARMS[name]["Properties"]
    assert len(alarm["AlarmDescription"].split()) >= 15
    assert alarm["AlarmDescription"].endswith(".")
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]
    assert alarm["AlarmName"]["Fn::Sub"].startswith("${AWS::StackName}-")
    assert "DatapointsToAlarm" not in alarm or alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]


def test_only_a_sweeper_that_says_nothing_is_an_alarm_by_saying_nothing() -> None:
    """A stack without jobs writes no other metric, and must not ring."""
    breaching = {name for name, alarm in ALARMS.items() if alarm["Properties"]["TreatMissingData"] == "breaching"}
    assert breaching == {"SweeperSilentAlarm"}
    silent = ALARMS["SweeperSilentAlarm"]["Properties"]
    assert (silent["MetricName"], silent["Statistic"]) == ("OldestDueAge", "SampleCount")


def test_what_costs_is_off_unless_asked_for() -> None:
    """Each part hangs on a condition, and each condition on a parameter that is off."""
    template = translated()
    assert {template["Parameters"][name]["Default"] for name in ("EnableAlarms", "EnableDashboard")} == {"false"}
    assert template["Parameters"]["AlarmEmail"]["Default"] == ""
    conditions = {"AlarmTopic": "HasAlarms", "AlarmMail": "HasAlarmEmail", "Dashboard": "HasDashboard"}
    conditions |= dict.fromkeys(ALARMS, "HasAlarms") | dict.fromkeys(QUERIES, "HasDashboard")
    assert {name: RESOURCES[name].get("Condition") for name in conditions} == conditions
    asked, by_mail = template["Conditions"]["HasAlarms"]["Fn::Or"]
    assert asked == {"Fn::Equals": [{"Ref": "EnableAlarms"}, "true"]}
    assert by_mail == {"Condition": "HasAlarmEmail"}


def test_the_dashboard_stays_within_what_is_free() -> None:
    """CloudWatch counts a dashboard of more than 50 metrics as a dear one, and lays widgets over one another."""
    assert len(drawn()) <= 50
    places = [(w["x"], w["y"]) for w in widgets()]
    assert len(set(places)) == len(places)
    assert all(w["x"] + w["width"] <= 24 for w in widgets())


def test_the_queries_ask_for_fields_and_words_that_log_lines_have(lambdas: Lambdas) -> None:
    """A field that no line has finds nothing, without a word."""
    runner = lambdas.load("runner", _X_AMZN_TRACE_ID="Root=1-67891233-abcdef012345678912345678;Sampled=0")
    for name, args in (("send", {"to": "x"}), ("fail", {"to": "x"})):
        runner.handler({"job_id": lambdas.dispatch(name, args)}, Context())
    lines = logs_of(lambdas.output())
    fields = {field for line in lines for field in line} | {"timestamp"}
    texts = [query["Properties"]["QueryString"] for query in QUERIES.values()]
    texts += [w["properties"]["query"] for w in widgets() if w["type"] == "log"]
    known = {"fields", "filter", "stats", "count", "as", "failures", "latest", "last", "by", "sort", "desc", "asc"}
    known |= {"limit", "like", "and", "ispresent", "SOURCE"}
    for text in texts:
        bare = re.sub(r"\"[^\"]*\"|'[^']*'|/[^/]*/", "", text)
        assert set(re.findall(r"[A-Za-z_]+", bare)) <= known | fields
    assert any(line["message"] == "job completed" and "duration_ms" in line for line in lines)
    assert any(line["level"] == "WARNING" and line["message"].startswith("job failed") for line in lines)
