"""The `relayq` command: its options, its commands, and what becomes of a usage error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from relayq_core.cli import (
    clear,
    dashboard,
    dev,
    dispatch,
    failed,
    health,
    jobs,
    logs,
    make_job,
    registry,
    run,
    sweep,
    tables,
    work,
)
from relayq_core.cli import demo as demo_command
from relayq_core.cli.command import Debug, Json, Local, Profile, Region, Stack, flowing, report_error, show_help_alone
from relayq_core.cli.doctor import command as doctor
from relayq_core.cli.exit_codes import ERROR, LEGEND, OK, USAGE
from relayq_core.cli.output import is_fancy
from relayq_core.cli.params import flag

app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    epilog=f"Exit codes: {LEGEND}.",
)

#: click's, or typer's own copy of click
_UsageError: Any = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        print(f"relayq {version('relayq')}")  # noqa: T201
    except PackageNotFoundError:
        print("relayq (not installed)")  # noqa: T201
    raise typer.Exit


def root(
    context: typer.Context,
    stack: Stack = None,
    region: Region = None,
    profile: Profile = None,
    local: Local = False,
    json: Json = False,
    debug: Debug = False,
    version: Annotated[bool, flag("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """RelayQ: background jobs for AWS Lambda.

    Try it with no AWS account: `relayq demo`. The settings are RELAYQ_... variables of the environment; else those
    of the file .env in this folder; else the outputs of the stack named by --stack. With --json every command
    prints one JSON object on stdout; an error is {"error", "type", "exit_code"}.
    """
    context.obj = {
        "stack": stack,
        "region": region,
        "profile": profile,
        "local": local,
        "json": json,
        "debug": debug,
    }
    show_help_alone(context)


root.__doc__ = flowing(root.__doc__ or "")
app.callback(invoke_without_command=True)(root)
for group in (
    demo_command,
    dev,
    make_job,
    dispatch,
    run,
    work,
    jobs,
    logs,
    clear,
    failed,
    sweep,
    dashboard,
    health,
    doctor,
    registry,
    tables,
):
    group.add_to(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; answers with the exit code."""
    args = dispatch.with_wait_value(sys.argv[1:] if argv is None else argv)
    app.rich_markup_mode = "rich" if is_fancy(sys.stdout) else None
    command = typer.main.get_command(app)
    try:
        code = command.main(args, prog_name="relayq", standalone_mode=False)
    except _UsageError as error:
        at = error.ctx.command_path if error.ctx else _named(command, args)
        report_error(f"{_ended(_told(error))} See {at} --help", "UsageError", USAGE, as_json="--json" in args)
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        report_error("stopped", "Aborted", ERROR, as_json="--json" in args)
        return ERROR
    except BrokenPipeError:
        # whoever read our output has gone, as in `relayq list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    return code if isinstance(code, int) else OK


def _told(error: Any) -> str:
    """A usage error's sentence; of what is missing also what it is."""
    told: str = error.format_message()
    wanted = getattr(error, "param", None) if type(error).__name__ == "MissingParameter" else None
    meaning = getattr(wanted, "help", None)
    return f"{told.rstrip('.')}: {meaning}" if meaning else told


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _named(command: Any, args: Sequence[str]) -> str:
    """The command that was meant, where the parser did not get so far as to say it."""
    path = ["relayq"]
    for word in args:
        if below := getattr(command, "commands", {}).get(word):
            command = below
            path.append(word)
    return " ".join(path)
