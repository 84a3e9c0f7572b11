"""`relayq logs`: what the functions of a stack logged about one job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import ERROR, NOT_FOUND, OK, Stop
from relayq_core.cli.output import age, complain, moment, say
from relayq_core.cli.params import JobId, duration
from relayq_core.errors import SettingsError
from relayq_core.model.options import find_function
from relayq_core.model.record import JobRecord
from relayq_core.operations.serialize import times
from relayq_core.settings import Settings
from relayq_core.text import clean, summarize_error

#: The functions of a stack; each has its log group, the last only with EnableApi=true.
_FUNCTIONS = ("runner", "sweeper", "api")
_DAY_MS = 86_400_000
#: Clocks differ, and a job's first line may be a little older than its row.
_BEFORE_MS = 60_000
#: A runner that lost its lease may write on after its job has ended.
_AFTER_MS = 3_600_000
#: Of each group. CloudWatch answers with empty pages too, while it searches on.
_PAGES = 500
_STYLES = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow"}


@dataclass(frozen=True, slots=True)
class _Line:
    at: int
    group: str
    level: str
    message: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Span:
    """The time that is searched, epoch milliseconds; without an end up to now."""

    begin: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What a group holds; `given_up` before CloudWatch had looked through all of it."""

    lines: list[_Line]
    given_up: bool


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "logs", example="relayq logs 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D --stack relayq")(logs)


def logs(
    cli: Cli,
    job_id: JobId,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="GROUP", help="Another log group, such as that of a runner of your own."),
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            "--since", metavar="TIME", help="Look so far back: 2h, 3d; else since its dispatch.", parser=duration
        ),
    ] = None,
) -> int:
    """What a stack's functions logged about one job.

    Every line of CloudWatch that bears the job's id, oldest first: runner, sweeper and API, and the runner that its
    queue has of its own. What a handler prints bears none; `context.logger` does. A new line is found some seconds
    after it was written. Of a job that has ended the hour after that is searched too. Needs --stack or --group.

    JSON: {"groups", "lines": [{"at", "at_ms", "group", "level", "message", "fields"}], "given_up"}. Exit code 4 if
    there is none; 1 if the search of a group was given up, since there was too much to look through.
    """
    if cli.where.stack is None and not group:
        raise typer.BadParameter("say whose logs: --stack NAME, or --group GROUP")
    relayq = cli.relayq()
    now = relayq.clock.now()
    job = relayq.get(job_id) if since is None or cli.stack else None
    span = _life_of(job, now) if since is None else _Span(now - round(since * 1000))
    wanted = [] if cli.stack is None else _groups_of(cli.aws, cli.stack, job)
    found = _searched(cli.aws, list(dict.fromkeys([*wanted, *(group or [])])), job_id, span)
    lines = sorted((line for each in found.values() for line in each.lines), key=lambda line: line.at)
    given_up = [name for name, each in found.items() if each.given_up]
    data = {
        "groups": list(found),
        "lines": [
            {
                **times(at=line.at),
                "group": line.group,
                "level": line.level,
                "message": line.message,
                "fields": line.fields,
            }
            for line in lines
        ],
        "given_up": given_up,
    }

    def show() -> None:
        for line in lines:
            where = line.group.rpartition("/")[2]
            say(f"{moment(line.at)}  {where:<7}  {line.level:<7}  {line.message}", style=_STYLES.get(line.level, ""))
        if given_up:
            complain(
                "error",
                f"{', '.join(given_up)}: the search was given up after {_PAGES} pages, so lines may be missing;"
                " --since TIME searches less, or ask Logs Insights",
            )
        elif not lines:
            say(f"no line about job {job_id} since {age(span.begin, now)}, in {', '.join(found)}", style="yellow")

    cli.answer(data, show)
    if given_up:
        return ERROR
    return OK if lines else NOT_FOUND


def _life_of(job: JobRecord | None, now: int) -> _Span:
    """When anything may have been logged about it; of a job that is not there the last day."""
    if job is None:
        return _Span(now - _DAY_MS - _BEFORE_MS)
    return _Span(job.created_at - _BEFORE_MS, None if job.finished_at is None else job.finished_at + _AFTER_MS)


def _groups_of(aws: Aws, stack: DescribedStack, job: JobRecord | None) -> list[str]:
    """The log groups of a stack's functions, and of the runner that the job's queue has of its own; of a job that is
    not there any more, of all runners that queues have."""
    groups = [f"/relayq/{stack.name}/{function}" for function in _FUNCTIONS]
    functions = _own_runners(aws, stack)
    own = {find_function(job.queue, functions)} if job is not None else set(functions.values())
    return [*groups, *(_group_of(aws, function) for function in sorted(filter(None, own)))]


def _own_runners(aws: Aws, stack: DescribedStack) -> Mapping[str, str]:
    """By queue, as the stack's runner knows them; none where that cannot be read, which is said."""
    from botocore.exceptions import ClientError

    runner = stack.outputs["RunnerFunctionName"]
    try:
        environ = aws.client("lambda").get_function_configuration(FunctionName=runner)["Environment"]["Variables"]
        return Settings.from_environ(environ).runner_functions
    except (ClientError, SettingsError, KeyError) as error:
        complain(
            "note", f"whether the queue has a runner of its own is not known ({summarize_error(error)}); if so, --group"
        )
        return {}


def _group_of(aws: Aws, function: str) -> str:
    """Where a function logs; unless it can be asked, where Lambda's functions log by default."""
    from botocore.exceptions import ClientError

    name = function.rpartition(":function:")[2].partition(":")[0]
    default = f"/aws/lambda/{name}"
    try:
        answer = aws.client("lambda").get_function_configuration(FunctionName=function)
    except ClientError as error:
        complain("note", f"where {function} logs could not be read ({summarize_error(error)}); {default} is searched")
        return default
    return str(answer.get("LoggingConfig", {}).get("LogGroup") or default)


def _searched(aws: Aws, groups: list[str], job_id: str, span: _Span) -> dict[str, _Found]:
    """What each group holds that is there. Raises Stop where none is."""
    from botocore.exceptions import ClientError

    client = aws.client("logs")
    found: dict[str, _Found] = {}
    for group in groups:
        try:
            found[group] = _found(client, group, job_id, span)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
    if not found:
        raise Stop(f"there is no log group {' or '.join(groups)} in this account and region")
    return found


def _found(client: Any, group: str, job_id: str, span: _Span) -> _Found:
    asked: dict[str, Any] = {"startTime": max(span.begin, 0)}
    if span.end is not None:
        asked["endTime"] = span.end
    lines: list[_Line] = []
    for _ in range(_PAGES):
        answer = client.filter_log_events(logGroupName=group, filterPattern=f'"{job_id}"', **asked)
        lines += [_read(event, group) for event in answer.get("events", [])]
        if "nextToken" not in answer:
            return _Found(lines, given_up=False)
        asked["nextToken"] = answer["nextToken"]
    return _Found(lines, given_up=True)


def _read(event: Mapping[str, Any], group: str) -> _Line:
    """A line that a function wrote as JSON, or another one, such as of Lambda itself; safe to print."""
    text = str(event["message"]).strip()
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return _Line(event["timestamp"], group, "", clean(text), {})
    message = fields.pop("message", text)
    said = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    return _Line(event["timestamp"], group, clean(str(fields.pop("level", ""))), clean(said), fields)
