"""Read a stack's facts from AWS. What may not be read, or is not there, is a fact too."""

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
from relayq_core.ports import JobStore
from relayq_core.settings import Settings
from relayq_core.text import cut

T = TypeVar("T")

Client = Callable[[str], Any]

OUTPUTS = ("JobsTableName", "FailedJobsTableName", "RunnerFunctionName", "SweeperFunctionName", "RunnerPolicyArn")
_RESOURCE = "cloudformation:DescribeStackResource"
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_ABSENT = frozenset({"ResourceNotFoundException", "ParameterNotFound", "NoSuchEntity"})


def read(client: Client, stack: DescribedStack, store: JobStore, now: int, longest_timeout: float | None) -> Facts:
    """All facts of a stack that has the OUTPUTS. `client` makes the boto3 client of a service."""
    outputs = stack.outputs
    runner = _function(client, outputs["RunnerFunctionName"])
    sweeper = _function(client, outputs["SweeperFunctionName"])
    parameter, schedule = f"/relayq/{stack.name}/layer", _physical(client, stack.name, "SweeperFunctionTick")
    return Facts(
        stack=stack.name,
        age_ms=None if stack.created_at is None else now - round(stack.created_at.timestamp() * 1000),
        outputs=outputs,
        runner=runner,
        sweeper=sweeper,
        api=_api(client, stack.name) if "ApiUrl" in outputs else None,
        own_runners=[_function(client, name) for name in _own_runners(runner.config)],
        jobs=_table(client, outputs["JobsTableName"]),
        failed=_table(client, outputs["FailedJobsTableName"]),
        schedule=schedule
        if not isinstance(schedule, str)
        else _fact("scheduler:GetSchedule", lambda: _schedule(client, schedule), absent=None),
        schedule_name=schedule if isinstance(schedule, str) else "of the sweeper",
        layer=_fact(
            "ssm:GetParameter",
            lambda: str(client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]),
            absent=None,
        ),
        layer_parameter=parameter,
        runner_policies=_policies(client, runner.config),
        grants=_grants(client, outputs, runner.config, sweeper.config),
        last_tick_age_ms=_last_tick_age(store, now),
        sweepers=_asked(store.list_sweepers),
        longest_timeout=longest_timeout,
    )


def _fact(action: str, ask: Callable[[], T], *, absent: T | Unread | None = None) -> Any:
    """What is answered; `absent` if there is no such thing; or that it could not be read."""
    try:
        return ask()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _ABSENT:
            return absent
        return Unread(action) if code in _DENIED else Unread(action, cut(error, 200))
    except (BotoCoreError, KeyError) as error:  # no answer, or that of an emulator which knows less
        return Unread(action, cut(f"{type(error).__name__}: {error}", 200))


# --- the functions ---


def _function(client: Client, name: str) -> FunctionFacts:
    aws = client("lambda")
    bare, qualifier = split_name(name)
    action = "lambda:GetFunctionConfiguration"
    return FunctionFacts(
        name=name,
        config=_fact(
            action,
            lambda: _config(aws.get_function_configuration(FunctionName=name)),
            absent=Unread(action, f"there is no function {name}", absent=True),
        ),
        invokes=_fact(
            "lambda:ListFunctionEventInvokeConfigs",
            lambda: _invokes(
                aws.list_function_event_invoke_configs(FunctionName=bare)["FunctionEventInvokeConfigs"], qualifier
            ),
            absent=Unread("lambda:ListFunctionEventInvokeConfigs", f"there is no function {name}"),
        ),
        recursive_loop=_fact(
            "lambda:GetFunctionRecursionConfig",
            lambda: str(aws.get_function_recursion_config(FunctionName=bare)["RecursiveLoop"]),
            absent=Unread("lambda:GetFunctionRecursionConfig", f"there is no function {name}"),
        ),
    )


def _api(client: Client, stack: str) -> FunctionFacts:
    """Its name is no output, so the stack is asked for it."""
    found = _physical(client, stack, "ApiFunction") or Unread(_RESOURCE, "the stack has no ApiFunction")
    if isinstance(found, Unread):
        return FunctionFacts(name="the API function", config=found, invokes=found, recursive_loop=found)
    return _function(client, found)


def _physical(client: Client, stack: str, logical: str) -> str | Unread | None:
    """What CloudFormation has called a resource of the stack; None if the stack has none such."""

    def ask() -> str | None:
        cloudformation = client("cloudformation")
        try:
            answer = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=logical)
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return str(answer["StackResourceDetail"]["PhysicalResourceId"])

    found: str | Unread | None = _fact(_RESOURCE, ask)
    return found


def _own_runners(runner: Config | Unread) -> list[str]:
    """The functions that serve some queues instead of the stack's runner."""
    try:
        settings = Settings() if isinstance(runner, Unread) else Settings.from_environ(runner.environ)
    except SettingsError:
        settings = Settings()  # another check tells of it
    return sorted(set(settings.runner_functions.values()))


def _config(answer: Mapping[str, Any]) -> Config:
    return Config(
        arn=answer["FunctionArn"],
        role=answer["Role"],
        timeout=answer["Timeout"],
        environ=answer.get("Environment", {}).get("Variables", {}),
        layers=[each["Arn"] for each in answer.get("Layers", [])],
    )


def _invokes(configurations: Sequence[Mapping[str, Any]], qualifier: str) -> Invokes:
    """Of the function as handoffs invoke it: an alias and a version have one of their own each. CloudFormation
    configures the version $LATEST, others the bare name; where both are, the worse counts."""
    default = Invokes()
    found = [each for each in configurations if split_name(each["FunctionArn"])[1] == qualifier]
    return Invokes(
        retries=max((each.get("MaximumRetryAttempts", default.retries) for each in found), default=default.retries),
        event_age=max(
            (each.get("MaximumEventAgeInSeconds", default.event_age) for each in found), default=default.event_age
        ),
    )


# --- the tables ---


def _table(client: Client, name: str) -> TableFacts:
    aws = client("dynamodb")
    gone = f"there is no table {name}"
    shape: Mapping[str, Any] | Unread = _fact(
        "dynamodb:DescribeTable",
        lambda: aws.describe_table(TableName=name)["Table"],
        absent=Unread("dynamodb:DescribeTable", gone),
    )
    return TableFacts(
        name=name,
        indexes=shape if isinstance(shape, Unread) else _indexes(shape),
        replicas=shape if isinstance(shape, Unread) else _replicas(shape),
        ttl=_fact(
            "dynamodb:DescribeTimeToLive",
            lambda: _ttl(aws.describe_time_to_live(TableName=name)["TimeToLiveDescription"]),
            absent=Unread("dynamodb:DescribeTimeToLive", gone),
        ),
        pitr=_fact(
            "dynamodb:DescribeContinuousBackups",
            lambda: _pitr(aws.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]),
            absent=Unread("dynamodb:DescribeContinuousBackups", gone),
        ),
    )


def _indexes(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        index["IndexName"]: tuple(
            key["AttributeName"] for key in sorted(index["KeySchema"], key=lambda key: str(key["KeyType"]))
        )
        for index in table.get("GlobalSecondaryIndexes", [])
    }


def _replicas(table: Mapping[str, Any]) -> list[str]:
    return [str(replica["RegionName"]) for replica in table.get("Replicas", [])]


def _ttl(answer: Mapping[str, Any]) -> str | None:
    on = answer.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
    return str(answer["AttributeName"]) if on else None


def _pitr(answer: Mapping[str, Any]) -> bool:
    found = answer.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    return bool(found == "ENABLED")


# --- the rest ---


def _schedule(client: Client, name: str) -> Schedule:
    answer = client("scheduler").get_schedule(Name=name)
    return Schedule(
        enabled=answer.get("State", "ENABLED") == "ENABLED",
        expression=answer["ScheduleExpression"],
        target=answer["Target"]["Arn"],
    )


def _policies(client: Client, runner: Config | Unread) -> Any:
    if isinstance(runner, Unread):
        return runner
    action = "iam:ListAttachedRolePolicies"

    def ask() -> list[str]:
        answer = client("iam").list_attached_role_policies(RoleName=_name_of(runner.role))
        return [policy["PolicyArn"] for policy in answer["AttachedPolicies"]]

    return _fact(action, ask, absent=Unread(action, "the runner's role is gone"))


def _grants(
    client: Client, outputs: Mapping[str, str], runner: Config | Unread, sweeper: Config | Unread
) -> list[Grant]:
    """Each right that a function cannot do without, as IAM itself judges it."""
    if isinstance(runner, Unread) or isinstance(sweeper, Unread):
        unread = runner if isinstance(runner, Unread) else sweeper
        return [Grant(who="runner", action="any", resource="any", allowed=unread)]  # type: ignore[arg-type]
    place = runner.arn.split(":function:")[0].replace(":lambda:", ":dynamodb:")
    jobs, failed = (f"{place}:table/{outputs[name]}" for name in ("JobsTableName", "FailedJobsTableName"))
    wanted = [
        ("runner", runner.role, jobs, _dynamodb("GetItem", "PutItem", "UpdateItem", "DeleteItem", "PartiQLInsert")),
        ("runner", runner.role, failed, _dynamodb("GetItem", "PutItem")),
        ("runner", runner.role, runner.arn, ["lambda:InvokeFunction"]),
        ("sweeper", sweeper.role, f"{jobs}/index/due", _dynamodb("Query")),
        ("sweeper", sweeper.role, jobs, _dynamodb("GetItem", "UpdateItem", "DeleteItem")),
        ("sweeper", sweeper.role, failed, _dynamodb("GetItem", "PutItem")),
        ("sweeper", sweeper.role, runner.arn, ["lambda:InvokeFunction"]),
    ]
    for who, config in (("runner", runner), ("sweeper", sweeper)):
        if bus := config.environ.get("RELAYQ_EVENT_BUS"):
            arn = bus if bus.startswith("arn:") else f"{place.replace(':dynamodb:', ':events:')}:event-bus/{bus}"
            wanted.append((who, config.role, arn, ["events:PutEvents"]))
    return [grant for each in wanted for grant in _simulated(client, *each)]


def _dynamodb(*actions: str) -> list[str]:
    return [f"dynamodb:{action}" for action in actions]


def _simulated(client: Client, who: str, role: str, resource: str, actions: list[str]) -> list[Grant]:
    def ask() -> dict[str, bool]:
        answer = client("iam").simulate_principal_policy(
            PolicySourceArn=role, ActionNames=actions, ResourceArns=[resource]
        )
        return {each["EvalActionName"]: each["EvalDecision"] == "allowed" for each in answer["EvaluationResults"]}

    action = "iam:SimulatePrincipalPolicy"
    allowed = _fact(action, ask, absent=Unread(action, f"the {who}'s role is gone"))
    unread = allowed if isinstance(allowed, Unread) else None
    return [
        Grant(who=who, action=each, resource=resource, allowed=unread or allowed.get(each, False)) for each in actions
    ]


def _last_tick_age(store: JobStore, now: int) -> int | Unread | None:
    tick = _asked(store.read_last_tick)
    if tick is None or isinstance(tick, Unread):
        return tick
    return now - tick[0]


def _asked(ask: Callable[[], T]) -> T | Unread:
    """What the jobs table answers, or that it could not be read."""
    try:
        return ask()
    except StoreError as error:
        return Unread("dynamodb:GetItem") if error.code in _DENIED else Unread("dynamodb:GetItem", cut(error, 200))


def _name_of(arn: str) -> str:
    return arn.rpartition("/")[2]
