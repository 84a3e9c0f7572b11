"""`relayq make-job`: write a job, its test and its event."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from relayq_core.cli import scaffold
from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import Stop
from relayq_core.cli.output import say
from relayq_core.cli.params import queue_name
from relayq_core.errors import InvalidOption


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "make-job", example="relayq make-job SendInvoice --queue billing", place=False)(make_job)


def make_job(
    cli: Cli,
    name: Annotated[str, typer.Argument(metavar="NAME", help="SendInvoice makes a class, send_invoice a function.")],
    queue: Annotated[str, typer.Option("--queue", metavar="QUEUE", help="Its queue.", parser=queue_name)] = "default",
) -> None:
    """Write a job, its test and its event.

    They pass as they are. In RelayQ's repository the job goes to functions/runner/jobs, else to src/jobs or jobs, the
    first that is there; where there is none, src/jobs is made. Nothing is overwritten.

    JSON: {"name", "files": [path]}
    """
    try:
        wanted = scaffold.names(name)
    except InvalidOption as error:
        raise typer.BadParameter(str(error).removeprefix("name: ")) from error
    root = Path.cwd()
    files = scaffold.files(wanted, queue, scaffold.layout(root))
    _refuse_taken(cli, wanted, [path for path in files if (root / path).exists()])
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    cli.answer(
        {"name": wanted.name, "files": [path.as_posix() for path in files]}, lambda: _show(wanted, queue, list(files))
    )


def _refuse_taken(cli: Cli, wanted: scaffold.Names, there: list[Path]) -> None:
    if there:
        raise Stop(f"{there[0]} is there already; nothing was written")
    jobs = None
    with suppress(Exception):  # what does not import says nothing of names
        jobs = cli.jobs_at_hand(cli.settings())
    if jobs is not None and wanted.name in jobs:
        raise Stop(f"there is a job {wanted.name!r} already, {jobs[wanted.name].origin}; nothing was written")


def _show(wanted: scaffold.Names, queue: str, files: list[Path]) -> None:
    for path in files:
        say(f"wrote {path}", style="green")
    job, test, event, *_ = files
    say("Next:")
    say(f"  python -m pytest {test}")
    say(f"  relayq dev                  runs it here, while you write {job}")
    say("  . .relayq/dev.env           in another terminal: what you dispatch there goes to it")
    say(f'  relayq dispatch {wanted.name} \'{{"name": "Ada"}}\' --queue {queue}')
    say(f"{event} is the body that the API's POST /jobs takes.", style="dim")
