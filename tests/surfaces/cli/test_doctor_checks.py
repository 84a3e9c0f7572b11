"""The doctor's checks on facts that are good, bad, and not to be had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relayq_core.cli.doctor.checks import CHECKS, Finding, Verdict, examine
from relayq_core.cli.doctor.facts import (
    Config,
    Facts,
    FunctionFacts,
    Grant,
    Invokes,
    Schedule,
    TableFacts,
    Unread,
)

LAYER = "arn:aws:lambda:eu-west-1:123456789012:layer:relayq-core:7"
OLDER = LAYER.replace(":7", ":6")
ENVIRON = {"RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_FAILED_TABLE": "failed", "RELAYQ_RETENTION_SECONDS": "604800"}
HEAVY = "arn:aws:lambda:eu-west-1:123456789012:function:heavy"
DENIED = Unread("some:Action")


def a_config(name: str, **changes: Any) -> Config:
    values = {
        "arn": f"arn:aws:lambda:eu-west-1:123456789012:function:{name}",
        "role": f"arn:aws:iam::123456789012:role/{name}-role",
        "timeout": 900,
        "environ": ENVIRON,
        "layers": [LAYER],
    }
    return Config(**{**values, **changes})


def a_function(name: str, **changes: Any) -> FunctionFacts:
    return FunctionFacts(
        name=name,
        config=a_config(name, **changes),
        invokes=Invokes(retries=0, event_age=300),
        recursive_loop="Allow" if name == "runner" else "Terminate",
    )


def a_table(name: str, index: str, *keys: str) -> TableFacts:
    return TableFacts(name=name, indexes={index: keys}, ttl="expires_at", pitr=True)


RUNNER, SWEEPER = a_function("runner"), a_function("sweeper", timeout=150)
JOBS, FAILED = a_table("jobs", "due", "due_shard", "due_at"), a_table("failed", "by_queue", "queue", "failed_at")
SCHEDULE = Schedule(enabled=True, expression="rate(1 minute)", target=a_config("sweeper").arn)
INVOKES_ITSELF = Grant(who="runner", action="lambda:InvokeFunction", resource="runner", allowed=True)
GOOD = Facts(
    stack="relayq",
    outputs={"JobsTableName": "jobs", "FailedJobsTableName": "failed", "RunnerPolicyArn": "arn:policy"},
    runner=RUNNER,
    sweeper=SWEEPER,
    api=a_function("api", environ={**ENVIRON, "RELAYQ_HTTP_TOKEN": "a-token-that-is-long-enough-for-it"}),
    jobs=JOBS,
    failed=FAILED,
    schedule=SCHEDULE,
    schedule_name="relayq-sweep",
    layer=LAYER,
    layer_parameter="/relayq/relayq/layer",
    runner_policies=["arn:policy"],
    grants=[INVOKES_ITSELF],
    last_tick_age_ms=30_000,
    longest_timeout=60.0,
)


@pytest.mark.parametrize(
    ("name", "function", "qualifier"),
    [
        ("heavy", "heavy", "$LATEST"),
        ("heavy:live", "heavy", "live"),
        ("heavy:7", "heavy", "7"),
        ("my-function:live", "my-function", "live"),
        ("123456789012:function:heavy", "123456789012:function:heavy", "$LATEST"),
        (f"{HEAVY}:live", HEAVY, "live"),
        (HEAVY, HEAVY, "$LATEST"),
    ],
)
def test_a_function_is_named_with_an_alias_or_a_version_or_without(name: str, function: str, qualifier: str) -> None:
    """By its name or its ARN; some settings are the function's, others those of what is invoked."""
    facts = a_function(name)
    assert (facts.function, facts.qualifier) == (function, qualifier)


def found_by(check: str, facts: Facts) -> Finding:
    return {finding.check: finding for finding in examine(facts)}[check]


def test_a_good_stack_has_nothing_wrong() -> None:
    """It is good with an API and without; each check says what it saw."""
    own = [replace(a_function("heavy"), recursive_loop="Allow")]
    for facts in (GOOD, replace(GOOD, api=None), replace(GOOD, own_runners=own)):
        findings = examine(facts)
        assert [finding.check for finding in findings] == list(CHECKS)
        assert {finding.verdict for finding in findings} == {Verdict.OK}
        assert all(finding.found and not finding.fix for finding in findings)


#: For each check the facts that it must object to, and a part of what it says and of the fix.
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "Lambda's own retries",
        {"runner": replace(RUNNER, invokes=Invokes())},
        "retries runner 2 times",
        "--function-name runner --qualifier '$LATEST' --maximum-retry-attempts 0",
    ),
    ("Lambda's own retries", {"sweeper": replace(SWEEPER, invokes=Invokes(retries=1))}, "sweeper 1", "sweeper"),
    (
        "event age",
        {"sweeper": replace(SWEEPER, invokes=Invokes(retries=0))},
        "sweeper may be 21600 s old",
        "--maximum-event-age-in-seconds 300",
    ),
    ("recursive loop", {"runner": replace(RUNNER, recursive_loop="Terminate")}, "(Terminate)", "-loop Allow"),
    ("runner timeout", {"runner": a_function("runner", timeout=144)}, "144 s, but a delay of 65 s", "RunnerTimeout"),
    ("runner timeout", {"longest_timeout": 816.0}, "need 901 s", "shorten"),
    (
        "runner timeout",
        {"runner": a_function("runner", environ={**ENVIRON, "RELAYQ_TIMEOUT": "850"}), "longest_timeout": None},
        "need 935 s",
        "MAX_WAIT",
    ),
    ("sweeper timeout", {"sweeper": a_function("sweeper", timeout=104)}, "104 s, but a tick looks 75", "--timeout 150"),
    (
        "variables",
        {"sweeper": a_function("sweeper", environ={**ENVIRON, "RELAYQ_RETENTION_SECONDS": "60"})},
        "RELAYQ_RETENTION_SECONDS differs: 604800 in runner, 60 in sweeper",
        "sam deploy",
    ),
    (
        "variables",
        {"runner": a_function("runner", environ={**ENVIRON, "RELAYQ_STALE_SECONDS": "60"})},
        "RELAYQ_STALE_SECONDS differs: 60 in runner, not set in sweeper",
        "sam deploy",
    ),
    (
        "variables",
        {"runner": a_function("runner", environ={**ENVIRON, "RELAYQ_JOBS_TABLE": "other"})},
        "runner has RELAYQ_JOBS_TABLE=other, but the stack's table is jobs",
        "sam deploy",
    ),
    (
        "variables",
        {"runner": a_function("runner", environ={**ENVIRON, "RELAYQ_STAIL": "1"})},
        "runner: RELAYQ_STAIL: there is no such setting",
        "correct the variable",
    ),
    (
        "Lambda's own retries",
        {"own_runners": [replace(a_function("heavy"), invokes=Invokes())]},
        "retries heavy 2 times",
        "--function-name heavy",
    ),
    (
        "recursive loop",
        {"own_runners": [replace(a_function("heavy"), recursive_loop="Terminate")]},
        "chains of heavy",
        "--function-name heavy",
    ),
    (
        "Lambda's own retries",
        {"own_runners": [replace(a_function("heavy:live"), invokes=Invokes())]},
        "retries heavy:live 2 times",
        "--function-name heavy --qualifier live --maximum-retry-attempts 0",
    ),
    (
        "recursive loop",
        {"own_runners": [replace(a_function("heavy:live"), recursive_loop="Terminate")]},
        "chains of heavy:live",
        "--function-name heavy --recursive-loop Allow",
    ),
    (
        "own runners",
        {"own_runners": [replace(a_function("heavy"), config=Unread("a:B", "there is no function", absent=True))]},
        "RunnerFunctions names heavy, but there is no such function",
        "deploy it",
    ),
    (
        "own runners",
        {"own_runners": [a_function("heavy", environ={"RELAYQ_JOBS_TABLE": "other"})]},
        "heavy has RELAYQ_JOBS_TABLE=other",
        "sam deploy",
    ),
    ("layer", {"layer": None}, "no SSM parameter /relayq/relayq/layer", "sam deploy"),
    ("layer", {"sweeper": a_function("sweeper", layers=[OLDER])}, "runs relayq-core:6, but", "sam deploy"),
    ("layer", {"runner": a_function("runner", layers=[])}, "runner runs no layer", "sam deploy"),
    ("runner policy", {"runner_policies": ["arn:other"]}, "lacks RunnerPolicy", "--role-name runner-role --pol"),
    (
        "grants",
        {"grants": [replace(INVOKES_ITSELF, allowed=False), replace(INVOKES_ITSELF, action="b", allowed=False)]},
        "the runner may not lambda:InvokeFunction on runner, and 1 more",
        "permissions boundary",
    ),
    ("time to live", {"failed": replace(FAILED, ttl=None)}, "failed: time to live is off", "AttributeName=expires_at"),
    ("time to live", {"jobs": replace(JOBS, ttl="expiry")}, "jobs: it uses expiry", "--table-name jobs"),
    ("point-in-time recovery", {"jobs": replace(JOBS, pitr=False)}, "jobs cannot be restored", "--table-name jobs"),
    ("one region", {"failed": replace(FAILED, replicas=["us-east-1"])}, "failed is a global table", "remove the rep"),
    ("index due", {"jobs": replace(JOBS, indexes={})}, "there is no index due", "due_shard and due_at"),
    (
        "index by_queue",
        {"failed": replace(FAILED, indexes={"by_queue": ("queue",)})},
        "index by_queue has the keys queue",
        "queue and failed_at",
    ),
    ("schedule", {"schedule": None}, "the sweeper has no schedule", "sam deploy"),
    ("schedule", {"schedule": replace(SCHEDULE, enabled=False)}, "relayq-sweep is disabled", "enable it"),
    ("schedule", {"schedule": replace(SCHEDULE, target="arn:other")}, "calls arn:other", "sam deploy"),
    ("last sweep", {"last_tick_age_ms": None}, "never run", "log group /relayq/relayq/sweeper"),
    ("last sweep", {"last_tick_age_ms": None, "age_ms": 600_000}, "never run", "log group /relayq/relayq/sweeper"),
    ("one sweeper", {"sweepers": ["runner", "other-runner"]}, "runner and other-runner", "disable the schedule"),
    ("last sweep", {"last_tick_age_ms": 360_000}, "last ran 6 minutes ago", "log group /relayq/relayq/sweeper"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changes", "found", "fix"), BAD, ids=[f"{row[0]}: {row[2][:40]}" for row in BAD])
def test_what_is_wrong_with_a_stack_is_reported_with_its_fix(
    check: str, changes: dict[str, Any], found: str, fix: str
) -> None:
    """Only what rests on the same fact is reported beside it."""
    finding = found_by(check, replace(GOOD, **changes))
    assert finding.verdict is Verdict.WRONG
    assert found in finding.found
    assert fix in finding.fix


def test_every_check_can_find_something_wrong() -> None:
    """A check that cannot fail is none."""
    assert {row[0] for row in BAD} == set(CHECKS)


_BLIND_FUNCTION = replace(RUNNER, config=DENIED, invokes=DENIED, recursive_loop=DENIED)
_BLIND_TABLE = replace(JOBS, indexes=DENIED, ttl=DENIED, pitr=DENIED, replicas=DENIED)


def test_what_may_not_be_read_is_unknown_and_names_the_right_that_is_missing() -> None:
    """No check guesses, and none breaks."""
    blind = replace(
        GOOD,
        runner=_BLIND_FUNCTION,
        sweeper=_BLIND_FUNCTION,
        api=None,
        own_runners=[_BLIND_FUNCTION],
        jobs=_BLIND_TABLE,
        failed=_BLIND_TABLE,
        schedule=DENIED,
        layer=DENIED,
        runner_policies=DENIED,
        grants=[replace(INVOKES_ITSELF, allowed=DENIED)],
        last_tick_age_ms=DENIED,
        sweepers=DENIED,
    )
    assert {finding.verdict for finding in examine(blind)} == {Verdict.UNKNOWN}
    finding = found_by("layer", blind)
    assert finding.found == "some:Action: access denied"
    assert finding.fix == "grant yourself some:Action, and run the doctor again"


def test_what_is_wrong_with_one_is_reported_though_the_other_cannot_be_read() -> None:
    """The facts that there are count."""
    facts = replace(GOOD, runner=replace(RUNNER, invokes=Invokes()), sweeper=_BLIND_FUNCTION)
    assert found_by("Lambda's own retries", facts).verdict is Verdict.WRONG


def test_without_job_code_the_runners_timeout_is_good_with_a_caveat() -> None:
    """It says what it could not compare."""
    finding = found_by("runner timeout", replace(GOOD, longest_timeout=None))
    assert (finding.verdict, "found no job with a timeout" in finding.found) == (Verdict.OK, True)


def test_a_secret_is_never_shown() -> None:
    """The token of the API is its own, and a Redis URL may hold a password."""
    environ = {**ENVIRON, "RELAYQ_REDIS_URL": "redis://:hunter2@cache:6379/0"}
    facts = replace(GOOD, runner=a_function("runner", environ=environ))
    assert "hunter2" not in repr(examine(facts))
    assert "a-token-that" not in repr(examine(facts))
