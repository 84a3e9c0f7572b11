"""The `relayq` command: put its options and commands together, and report usage errors."""

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
from relayq_core.cli.command import Debug, Json, Local, Profile, Region, Stack, reflow, report_error, show_help_alone
from relayq_core.cli.doctor import command as doctor
from relayq_core.cli.exit_codes import ERROR, LEGEND, OK, USAGE
from relayq_core.cli.hints import HintingGroup
from relayq_core.cli.output import is_fancy
from relayq_core.cli.params import flag

app = typer.Typer(
    cls=HintingGroup,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    epilog=f"Exit codes: {LEGEND}.",
)

#: click's UsageError, or that of typer's own copy of click
_UsageError: Any = typer.BadParameter.__mro__[1]


def _print_version(value: bool) -> None:
    if not value:
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
    version: Annotated[
        bool, flag("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """RelayQ: background jobs for AWS Lambda.

    Try it without an AWS account: `relayq demo`. Settings are read from the environment (RELAYQ_...), then from
    .env in this folder, then from the outputs of --stack. With --json every command prints one JSON object on
    stdout; an error is {"error", "type", "exit_code"}.
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


root.__doc__ = reflow(root.__doc__ or "")
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
    """Run a command line and return the exit code. `argv`: the words after `relayq`, else those of the process."""
    args = dispatch.fill_in_wait(sys.argv[1:] if argv is None else argv)
    app.rich_markup_mode = "rich" if is_fancy(sys.stdout) else None
    command = typer.main.get_command(app)
    try:
        code = command.main(args, prog_name="relayq", standalone_mode=False)
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx else _find_command_path(command, args)
        message = f"{_end_sentence(_format_usage_error(error))} See {path} --help"
        report_error(message, "UsageError", USAGE, as_json="--json" in args)
        return USAGE
    except (typer.Abort, KeyboardInterrupt):
        report_error("stopped", "Aborted", ERROR, as_json="--json" in args)
        return ERROR
    except BrokenPipeError:
        # the reader of our output has gone, as in `relayq list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    return code if isinstance(code, int) else OK


def _format_usage_error(error: Any) -> str:
    """Return a usage error's sentence; for a missing argument, with the argument's help."""
    sentence: str = error.format_message()
    parameter = getattr(error, "param", None) if type(error).__name__ == "MissingParameter" else None
    meaning = getattr(parameter, "help", None)
    return f"{sentence.rstrip('.')}: {meaning}" if meaning else sentence


def _end_sentence(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _find_command_path(command: Any, args: Sequence[str]) -> str:
    """Return the path of the command in `args`, for errors that come before click has found it."""
    path = ["relayq"]
    for word in args:
        if below := getattr(command, "commands", {}).get(word):
            command = below
            path.append(word)
    return " ".join(path)
