"""Whatever the template takes for a parameter, the functions start with: else a deploy succeeds, and stops all jobs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relayq_core.settings import Settings
from tests.surfaces.template.grants import translated
from tests.surfaces.template.translate import read

PARAMETERS: dict[str, dict[str, Any]] = read()["Parameters"]
FUNCTIONS = ("RunnerFunction", "SweeperFunction", "ApiFunction")
#: What CloudFormation itself makes of a stack with the longest name there is.
STACK = "s" * 128
NAMES = {
    "AWS::StackName": STACK,
    "JobsTable": f"{STACK}-JobsTable-1A2B3C4D5E6F",
    "FailedJobsTable": f"{STACK}-FailedJobsTable-1A2B3C4D5E6F",
    "RunnerFunction": "r" * 64,
}
#: The most that Lambda keeps of a function's environment, names included.
ENVIRONMENT_BYTES = 4096
#: Values that people and shells have made of others: numbers, JSON without its quotes, ARNs cut short, blanks.
ODD = [
    *("", " ", "\n", "0", "-1", "0.5", "1.0", "1e7", "00", "007", "59", "60", "3599", "3600", "100000000"),
    *("315360000", "315360001", "630720000", "\uff19", "null", "true", "{}", "{ }", "{} ", "[]", "{reports:runner}"),
    *('{"reports":"x"}', '{"reports":1}', '{"a b":"x"}', '{"":"x"}', '{"a":""}', '{"a":"x",}', '{"a" : "x"}'),
    *('{"*":"x"}', '{"a*":"x"}', '{"a**":"x"}', '{"*a":"x"}', "{'a':'x'}", '{"a":"x"', '{"a":{"b":"c"}}'),
    *(f'{{"{"q" * 64}":"x"}}', f'{{"{"q" * 65}":"x"}}', f'{{"{"q" * 64}*":"x"}}', f'{{"{"q" * 63}*":"x"}}'),
    *("default", "a bus", "arn:aws:events:eu-west-1:111122223333:event-bus/x", "a" * 256, "a" * 257),
    *("a" * 16, "b" * 15, "a" * 16 + ",", "a" * 16 + "," + "b" * 16, "a" * 16 + " ", "\u00fc" * 16),
    *("arn:aws:secretsmanager:eu-west-1:111122223333:secret:token", "arn:aws:ssm:eu-west-1:111122223333:parameter/t"),
    *("arn:aws:secretsmanager:eu-west-1:111122223333:secret:t-AbCdEf", "arn:aws:ssm:eu-west-1:111122223333:parameter "),
    *("a@example.com", "Ada <a@example.com>", "a@example.com\nBcc: b@example.com", "none", "read", "WRITE", "false"),
]  # fmt: skip


def is_taken(name: str, value: str) -> bool:
    """CloudFormation's judgement of one value."""
    parameter = PARAMETERS[name]
    if "AllowedValues" in parameter:
        return value in map(str, parameter["AllowedValues"])
    if parameter["Type"] == "Number":
        return _is_number(value) and (
            float(parameter.get("MinValue", "-inf")) <= float(value) <= float(parameter.get("MaxValue", "inf"))
        )
    pattern = re.compile(parameter.get("AllowedPattern", ".*"), re.ASCII | re.DOTALL)
    # Java's `matches` is of the whole text; Python's `$` would let a line's end pass
    fits = pattern.fullmatch(value) is not None and not value.endswith("\n")
    return fits and parameter.get("MinLength", 0) <= len(value) <= parameter.get("MaxLength", 4096)


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII) is not None


def taken(name: str) -> st.SearchStrategy[str]:
    """Values of a parameter that CloudFormation takes."""
    parameter = PARAMETERS[name]
    if "AllowedValues" in parameter:
        return st.sampled_from([str(value) for value in parameter["AllowedValues"]])
    odd = st.sampled_from([value for value in [*ODD, str(parameter["Default"])] if is_taken(name, value)])
    if parameter["Type"] == "Number":
        low, high = parameter["MinValue"], parameter["MaxValue"]
        return odd | st.integers(low, high).map(str) | st.floats(low, high).map(str)
    pattern = re.compile(parameter.get("AllowedPattern", "^[ -~]*$"), re.ASCII)
    return odd | st.from_regex(pattern, fullmatch=True).filter(lambda value: is_taken(name, value))


def environment(function: str, values: dict[str, str]) -> dict[str, str]:
    """The variables of a function where these parameters were given, the others as they are by default."""
    given = {name: str(parameter["Default"]) for name, parameter in PARAMETERS.items()} | NAMES | values
    variables = translated()["Resources"][function]["Properties"]["Environment"]["Variables"]
    return {name: given[value["Ref"]] if isinstance(value, dict) else value for name, value in variables.items()}


def in_a_setting() -> list[str]:
    """The parameters that some RELAYQ_ variable holds."""
    found = set()
    for function in FUNCTIONS:
        variables = translated()["Resources"][function]["Properties"]["Environment"]["Variables"]
        found |= {
            value["Ref"] for name, value in variables.items() if name.startswith("RELAYQ_") and isinstance(value, dict)
        }
    return sorted(found & PARAMETERS.keys())


def is_whole_elsewhere(name: str) -> bool:
    """Lambda refuses a fraction of a second or megabyte, so the deploy ends before a function could."""
    properties = [translated()["Resources"][function]["Properties"] for function in FUNCTIONS]
    return any({"Ref": name} in (each.get("Timeout"), each.get("MemorySize")) for each in properties)


@pytest.mark.parametrize("name", in_a_setting())
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_functions_start_with_whatever_the_template_takes(name: str, data: st.DataObject) -> None:
    """One parameter at a time, each as it may be."""
    value = data.draw(taken(name))
    if is_whole_elsewhere(name) and not value.isdecimal():
        return
    for function in FUNCTIONS:
        Settings.from_environ(environment(function, {name: value}))


@pytest.mark.parametrize("name", in_a_setting())
def test_odd_values_are_refused_at_deploy_or_start(name: str) -> None:
    """None of them passes the one and fails the other."""
    for value in ODD:
        if is_taken(name, value) and not is_whole_elsewhere(name):
            for function in FUNCTIONS:
                Settings.from_environ(environment(function, {name: value}))


@pytest.mark.parametrize("value", ["{reports:own-jobs-runner}", '{"reports":1}', '{"a b":"x"}', "[]", '{"a":"x",}'])
def test_json_without_its_quotes_is_refused_at_deploy(value: str) -> None:
    """A shell takes them off, and the deploy would go through."""
    assert not is_taken("RunnerFunctions", value)
    assert "with its quotes" in PARAMETERS["RunnerFunctions"]["ConstraintDescription"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("RetentionSeconds", 0, 315_360_000), ("FailedRetentionSeconds", 3600, 315_360_000)],
)
@settings(max_examples=200)
@given(seconds=st.integers(0, 700_000_000))
@example(0)
@example(3599)
@example(3600)
@example(315_360_000)
@example(315_360_001)
def test_a_retention_is_a_whole_number_between_its_bounds(name: str, low: int, high: int, seconds: int) -> None:
    """Written as a pattern, since a Number may have a fraction."""
    assert is_taken(name, str(seconds)) == (low <= seconds <= high)


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("MailFrom", "shop@example.com", True),
        ("MailFrom", "The Shop <shop@example.com>", True),
        ("MailFrom", "shop", False),
        ("MailFrom", "shop@example.com\nBcc: x@example.com", False),
        ("RunnerFunctionArns", "arn:aws:lambda:eu-west-1:111122223333:function:own-jobs-runner", True),
        ("RunnerFunctionArns", "arn:aws:lambda:eu-west-1:111122223333:function:own-jobs-runner:live", True),
        ("RunnerFunctionArns", "arn:aws:lambda:eu-west-1:111122223333:function:orders-*", True),
        ("RunnerFunctionArns", "own-jobs-runner", False),
        ("RunnerFunctionArns", "*", False),
        ("ApiTokenSecretArn", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:relayq/token", False),
        ("ApiTokenSecretArn", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:relayq/token-AbC1eF", True),
        ("SesIdentityArn", "example.com", False),
        ("LogRetentionDays", "3288", True),
    ],
)
def test_what_could_never_work_is_refused_at_deploy(name: str, value: str, fits: bool) -> None:
    """A secret's ARN without the six characters at its end, for instance, is no ARN to IAM."""
    assert is_taken(name, value) == fits


def test_as_many_runners_as_the_parameter_can_hold_fit_the_environment() -> None:
    """Lambda keeps 4 KB for a function. With names of usual length that is some 45 runners."""
    longest = PARAMETERS["RunnerFunctions"]["MaxLength"]
    functions = {f"queue-number-{number}": f"a-runner-of-its-own-{number:07}" for number in range(45)}
    assert len(json.dumps(functions, separators=(",", ":"))) <= longest
    values = {"RunnerFunctions": "x" * longest, "ApiToken": "t" * 513, "EventBusName": "b" * 100}
    for function in FUNCTIONS:
        variables = environment(function, values)
        assert len(json.dumps(variables, separators=(",", ":"))) < ENVIRONMENT_BYTES, function
