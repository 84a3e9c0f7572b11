"""The doctor's checks: each looks at the facts and says what it found, or what is wrong and how to mend it. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from relayq_core.adapters.dynamodb.tables import BY_QUEUE_INDEX, DUE_INDEX, TTL_ATTRIBUTE
from relayq_core.cli.doctor.facts import Config, Facts, FunctionFacts, TableFacts, Unknown, Unread, known
from relayq_core.errors import Portable, SettingsError
from relayq_core.operations.health import LATE_MS, shared_by
from relayq_core.settings import PREFIX, Settings

#: Beside the wait and the job's own timeout a runner needs time to start, to settle and to say what went wrong.
_RUNNER_MARGIN = 20
#: A tick waits for what becomes due, and what is overdue has to be worked off as well.
_SWEEPER_MARGIN = 30
#: By then the sweeper has nudged the row: an older event would only be a late duplicate.
_EVENT_AGE = 300
#: What each function may have of its own. The rest of RELAYQ_... is one decision of the stack.
_OWN = frozenset(
    PREFIX + name
    for name in (
        *("RUNNER_FUNCTION", "JOB_MODULES", "HANDOFF", "HTTP_ENDPOINT", "HTTP_TOKEN", "HTTP_TOKEN_SECRET"),
        *("REDIS_URL", "REDIS_PREFIX", "DASHBOARD", "RUNNER_TIMEOUT_SECONDS"),
    )
)
_DEPLOY = "deploy the template again (sam build && sam deploy), which sets it"


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and for what is wrong or unknown how to mend that."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""


class _Wrong(Portable, Exception):
    """The check failed: what was found, and the fix."""

    def __init__(self, found: str, fix: str) -> None:
        self.found = found
        self.fix = fix
        super().__init__(found)


def examined(facts: Facts) -> list[Finding]:
    """Every check, in its order."""
    return [_finding(name, check, facts) for name, check in CHECKS.items()]


def _finding(name: str, check: Callable[[Facts], str], facts: Facts) -> Finding:
    try:
        return Finding(name, Verdict.OK, check(facts))
    except _Wrong as wrong:
        return Finding(name, Verdict.WRONG, wrong.found, wrong.fix)
    except Unknown as unknown:
        unread = unknown.unread
        denied = unread.reason == "access denied"
        fix = f"allow yourself {unread.action}, and ask again" if denied else ""
        return Finding(name, Verdict.UNKNOWN, f"{unread.action}: {unread.reason}", fix)


# --- the functions ---


def no_retries(facts: Facts) -> str:
    """The row decides about retries. Lambda's own would start a handler again that has failed."""
    for function in (*facts.runners, facts.sweeper):
        retries = known(function.invokes).retries
        if retries != 0:
            raise _Wrong(
                f"Lambda itself retries {function.name} {retries} times",
                _invoke_config(function),
            )
    return "Lambda itself retries neither runner nor sweeper"


def event_age(facts: Facts) -> str:
    """An event that waits for hours starts a job that was handed off again long ago."""
    for function in (*facts.runners, facts.sweeper):
        age = known(function.invokes).event_age
        if age > _EVENT_AGE:
            raise _Wrong(
                f"an event of {function.name} may be {age} s old when it starts",
                _invoke_config(function),
            )
    return f"at most {_EVENT_AGE} s"


def _invoke_config(function: FunctionFacts) -> str:
    return (
        f"aws lambda put-function-event-invoke-config --function-name {function.function}"
        f" --qualifier {shlex.quote(function.qualifier)}"
        f" --maximum-retry-attempts 0 --maximum-event-age-in-seconds {_EVENT_AGE}"
    )


def recursive_loop(facts: Facts) -> str:
    """Retries and jobs that dispatch jobs are long chains of invocations, which Lambda would cut after about 16."""
    for function in facts.runners:
        found = known(function.recursive_loop)
        if found != "Allow":
            raise _Wrong(
                f"Lambda ends chains of {function.name} ({found})",
                f"aws lambda put-function-recursion-config --function-name {function.function} --recursive-loop Allow",
            )
    return "chains of invocations are allowed; max_attempts and RELAYQ_MAX_DEPTH bound them"


def runner_timeout(facts: Facts) -> str:
    """A runner sleeps a short delay, and then has to run the job to its end."""
    config = known(facts.runner.config)
    settings = _settings(config)
    longest = max(facts.longest_timeout or 0, settings.timeout)
    least = settings.max_wait_seconds + longest + _RUNNER_MARGIN
    said = f"{config.timeout} s"
    if config.timeout < least:
        raise _Wrong(
            f"{said}, and a delay of {settings.max_wait_seconds} s, a job of {longest:g} s and {_RUNNER_MARGIN} s"
            f" around them need {least:g} s",
            "deploy with a larger RunnerTimeout (at most 900), shorten the job's timeout, or set"
            " RELAYQ_MAX_WAIT_SECONDS lower",
        )
    unsure = "" if facts.longest_timeout is not None else "; no job with a timeout is at hand to compare"
    return f"{said}, {least:g} s are needed{unsure}"


def sweeper_timeout(facts: Facts) -> str:
    """A tick waits for what becomes due before the next one."""
    config = known(facts.sweeper.config)
    ahead = _settings(config).lookahead_seconds
    if config.timeout < ahead + _SWEEPER_MARGIN:
        raise _Wrong(
            f"{config.timeout} s, and a tick looks {ahead} s ahead",
            f"aws lambda update-function-configuration --function-name {facts.sweeper.name} --timeout 150",
        )
    return f"{config.timeout} s, a tick looks {ahead} s ahead"


def variables(facts: Facts) -> str:
    """Functions that disagree about a setting give jobs different lives, or look into different tables."""
    for function in facts.functions:
        _check_variables(facts, function)
    configs = {function.name: known(function.config).environ for function in facts.functions}
    for variable in sorted({name for environ in configs.values() for name in environ if name.startswith(PREFIX)}):
        values = {name: environ.get(variable, "") for name, environ in configs.items()}
        if variable not in _OWN and len(set(values.values())) > 1:
            shown = ", ".join(f"{value or 'not set'} in {name}" for name, value in values.items())
            raise _Wrong(f"{variable} differs: {shown}", f"set it alike: {_DEPLOY}")
    return f"{len(configs)} functions agree"


def _check_variables(facts: Facts, function: FunctionFacts) -> None:
    environ = known(function.config).environ
    try:
        Settings.from_environ(environ)
    except SettingsError as error:
        raise _Wrong(f"{function.name}: {error}", "correct the variable; the function fails at its start") from None
    for variable, output in (("JOBS_TABLE", "JobsTableName"), ("FAILED_TABLE", "FailedJobsTableName")):
        given, expected = environ.get(PREFIX + variable), facts.outputs[output]
        if given != expected:
            raise _Wrong(
                f"{function.name} has {PREFIX}{variable}={given or ''}, and the stack's table is {expected}", _DEPLOY
            )


def own_runners(facts: Facts) -> str:
    """A queue that has a runner of its own is handed to nobody if that is not there, or looks into other tables."""
    for function in facts.own_runners:
        if isinstance(function.config, Unread) and function.config.absent:
            raise _Wrong(
                f"RunnerFunctions names {function.name}, and there is no such function",
                "deploy it, or deploy the stack with RunnerFunctions corrected",
            )
        _check_variables(facts, function)
    names = ", ".join(function.name for function in facts.own_runners)
    return f"{names}: there, with the stack's tables" if names else "no queue has a runner of its own"


def layer(facts: Facts) -> str:
    """The functions run the code that other stacks are given."""
    handed = known(facts.layer)
    if handed is None:
        raise _Wrong(f"there is no SSM parameter {facts.layer_parameter}", _DEPLOY)
    for function in facts.functions:
        layers = known(function.config).layers
        if handed not in layers:
            raise _Wrong(
                f"{function.name} runs {', '.join(map(_short, layers)) or 'no layer'},"
                f" and {facts.layer_parameter} says {_short(handed)}",
                "deploy the template again (sam build && sam deploy): all take the newest layer",
            )
    return f"{_short(handed)} everywhere"


# --- the grants ---


def runner_policy(facts: Facts) -> str:
    """What the runner may do stands in the policy that own runners attach too."""
    policy = facts.outputs["RunnerPolicyArn"]
    if policy not in known(facts.runner_policies):
        role = known(facts.runner.config).role.rpartition("/")[2]
        raise _Wrong(
            "the runner's role lacks RunnerPolicy",
            f"aws iam attach-role-policy --role-name {role} --policy-arn {policy}",
        )
    return "the runner's role has RunnerPolicy"


def grants(facts: Facts) -> str:
    """Each function may do what it does; the runner may invoke itself, which retries and chains need."""
    missing = [grant for grant in facts.grants if not known(grant.allowed)]
    if missing:
        first = f"the {missing[0].who} may not {missing[0].action} on {missing[0].resource}"
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _Wrong(
            first + more,
            "deploy the template again; if it stays, a permissions boundary or an SCP of the account denies it",
        )
    return f"{len(facts.grants)} rights looked up, all granted; the runner may invoke itself"


# --- the tables ---


def ttl(facts: Facts) -> str:
    """Without it ended jobs stay, and are paid for, for ever."""
    for table in _tables(facts):
        found = known(table.ttl)
        if found != TTL_ATTRIBUTE:
            raise _Wrong(
                f"{table.name}: time to live is off" if found is None else f"{table.name}: it goes by {found}",
                f"aws dynamodb update-time-to-live --table-name {table.name}"
                f" --time-to-live-specification Enabled=true,AttributeName={TTL_ATTRIBUTE}",
            )
    return f"on {TTL_ATTRIBUTE}, in both tables"


def pitr(facts: Facts) -> str:
    """A table that was emptied by mistake can be had back."""
    for table in _tables(facts):
        if not known(table.pitr):
            raise _Wrong(
                f"{table.name} cannot be restored",
                f"aws dynamodb update-continuous-backups --table-name {table.name}"
                " --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true",
            )
    return "both tables can be restored to any second of the last 35 days"


def one_region(facts: Facts) -> str:
    """In a global table a condition holds in its region only: two would run each job, and keys would be none."""
    for table in _tables(facts):
        if replicas := known(table.replicas):
            raise _Wrong(
                f"{table.name} is a global table, with replicas in {', '.join(replicas)}",
                "remove the replicas: RelayQ's conditions hold in one region only, so jobs would run in each",
            )
    return "neither table has replicas"


def due_index(facts: Facts) -> str:
    """The sweeper finds jobs by it."""
    return _index(facts.jobs, DUE_INDEX, ("due_shard", "due_at"))


def by_queue_index(facts: Facts) -> str:
    """Operators find failures by it."""
    return _index(facts.failed, BY_QUEUE_INDEX, ("queue", "failed_at"))


def _index(table: TableFacts, name: str, keys: tuple[str, str]) -> str:
    found = known(table.indexes).get(name)
    if found != keys:
        there = f"there is no index {name}" if found is None else f"index {name} has the keys {', '.join(found)}"
        raise _Wrong(f"{table.name}: {there}", f"it needs {keys[0]} and {keys[1]}: {_DEPLOY}")
    return f"by {keys[0]} and {keys[1]}"


# --- the sweeper's clock ---


def schedule(facts: Facts) -> str:
    """Nobody else would look after a job whose handoff was lost."""
    found = known(facts.schedule)
    if found is None:
        raise _Wrong("the sweeper has no schedule", _DEPLOY)
    if not found.enabled:
        raise _Wrong(f"{facts.schedule_name} is disabled", "enable it in EventBridge Scheduler, or deploy again")
    sweeper = known(facts.sweeper.config).arn
    if found.target != sweeper:
        raise _Wrong(f"{facts.schedule_name} calls {found.target}, and not the sweeper", _DEPLOY)
    return f"{found.expression}, enabled"


def last_tick(facts: Facts) -> str:
    """What is scheduled may fail all the same."""
    age = known(facts.last_tick_age_ms)
    if age is None and facts.age_ms is not None and facts.age_ms <= LATE_MS:
        return "not yet: the stack is new, and it ticks each minute"
    if age is None or age > LATE_MS:
        raise _Wrong(
            "the sweeper has never run" if age is None else f"the sweeper last ran {age // 60_000} minutes ago",
            f"look into its log group /relayq/{facts.stack}/sweeper, and whether it is throttled",
        )
    return f"{age // 1000} s ago"


def one_sweeper(facts: Facts) -> str:
    """A second stack on the tables takes jobs away that it cannot run."""
    if (shared := shared_by(known(facts.sweepers))) is not None:
        raise _Wrong(shared, "disable the schedule of one, or give it tables of its own")
    return "no other stack sweeps these tables"


#: In the order in which they are shown: what they are called, and what looks.
CHECKS: dict[str, Callable[[Facts], str]] = {
    "Lambda's own retries": no_retries,
    "event age": event_age,
    "recursive loop": recursive_loop,
    "runner timeout": runner_timeout,
    "sweeper timeout": sweeper_timeout,
    "variables": variables,
    "own runners": own_runners,
    "layer": layer,
    "runner policy": runner_policy,
    "grants": grants,
    "time to live": ttl,
    "point-in-time recovery": pitr,
    "one region": one_region,
    "index due": due_index,
    "index by_queue": by_queue_index,
    "schedule": schedule,
    "last sweep": last_tick,
    "one sweeper": one_sweeper,
}


def _tables(facts: Facts) -> Iterator[TableFacts]:
    yield facts.jobs
    yield facts.failed


def _settings(config: Config) -> Settings:
    """What a function goes by; what it cannot read is told by another check."""
    try:
        return Settings.from_environ(config.environ)
    except SettingsError:
        return Settings()


def _short(arn: str) -> str:
    """`relayq-core:7`, of a layer's ARN."""
    return ":".join(arn.split(":")[-2:])
