"""`relayq logs`: show what the functions of a stack logged about one job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import ERROR, NOT_FOUND, OK, Stop
from relayq_core.cli.output import complain, format_age, format_time, say
from relayq_core.cli.params import JobId, parse_duration
from relayq_core.errors import SettingsError
from relayq_core.model.options import find_function
from relayq_core.model.record import JobRecord
from relayq_core.operations.serialize import serialize_times
from relayq_core.settings import Settings
from relayq_core.text import clean, summarize_error

#: The functions of a stack, each with its log group; the last exists only with EnableApi=true.
_FUNCTIONS = ("runner", "sweeper", "api")
_DAY_MS = 86_400_000
#: Clocks differ: a job's first line may be a little older than its row.
_BEFORE_MS = 60_000
#: A runner that lost its lease may go on writing after its job has ended.
_AFTER_MS = 3_600_000
#: The most pages read of a group; CloudWatch returns empty ones too while it searches.
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
    """The time to search, in epoch milliseconds; without an end, up to now."""

    begin: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class _Result:
    """The lines of a group; `given_up`: the search stopped before CloudWatch had searched all of it."""

    lines: list[_Line]
    given_up: bool


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "logs", example="relayq logs 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D --stack relayq")(logs)


def logs(
    cli: Cli,
    job_id: JobId,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="GROUP", help="Search this log group too, such as your own runner's."),
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            "--since", metavar="TIME", help="How far back: 2h, 3d; by default to its dispatch.", parser=parse_duration
        ),
    ] = None,
) -> int:
    """Show what a stack's functions logged about one job.

    Searches CloudWatch for lines with the job's id, and prints them oldest first: those of runner, sweeper and API, and
    of the queue's own runner if it has one. Lines that a handler prints do not have the id; those of `context.logger`
    do. A new line can be found some seconds after it was written. For a job that has ended, the hour after its end is
    searched too. Needs --stack or --group.

    JSON: {"groups", "lines": [{"at", "at_ms", "group", "level", "message", "fields"}], "given_up"}. Exit code 4 if
    there are no lines; 1 if the search of a group was given up because there was too much to search.
    """
    if cli.target.stack is None and not group:
        raise typer.BadParameter("say whose logs: --stack NAME, or --group GROUP")
    relayq = cli.connect()
    now = relayq.clock.now()
    job = relayq.get(job_id) if since is None or cli.stack else None
    span = _find_span(job, now) if since is None else _Span(now - round(since * 1000))
    stack_groups = [] if cli.stack is None else _list_groups(cli.aws, cli.stack, job)
    results = _search_groups(cli.aws, list(dict.fromkeys([*stack_groups, *(group or [])])), job_id, span)
    lines = sorted((line for result in results.values() for line in result.lines), key=lambda line: line.at)
    given_up = [name for name, result in results.items() if result.given_up]

    def show() -> None:
        _show_lines(lines)
        if given_up:
            complain(
                "error",
                f"{', '.join(given_up)}: the search was given up after {_PAGES} pages, so lines may be missing;"
                " search less with --since TIME, or use Logs Insights",
            )
        elif not lines:
            since_when, where = format_age(span.begin, now), ", ".join(results)
            say(f"no line about job {job_id} since {since_when}, in {where}", style="yellow")

    cli.answer({"groups": list(results), "lines": list(map(_describe, lines)), "given_up": given_up}, show)
    if given_up:
        return ERROR
    return OK if lines else NOT_FOUND


def _describe(line: _Line) -> dict[str, Any]:
    """Return a line as JSON shows it."""
    fields = {"group": line.group, "level": line.level, "message": line.message, "fields": line.fields}
    return {**serialize_times(at=line.at), **fields}


def _show_lines(lines: list[_Line]) -> None:
    for line in lines:
        where, style = line.group.rpartition("/")[2], _STYLES.get(line.level, "")
        say(f"{format_time(line.at)}  {where:<7}  {line.level:<7}  {line.message}", style=style)


def _find_span(job: JobRecord | None, now: int) -> _Span:
    """Return when the job may have been logged about; for a job that is gone, the last day."""
    if job is None:
        return _Span(now - _DAY_MS - _BEFORE_MS)
    return _Span(job.created_at - _BEFORE_MS, None if job.finished_at is None else job.finished_at + _AFTER_MS)


def _list_groups(aws: Aws, stack: DescribedStack, job: JobRecord | None) -> list[str]:
    """Return the log groups of the stack's functions and of the queue's own runner; for a job that is gone, those of
    all runners that queues have."""
    groups = [f"/relayq/{stack.name}/{function}" for function in _FUNCTIONS]
    functions = _read_own_runners(aws, stack)
    own = {find_function(job.queue, functions)} if job is not None else set(functions.values())
    return [*groups, *(_find_group(aws, function) for function in sorted(filter(None, own)))]


def _read_own_runners(aws: Aws, stack: DescribedStack) -> Mapping[str, str]:
    """Return the functions of the queues' own runners, by queue, as the stack's runner is configured.

    Prints a note, and returns none, if that cannot be read.
    """
    from botocore.exceptions import ClientError

    runner = stack.outputs["RunnerFunctionName"]
    try:
        environ = aws.get_client("lambda").get_function_configuration(FunctionName=runner)["Environment"]["Variables"]
        return Settings.from_environ(environ).runner_functions
    except (ClientError, SettingsError, KeyError) as error:
        complain(
            "note", f"cannot read whether the queue has its own runner ({summarize_error(error)}); if so, use --group"
        )
        return {}


def _find_group(aws: Aws, function: str) -> str:
    """Return the log group of a function, or Lambda's default one if its configuration cannot be read."""
    from botocore.exceptions import ClientError

    name = function.rpartition(":function:")[2].partition(":")[0]
    default = f"/aws/lambda/{name}"
    try:
        answer = aws.get_client("lambda").get_function_configuration(FunctionName=function)
    except ClientError as error:
        complain("note", f"cannot read where {function} logs ({summarize_error(error)}); searching {default}")
        return default
    return str(answer.get("LoggingConfig", {}).get("LogGroup") or default)


def _search_groups(aws: Aws, groups: list[str], job_id: str, span: _Span) -> dict[str, _Result]:
    """Return the result of each log group that exists. Raises Stop if none does."""
    from botocore.exceptions import ClientError

    client = aws.get_client("logs")
    results: dict[str, _Result] = {}
    for group in groups:
        try:
            results[group] = _search_group(client, group, job_id, span)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
    if not results:
        raise Stop(f"there is no log group {' or '.join(groups)} in this account and region")
    return results


def _search_group(client: Any, group: str, job_id: str, span: _Span) -> _Result:
    query: dict[str, Any] = {"startTime": max(span.begin, 0)}
    if span.end is not None:
        query["endTime"] = span.end
    lines: list[_Line] = []
    for _ in range(_PAGES):
        answer = client.filter_log_events(logGroupName=group, filterPattern=f'"{job_id}"', **query)
        lines += [_parse_line(event, group) for event in answer.get("events", [])]
        if "nextToken" not in answer:
            return _Result(lines, given_up=False)
        query["nextToken"] = answer["nextToken"]
    return _Result(lines, given_up=True)


def _parse_line(event: Mapping[str, Any], group: str) -> _Line:
    """Return the line of an event, safe to print: a function writes JSON, and Lambda itself plain text."""
    text = str(event["message"]).strip()
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return _Line(event["timestamp"], group, "", clean(text), {})
    message = fields.pop("message", text)
    message_text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    return _Line(event["timestamp"], group, clean(str(fields.pop("level", ""))), clean(message_text), fields)
