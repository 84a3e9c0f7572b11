"""Read a stack's facts from AWS; that something is missing or may not be read is a fact too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from relayq_core.cli.aws import DescribedStack
from relayq_core.cli.doctor.facts import (
    Config,
    Facts,
    FunctionFacts,
    Grant,
    Invokes,
    Schedule,
    TableFacts,
    Unread,
    split_name,
)
from relayq_core.errors import SettingsError, StoreError
from relayq_core.ports import TickStore
from relayq_core.settings import Settings
from relayq_core.text import cut

T = TypeVar("T")

Client = Callable[[str], Any]

OUTPUTS = ("JobsTableName", "FailedJobsTableName", "RunnerFunctionName", "SweeperFunctionName", "RunnerPolicyArn")
_RESOURCE = "cloudformation:DescribeStackResource"
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_ABSENT = frozenset({"ResourceNotFoundException", "ParameterNotFound", "NoSuchEntity"})


def read(client: Client, stack: DescribedStack, store: TickStore, now: int, longest_timeout: float | None) -> Facts:
    """Return all facts of a stack that has the OUTPUTS. `client` returns the boto3 client of a service."""
    outputs = stack.outputs
    runner = _read_function(client, outputs["RunnerFunctionName"])
    sweeper = _read_function(client, outputs["SweeperFunctionName"])
    parameter, schedule = f"/relayq/{stack.name}/layer", _find_resource(client, stack.name, "SweeperFunctionTick")
    return Facts(
        stack=stack.name,
        age_ms=None if stack.created_at is None else now - round(stack.created_at.timestamp() * 1000),
        outputs=outputs,
        runner=runner,
        sweeper=sweeper,
        api=_read_api(client, stack.name) if "ApiUrl" in outputs else None,
        own_runners=[_read_function(client, name) for name in _list_own_runners(runner.config)],
        jobs=_read_table(client, outputs["JobsTableName"]),
        failed=_read_table(client, outputs["FailedJobsTableName"]),
        schedule=schedule
        if not isinstance(schedule, str)
        else _read_fact("scheduler:GetSchedule", lambda: _read_schedule(client, schedule), absent=None),
        schedule_name=schedule if isinstance(schedule, str) else "of the sweeper",
        layer=_read_fact(
            "ssm:GetParameter",
            lambda: str(client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]),
            absent=None,
        ),
        layer_parameter=parameter,
        runner_policies=_list_policies(client, runner.config),
        grants=_check_grants(client, outputs, runner.config, sweeper.config),
        last_tick_age_ms=_read_last_tick_age(store, now),
        sweepers=_ask_store(store.list_sweepers),
        longest_timeout=longest_timeout,
    )


def _read_fact(action: str, ask: Callable[[], T], *, absent: T | Unread | None = None) -> Any:
    """Return what `ask` returns; `absent` if the thing does not exist; or Unread if it could not be read."""
    try:
        return ask()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _ABSENT:
            return absent
        return Unread(action) if code in _DENIED else Unread(action, cut(error, 200))
    except (BotoCoreError, KeyError) as error:  # no answer, or an emulator's
        return Unread(action, cut(f"{type(error).__name__}: {error}", 200))


# --- the functions ---


def _read_function(client: Client, name: str) -> FunctionFacts:
    aws = client("lambda")
    bare, qualifier = split_name(name)
    action = "lambda:GetFunctionConfiguration"
    return FunctionFacts(
        name=name,
        config=_read_fact(
            action,
            lambda: _parse_config(aws.get_function_configuration(FunctionName=name)),
            absent=Unread(action, f"there is no function {name}", absent=True),
        ),
        invokes=_read_fact(
            "lambda:ListFunctionEventInvokeConfigs",
            lambda: _parse_invokes(
                aws.list_function_event_invoke_configs(FunctionName=bare)["FunctionEventInvokeConfigs"], qualifier
            ),
            absent=Unread("lambda:ListFunctionEventInvokeConfigs", f"there is no function {name}"),
        ),
        recursive_loop=_read_fact(
            "lambda:GetFunctionRecursionConfig",
            lambda: str(aws.get_function_recursion_config(FunctionName=bare)["RecursiveLoop"]),
            absent=Unread("lambda:GetFunctionRecursionConfig", f"there is no function {name}"),
        ),
    )


def _read_api(client: Client, stack: str) -> FunctionFacts:
    """Return the facts of the API function, whose name is not among the stack's outputs."""
    name = _find_resource(client, stack, "ApiFunction") or Unread(_RESOURCE, "the stack has no ApiFunction")
    if isinstance(name, Unread):
        return FunctionFacts(name="the API function", config=name, invokes=name, recursive_loop=name)
    return _read_function(client, name)


def _find_resource(client: Client, stack: str, logical: str) -> str | Unread | None:
    """Return the physical id of a resource of the stack; None if it has no such resource."""

    def ask() -> str | None:
        cloudformation = client("cloudformation")
        try:
            answer = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=logical)
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return str(answer["StackResourceDetail"]["PhysicalResourceId"])

    name: str | Unread | None = _read_fact(_RESOURCE, ask)
    return name


def _list_own_runners(runner: Config | Unread) -> list[str]:
    """Return the functions that serve some queues instead of the stack's runner, sorted."""
    try:
        settings = Settings() if isinstance(runner, Unread) else Settings.from_environ(runner.environ)
    except SettingsError:
        settings = Settings()  # another check reports it
    return sorted(set(settings.runner_functions.values()))


def _parse_config(answer: Mapping[str, Any]) -> Config:
    return Config(
        arn=answer["FunctionArn"],
        role=answer["Role"],
        timeout=answer["Timeout"],
        environ=answer.get("Environment", {}).get("Variables", {}),
        layers=[layer["Arn"] for layer in answer.get("Layers", [])],
    )


def _parse_invokes(configurations: Sequence[Mapping[str, Any]], qualifier: str) -> Invokes:
    """Return how Lambda treats the events of one alias or version; each has a configuration of its own.

    CloudFormation configures $LATEST, other tools the bare name; if both exist, the worse values count.
    """
    default = Invokes()
    own = [config for config in configurations if split_name(config["FunctionArn"])[1] == qualifier]
    retries = [config.get("MaximumRetryAttempts", default.retries) for config in own]
    ages = [config.get("MaximumEventAgeInSeconds", default.event_age) for config in own]
    return Invokes(retries=max(retries, default=default.retries), event_age=max(ages, default=default.event_age))


# --- the tables ---


def _read_table(client: Client, name: str) -> TableFacts:
    aws = client("dynamodb")
    gone = f"there is no table {name}"
    shape: Mapping[str, Any] | Unread = _read_fact(
        "dynamodb:DescribeTable",
        lambda: aws.describe_table(TableName=name)["Table"],
        absent=Unread("dynamodb:DescribeTable", gone),
    )
    return TableFacts(
        name=name,
        indexes=shape if isinstance(shape, Unread) else _parse_indexes(shape),
        replicas=shape if isinstance(shape, Unread) else _list_replicas(shape),
        ttl=_read_fact(
            "dynamodb:DescribeTimeToLive",
            lambda: _parse_ttl(aws.describe_time_to_live(TableName=name)["TimeToLiveDescription"]),
            absent=Unread("dynamodb:DescribeTimeToLive", gone),
        ),
        pitr=_read_fact(
            "dynamodb:DescribeContinuousBackups",
            lambda: _has_pitr(aws.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]),
            absent=Unread("dynamodb:DescribeContinuousBackups", gone),
        ),
    )


def _parse_indexes(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        index["IndexName"]: tuple(
            key["AttributeName"] for key in sorted(index["KeySchema"], key=lambda key: str(key["KeyType"]))
        )
        for index in table.get("GlobalSecondaryIndexes", [])
    }


def _list_replicas(table: Mapping[str, Any]) -> list[str]:
    return [str(replica["RegionName"]) for replica in table.get("Replicas", [])]


def _parse_ttl(answer: Mapping[str, Any]) -> str | None:
    on = answer.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
    return str(answer["AttributeName"]) if on else None


def _has_pitr(answer: Mapping[str, Any]) -> bool:
    status = answer.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    return bool(status == "ENABLED")


# --- the rest ---


def _read_schedule(client: Client, name: str) -> Schedule:
    answer = client("scheduler").get_schedule(Name=name)
    return Schedule(
        enabled=answer.get("State", "ENABLED") == "ENABLED",
        expression=answer["ScheduleExpression"],
        target=answer["Target"]["Arn"],
    )


def _list_policies(client: Client, runner: Config | Unread) -> Any:
    if isinstance(runner, Unread):
        return runner
    action = "iam:ListAttachedRolePolicies"

    def ask() -> list[str]:
        answer = client("iam").list_attached_role_policies(RoleName=_get_role_name(runner.role))
        return [policy["PolicyArn"] for policy in answer["AttachedPolicies"]]

    return _read_fact(action, ask, absent=Unread(action, "the runner's role is gone"))


def _check_grants(
    client: Client, outputs: Mapping[str, str], runner: Config | Unread, sweeper: Config | Unread
) -> list[Grant]:
    """Return each action that a function needs, and whether IAM's simulation allows it."""
    if isinstance(runner, Unread) or isinstance(sweeper, Unread):
        unread = runner if isinstance(runner, Unread) else sweeper
        return [Grant(who="runner", action="any", resource="any", allowed=unread)]  # type: ignore[arg-type]
    place = runner.arn.split(":function:")[0].replace(":lambda:", ":dynamodb:")
    jobs, failed = (f"{place}:table/{outputs[name]}" for name in ("JobsTableName", "FailedJobsTableName"))
    needed = [
        (
            "runner",
            runner.role,
            jobs,
            _prefix_dynamodb("GetItem", "PutItem", "UpdateItem", "DeleteItem", "PartiQLInsert"),
        ),
        ("runner", runner.role, failed, _prefix_dynamodb("GetItem", "PutItem")),
        ("runner", runner.role, runner.arn, ["lambda:InvokeFunction"]),
        ("sweeper", sweeper.role, f"{jobs}/index/due", _prefix_dynamodb("Query")),
        ("sweeper", sweeper.role, jobs, _prefix_dynamodb("GetItem", "UpdateItem", "DeleteItem")),
        ("sweeper", sweeper.role, failed, _prefix_dynamodb("GetItem", "PutItem")),
        ("sweeper", sweeper.role, runner.arn, ["lambda:InvokeFunction"]),
    ]
    for who, config in (("runner", runner), ("sweeper", sweeper)):
        if bus := config.environ.get("RELAYQ_EVENT_BUS"):
            arn = bus if bus.startswith("arn:") else f"{place.replace(':dynamodb:', ':events:')}:event-bus/{bus}"
            needed.append((who, config.role, arn, ["events:PutEvents"]))
    return [grant for need in needed for grant in _simulate(client, *need)]


def _prefix_dynamodb(*actions: str) -> list[str]:
    return [f"dynamodb:{action}" for action in actions]


def _simulate(client: Client, who: str, role: str, resource: str, actions: list[str]) -> list[Grant]:
    def ask() -> dict[str, bool]:
        answer = client("iam").simulate_principal_policy(
            PolicySourceArn=role, ActionNames=actions, ResourceArns=[resource]
        )
        return {result["EvalActionName"]: result["EvalDecision"] == "allowed" for result in answer["EvaluationResults"]}

    action = "iam:SimulatePrincipalPolicy"
    allowed = _read_fact(action, ask, absent=Unread(action, f"the {who}'s role is gone"))
    unread = allowed if isinstance(allowed, Unread) else None
    return [
        Grant(who=who, action=name, resource=resource, allowed=unread or allowed.get(name, False)) for name in actions
    ]


def _read_last_tick_age(store: TickStore, now: int) -> int | Unread | None:
    tick = _ask_store(store.read_last_tick)
    if tick is None or isinstance(tick, Unread):
        return tick
    return now - tick[0]


def _ask_store(ask: Callable[[], T]) -> T | Unread:
    """Return what the jobs table answers, or Unread if it could not be read."""
    try:
        return ask()
    except StoreError as error:
        return Unread("dynamodb:GetItem") if error.code in _DENIED else Unread("dynamodb:GetItem", cut(error, 200))


def _get_role_name(arn: str) -> str:
    return arn.rpartition("/")[2]
