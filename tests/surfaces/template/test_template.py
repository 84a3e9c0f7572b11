"""The template says what the code relies on. The emulator ignores half of it, so the translation is read."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relayq_core.adapters.dynamodb.tables import TTL_ATTRIBUTE, failed_table, jobs_table
from relayq_core.cli.doctor.checks import _OWN
from relayq_core.settings import KNOWN
from tests.support.paths import ROOT
from tests.surfaces.template.grants import translated
from tests.surfaces.template.translate import TEMPLATES, read, translate

FUNCTIONS = ("RunnerFunction", "SweeperFunction", "ApiFunction")
TABLES = {"JobsTable": jobs_table, "FailedJobsTable": failed_table}


def properties(logical_id: str) -> dict[str, Any]:
    """The properties of a resource of the translated template."""
    found: dict[str, Any] = translated()["Resources"][logical_id]["Properties"]
    return found


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_linter_has_nothing_to_say(path: Path, tmp_path: Path) -> None:
    """It accepts the template and what SAM makes of it."""
    translation = tmp_path / "translated.json"
    translation.write_text(json.dumps(translate(read(path))))
    command = [Path(sys.executable).with_name("cfn-lint"), path, translation]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.stdout + linted.stderr == ""
    assert linted.returncode == 0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_relayq_variable_is_one_that_the_settings_know(function: str) -> None:
    """An unknown name fails every cold start."""
    given = properties(function)["Environment"]["Variables"]
    assert {name for name in given if name.startswith("RELAYQ_")} <= KNOWN


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lambda_itself_never_retries(function: str) -> None:
    """The row decides about retries; a second opinion would run jobs twice."""
    config = properties(f"{function}EventInvokeConfig")
    assert config["FunctionName"] == {"Ref": function}
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 300)


def test_the_schedule_ticks_each_minute_and_never_retries() -> None:
    """The next tick is the retry. CloudFormation names it: no two stacks collide, and no name is too long."""
    tick = properties("SweeperFunctionTick")
    assert tick["ScheduleExpression"] == "rate(1 minute)"
    assert tick["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    assert "Name" not in tick


def test_lambda_does_not_cut_long_chains_of_jobs() -> None:
    """Its guard stops a chain near 16 invocations; max_attempts and the depth are the bounds here."""
    assert properties("RunnerFunction")["RecursiveLoop"] == "Allow"


def test_no_function_reserves_concurrency() -> None:
    """A runner that is throttled loses events, and the account loses what is reserved."""
    assert not any("ReservedConcurrentExecutions" in properties(function) for function in FUNCTIONS)


def test_the_sweeper_has_time_to_look_ahead() -> None:
    """It waits for jobs that are due within a tick, and must not be ended while it does."""
    assert properties("SweeperFunction")["Timeout"] == 150
    assert read()["Parameters"]["RunnerTimeout"]["Default"] == 900


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_logs_json_into_a_group_of_the_stack(function: str) -> None:
    """The group is made by the stack, with a retention, and not by the first log line, without one."""
    logging = properties(function)["LoggingConfig"]
    assert logging["LogFormat"] == "JSON"
    assert properties(logging["LogGroup"]["Ref"])["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lambda_filters_no_metrics_away(function: str) -> None:
    """It takes a line without a level for INFO, and metrics are such lines: with WARN no alarm would ring."""
    config = properties(function)
    assert config["LoggingConfig"]["ApplicationLogLevel"] == {"Fn::If": ["LogsDebug", "DEBUG", "INFO"]}
    assert config["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == {"Ref": "LogLevel"}


def test_without_the_api_enabled_nothing_of_it_is_made() -> None:
    """There is no function, no URL and no permission: a first deploy opens nothing to the world."""
    template = translated()
    assert read()["Parameters"]["EnableApi"]["Default"] == "false"
    parts = {name: part for name, part in template["Resources"].items() if name.startswith("Api")}
    assert {part["Type"] for part in parts.values()} >= {"AWS::Lambda::Function", "AWS::Lambda::Url"}
    assert [name for name, part in parts.items() if part.get("Condition") != "HasApi"] == []
    assert template["Outputs"]["ApiUrl"]["Condition"] == "HasApi"


def test_the_url_of_the_api_has_both_permissions_and_no_other() -> None:
    """AWS answers 403 if one of the two is missing; the function itself asks for the token."""
    assert properties("ApiFunctionUrl")["AuthType"] == "NONE"
    open_to_all = {
        part["Properties"]["Action"]: part["Properties"]
        for part in translated()["Resources"].values()
        if part["Type"] == "AWS::Lambda::Permission" and part["Properties"]["Principal"] == "*"
    }
    assert {given["FunctionName"]["Ref"] for given in open_to_all.values()} == {"ApiFunction"}
    assert open_to_all["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    assert open_to_all["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True
    assert len(open_to_all) == 2


def test_the_token_of_the_api_is_never_shown() -> None:
    """CloudFormation does not show it, and a token that the function would refuse is refused at deploy."""
    parameter = read()["Parameters"]["ApiToken"]
    assert (parameter["NoEcho"], parameter["Default"]) == (True, "")
    allowed = re.compile(parameter["AllowedPattern"])
    for token, fits in {
        "": True,
        "a" * 15: False,
        "a" * 16: True,
        f"{'a' * 16},{'b' * 16}": True,
        "a" * 17 + ",": False,
    }.items():
        assert bool(allowed.fullmatch(token)) == fits


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_what_the_adapter_expects(table: str) -> None:
    """The same keys and indexes that `relayq tables create` makes."""
    expected = TABLES[table]("any")
    found = properties(table)
    for name in ("BillingMode", "KeySchema"):
        assert found[name] == expected[name]
    for name, key in (("AttributeDefinitions", "AttributeName"), ("GlobalSecondaryIndexes", "IndexName")):
        assert _by(key, found[name]) == _by(key, expected[name])


@pytest.mark.parametrize("table", TABLES)
def test_a_table_outlives_mistakes(table: str) -> None:
    """Backed up, kept when the stack goes, and cleared of ended rows only. DynamoDB encrypts with a key of its own:
    SSEEnabled would take one whose calls KMS bills."""
    resource = translated()["Resources"][table]
    assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource["UpdateReplacePolicy"] == "Retain"
    found = resource["Properties"]
    assert found["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert "SSESpecification" not in found
    assert found["TimeToLiveSpecification"] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}


def test_the_outputs_are_what_other_stacks_import() -> None:
    """All are exported but the layer's ARN: an export that is imported can never change."""
    outputs = translated()["Outputs"]
    exported = {name for name, output in outputs.items() if "Export" in output}
    assert exported == {
        "JobsTableName",
        "FailedJobsTableName",
        "RunnerFunctionName",
        "RunnerFunctionArn",
        "SweeperFunctionName",
        "DispatchPolicyArn",
        "RunnerPolicyArn",
        "WorkerPolicyArn",
        "ApiUrl",
        "AlarmTopicArn",
    }
    assert set(outputs) - exported == {"CoreLayerArn"}
    for name in exported:
        assert outputs[name]["Export"]["Name"] == {"Fn::Sub": "${AWS::StackName}-" + name}


def test_the_layer_is_handed_over_by_a_parameter() -> None:
    """A stack that uses an older version of the layer keeps it."""
    parameter = properties("CoreLayerParameter")
    assert parameter["Name"] == {"Fn::Sub": "/relayq/${AWS::StackName}/layer"}
    layer = translated()["Resources"][parameter["Value"]["Ref"]]
    assert (layer["Type"], layer["DeletionPolicy"]) == ("AWS::Lambda::LayerVersion", "Retain")
    assert translated()["Outputs"]["CoreLayerArn"]["Value"] == parameter["Value"]


def test_a_first_deploy_needs_no_answer() -> None:
    """Every parameter has a default, and is shown in a group."""
    template = read()
    assert [name for name, parameter in template["Parameters"].items() if "Default" not in parameter] == []
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(template["Parameters"])


def test_the_layer_is_built_for_what_the_template_runs_on() -> None:
    """SAM hands its parameters to no Makefile, so the defaults stand in both places."""
    makefile = (ROOT / "relayq_core/Makefile").read_text()
    parameters = read()["Parameters"]
    assert f"RELAYQ_ARCH  ?= {parameters['Architecture']['Default']}#" in makefile
    assert f"LAYER_PYTHON ?= {parameters['PythonRuntime']['Default']}#" in makefile


def _by(key: str, items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item[key]: item for item in items}


def test_what_a_function_has_of_its_own_is_known_to_the_doctor() -> None:
    """All other settings are the stack's: the doctor finds fault with one that differs between functions."""
    own = {
        variable
        for resource in read()["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
        for variable in resource["Properties"].get("Environment", {}).get("Variables", {})
        if variable.startswith("RELAYQ_")
    }
    assert own
    assert own <= _OWN


def test_throttles_of_the_index_are_counted_too() -> None:
    """DynamoDB counts those of a table and of each of its indexes apart, and so do alarms and dashboard."""
    jobs = {"Name": "TableName", "Value": {"Ref": "JobsTable"}}
    index = {"Name": "GlobalSecondaryIndexName", "Value": "due"}
    assert properties("TableThrottledAlarm")["Dimensions"] == [jobs]
    assert properties("IndexThrottledAlarm")["Dimensions"] == [jobs, index]
    for alarm in ("TableThrottledAlarm", "IndexThrottledAlarm"):
        assert properties(alarm)["MetricName"] == "WriteThrottleEvents"
    drawn = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    for name in ("JobsTable", "FailedJobsTable"):
        assert f'"TableName", "${{{name}}}", {{"label"' in drawn
    for name, found in (("JobsTable", "due"), ("FailedJobsTable", "by_queue")):
        assert f'"TableName", "${{{name}}}", "GlobalSecondaryIndexName", "{found}"' in drawn


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_stack_may_have_the_longest_name_there_is(path: Path, tmp_path: Path) -> None:
    """128 characters. What is named after the stack is linted as CloudFormation would make it."""
    longest = "s" * (57 if path.parent.name == "own-jobs" else 128)  # a function's name: 64 with -runner
    text = json.dumps(translate(read(path)))
    text = text.replace('{"Ref": "AWS::StackName"}', json.dumps(longest)).replace("${AWS::StackName}", longest)
    translation = tmp_path / "named.json"
    translation.write_text(text)
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--ignore-checks", "W", "--", str(translation)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.stdout + linted.stderr == ""
