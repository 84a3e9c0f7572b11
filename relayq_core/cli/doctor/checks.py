"""The doctor's checks: each takes the facts and says what it found, or what is wrong and how to fix it. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from relayq_core.adapters.dynamodb.tables import BY_QUEUE_INDEX, DUE_INDEX, TTL_ATTRIBUTE
from relayq_core.cli.doctor.facts import Config, Facts, FunctionFacts, TableFacts, Unknown, Unread, require
from relayq_core.errors import Portable, SettingsError
from relayq_core.operations.health import LATE_MS, explain_sharing
from relayq_core.settings import PREFIX, Settings

#: Besides the wait and the job's own timeout, a runner needs time to start, to settle and to log, in seconds.
_RUNNER_MARGIN = 20
#: A tick waits for jobs that become due, and needs time for overdue ones, in seconds.
_SWEEPER_MARGIN = 30
#: By then the sweeper has nudged the row: an older event would only be a late duplicate. Seconds.
_EVENT_AGE = 300
#: Variables that may differ between functions; the other RELAYQ_... ones must be the same in the whole stack.
_OWN = frozenset(
    PREFIX + name
    for name in (
        *("RUNNER_FUNCTION", "JOB_MODULES", "HANDOFF", "HTTP_ENDPOINT", "HTTP_TOKEN", "HTTP_TOKEN_SECRET"),
        *("REDIS_URL", "REDIS_PREFIX", "DASHBOARD", "RUNNER_TIMEOUT_SECONDS"),
    )
)
_DEPLOY = "deploy the template again (sam build && sam deploy), which sets it"


class Verdict(StrEnum):
    """The verdict of a check."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check: what was found, and how to fix what is wrong or unknown."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""


class _Wrong(Portable, Exception):
    """A check failed: what was found, and the fix."""

    def __init__(self, found: str, fix: str) -> None:
        self.found = found
        self.fix = fix
        super().__init__(found)


def examine(facts: Facts) -> list[Finding]:
    """Run every check and return the findings, in order."""
    return [_run_check(name, check, facts) for name, check in CHECKS.items()]


def _run_check(name: str, check: Callable[[Facts], str], facts: Facts) -> Finding:
    try:
        return Finding(name, Verdict.OK, check(facts))
    except _Wrong as wrong:
        return Finding(name, Verdict.WRONG, wrong.found, wrong.fix)
    except Unknown as unknown:
        unread = unknown.unread
        denied = unread.reason == "access denied"
        fix = f"grant yourself {unread.action}, and run the doctor again" if denied else ""
        return Finding(name, Verdict.UNKNOWN, f"{unread.action}: {unread.reason}", fix)


# --- the functions ---


def check_retries(facts: Facts) -> str:
    """Check that Lambda does not retry: RelayQ does, and Lambda would run a failed handler again."""
    for function in (*facts.runners, facts.sweeper):
        retries = require(function.invokes).retries
        if retries != 0:
            raise _Wrong(
                f"Lambda itself retries {function.name} {retries} times",
                _invoke_config(function),
            )
    return "Lambda itself retries neither runner nor sweeper"


def check_event_age(facts: Facts) -> str:
    """Check that events expire soon: a late one would start a job that was handed off again long ago."""
    for function in (*facts.runners, facts.sweeper):
        age = require(function.invokes).event_age
        if age > _EVENT_AGE:
            raise _Wrong(
                f"an event for {function.name} may be {age} s old when it is delivered",
                _invoke_config(function),
            )
    return f"at most {_EVENT_AGE} s"


def _invoke_config(function: FunctionFacts) -> str:
    return (
        f"aws lambda put-function-event-invoke-config --function-name {function.function}"
        f" --qualifier {shlex.quote(function.qualifier)}"
        f" --maximum-retry-attempts 0 --maximum-event-age-in-seconds {_EVENT_AGE}"
    )


def check_recursive_loop(facts: Facts) -> str:
    """Check that Lambda allows chains of invocations, as in retries; by default it ends them after about 16."""
    for function in facts.runners:
        setting = require(function.recursive_loop)
        if setting != "Allow":
            raise _Wrong(
                f"Lambda ends chains of {function.name} ({setting})",
                f"aws lambda put-function-recursion-config --function-name {function.function} --recursive-loop Allow",
            )
    return "chains of invocations are allowed; max_attempts and RELAYQ_MAX_DEPTH limit them"


def check_runner_timeout(facts: Facts) -> str:
    """Check that the runner has time for the longest wait, the longest job, and a margin."""
    config = require(facts.runner.config)
    settings = _read_settings(config)
    longest = max(facts.longest_timeout or 0, settings.timeout)
    least = settings.max_wait_seconds + longest + _RUNNER_MARGIN
    if config.timeout < least:
        raise _Wrong(
            f"{config.timeout} s, but a delay of {settings.max_wait_seconds} s, a job of {longest:g} s and a margin of"
            f" {_RUNNER_MARGIN} s need {least:g} s",
            "deploy with a larger RunnerTimeout (at most 900), shorten the job's timeout, or set"
            " RELAYQ_MAX_WAIT_SECONDS lower",
        )
    unsure = "" if facts.longest_timeout is not None else "; found no job with a timeout to compare"
    return f"{config.timeout} s, {least:g} s are needed{unsure}"


def check_sweeper_timeout(facts: Facts) -> str:
    """Check that the sweeper has time to wait for the jobs that become due before the next tick."""
    config = require(facts.sweeper.config)
    ahead = _read_settings(config).lookahead_seconds
    if config.timeout < ahead + _SWEEPER_MARGIN:
        raise _Wrong(
            f"{config.timeout} s, but a tick looks {ahead} s ahead",
            f"aws lambda update-function-configuration --function-name {facts.sweeper.name} --timeout 150",
        )
    return f"{config.timeout} s, a tick looks {ahead} s ahead"


def check_variables(facts: Facts) -> str:
    """Check that the functions agree on every setting, the tables above all."""
    for function in facts.functions:
        _compare_variables(facts, function)
    configs = {function.name: require(function.config).environ for function in facts.functions}
    for variable in sorted({name for environ in configs.values() for name in environ if name.startswith(PREFIX)}):
        values = {name: environ.get(variable, "") for name, environ in configs.items()}
        if variable not in _OWN and len(set(values.values())) > 1:
            listing = ", ".join(f"{value or 'not set'} in {name}" for name, value in values.items())
            raise _Wrong(f"{variable} differs: {listing}", f"use one value: {_DEPLOY}")
    return f"{len(configs)} functions agree"


def _compare_variables(facts: Facts, function: FunctionFacts) -> None:
    environ = require(function.config).environ
    try:
        Settings.from_environ(environ)
    except SettingsError as error:
        raise _Wrong(
            f"{function.name}: {error}", "correct the variable; with this value the function cannot start"
        ) from None
    for variable, output in (("JOBS_TABLE", "JobsTableName"), ("FAILED_TABLE", "FailedJobsTableName")):
        value, expected = environ.get(PREFIX + variable), facts.outputs[output]
        if value != expected:
            raise _Wrong(
                f"{function.name} has {PREFIX}{variable}={value or ''}, but the stack's table is {expected}", _DEPLOY
            )


def check_own_runners(facts: Facts) -> str:
    """Check that the queues' own runners exist and use the stack's tables; without, their jobs would not run."""
    for function in facts.own_runners:
        if isinstance(function.config, Unread) and function.config.absent:
            raise _Wrong(
                f"RunnerFunctions names {function.name}, but there is no such function",
                "deploy it, or correct RunnerFunctions and deploy the stack",
            )
        _compare_variables(facts, function)
    names = ", ".join(function.name for function in facts.own_runners)
    return f"{names}: deployed, with the stack's tables" if names else "no queue has its own runner"


def check_layer(facts: Facts) -> str:
    """Check that the functions use the layer that the stack offers to other stacks."""
    published = require(facts.layer)
    if published is None:
        raise _Wrong(f"there is no SSM parameter {facts.layer_parameter}", _DEPLOY)
    for function in facts.functions:
        layers = require(function.config).layers
        if published not in layers:
            raise _Wrong(
                f"{function.name} runs {', '.join(map(_shorten, layers)) or 'no layer'},"
                f" but {facts.layer_parameter} says {_shorten(published)}",
                "deploy the template again (sam build && sam deploy), which gives all of them the newest layer",
            )
    return f"{_shorten(published)} everywhere"


# --- the grants ---


def check_runner_policy(facts: Facts) -> str:
    """Check that the runner's role has the policy that other runners attach too."""
    policy = facts.outputs["RunnerPolicyArn"]
    if policy not in require(facts.runner_policies):
        role = require(facts.runner.config).role.rpartition("/")[2]
        raise _Wrong(
            "the runner's role lacks RunnerPolicy",
            f"aws iam attach-role-policy --role-name {role} --policy-arn {policy}",
        )
    return "the runner's role has RunnerPolicy"


def check_grants(facts: Facts) -> str:
    """Check that each function may do what it does; retries and chains need the runner to invoke itself."""
    missing = [grant for grant in facts.grants if not require(grant.allowed)]
    if missing:
        first = f"the {missing[0].who} may not {missing[0].action} on {missing[0].resource}"
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _Wrong(
            first + more,
            "deploy the template again; if that does not help, a permissions boundary or an SCP denies it",
        )
    return f"all {len(facts.grants)} permissions are granted; the runner may invoke itself"


# --- the tables ---


def check_ttl(facts: Facts) -> str:
    """Check that the rows of ended jobs expire; otherwise they stay, and are paid for, without end."""
    for table in _list_tables(facts):
        attribute = require(table.ttl)
        if attribute != TTL_ATTRIBUTE:
            raise _Wrong(
                f"{table.name}: time to live is off" if attribute is None else f"{table.name}: it uses {attribute}",
                f"aws dynamodb update-time-to-live --table-name {table.name}"
                f" --time-to-live-specification Enabled=true,AttributeName={TTL_ATTRIBUTE}",
            )
    return f"on {TTL_ATTRIBUTE}, in both tables"


def check_pitr(facts: Facts) -> str:
    """Check that a table that was emptied by mistake can be restored."""
    for table in _list_tables(facts):
        if not require(table.pitr):
            raise _Wrong(
                f"{table.name} cannot be restored",
                f"aws dynamodb update-continuous-backups --table-name {table.name}"
                " --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true",
            )
    return "both tables can be restored to any second of the last 35 days"


def check_one_region(facts: Facts) -> str:
    """Check that no table is global: conditions hold in one region only, so jobs would run twice and keys not hold."""
    for table in _list_tables(facts):
        if replicas := require(table.replicas):
            raise _Wrong(
                f"{table.name} is a global table, with replicas in {', '.join(replicas)}",
                "remove the replicas: RelayQ's conditions hold in one region only, so jobs would run in each",
            )
    return "neither table has replicas"


def check_due_index(facts: Facts) -> str:
    """Check the index by which the sweeper finds jobs."""
    return _check_index(facts.jobs, DUE_INDEX, ("due_shard", "due_at"))


def check_by_queue_index(facts: Facts) -> str:
    """Check the index by which operators find failures."""
    return _check_index(facts.failed, BY_QUEUE_INDEX, ("queue", "failed_at"))


def _check_index(table: TableFacts, name: str, keys: tuple[str, str]) -> str:
    index_keys = require(table.indexes).get(name)
    if index_keys != keys:
        problem = (
            f"there is no index {name}" if index_keys is None else f"index {name} has the keys {', '.join(index_keys)}"
        )
        raise _Wrong(f"{table.name}: {problem}", f"it needs {keys[0]} and {keys[1]}: {_DEPLOY}")
    return f"by {keys[0]} and {keys[1]}"


# --- the sweeper's clock ---


def check_schedule(facts: Facts) -> str:
    """Check the schedule of the sweeper, without which a job whose handoff was lost never starts."""
    schedule = require(facts.schedule)
    if schedule is None:
        raise _Wrong("the sweeper has no schedule", _DEPLOY)
    if not schedule.enabled:
        raise _Wrong(f"{facts.schedule_name} is disabled", "enable it in EventBridge Scheduler, or deploy again")
    sweeper = require(facts.sweeper.config).arn
    if schedule.target != sweeper:
        raise _Wrong(f"{facts.schedule_name} calls {schedule.target}, not the sweeper", _DEPLOY)
    return f"{schedule.expression}, enabled"


def check_last_tick(facts: Facts) -> str:
    """Check that the sweeper has run lately."""
    age = require(facts.last_tick_age_ms)
    if age is None and facts.age_ms is not None and facts.age_ms <= LATE_MS:
        return "not yet: the stack is new; it ticks every minute"
    if age is None or age > LATE_MS:
        raise _Wrong(
            "the sweeper has never run" if age is None else f"the sweeper last ran {age // 60_000} minutes ago",
            f"see its log group /relayq/{facts.stack}/sweeper, and check whether it is throttled",
        )
    return f"{age // 1000} s ago"


def check_one_sweeper(facts: Facts) -> str:
    """Check that no other stack sweeps the tables: it would take jobs that it cannot run."""
    if (shared := explain_sharing(require(facts.sweepers))) is not None:
        raise _Wrong(shared, "disable the schedule of one of them, or give it its own tables")
    return "no other stack sweeps these tables"


#: The checks by name, in the order in which they are shown.
CHECKS: dict[str, Callable[[Facts], str]] = {
    "Lambda's own retries": check_retries,
    "event age": check_event_age,
    "recursive loop": check_recursive_loop,
    "runner timeout": check_runner_timeout,
    "sweeper timeout": check_sweeper_timeout,
    "variables": check_variables,
    "own runners": check_own_runners,
    "layer": check_layer,
    "runner policy": check_runner_policy,
    "grants": check_grants,
    "time to live": check_ttl,
    "point-in-time recovery": check_pitr,
    "one region": check_one_region,
    "index due": check_due_index,
    "index by_queue": check_by_queue_index,
    "schedule": check_schedule,
    "last sweep": check_last_tick,
    "one sweeper": check_one_sweeper,
}


def _list_tables(facts: Facts) -> Iterator[TableFacts]:
    yield facts.jobs
    yield facts.failed


def _read_settings(config: Config) -> Settings:
    """Return a function's settings; if they are malformed, the defaults, as another check reports that."""
    try:
        return Settings.from_environ(config.environ)
    except SettingsError:
        return Settings()


def _shorten(arn: str) -> str:
    """Return `relayq-core:7` of a layer's ARN."""
    return ":".join(arn.split(":")[-2:])
