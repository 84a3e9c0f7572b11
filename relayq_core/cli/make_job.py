"""`relayq make-job`: write a job, its test and its event."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from relayq_core.cli import scaffold
from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import Stop
from relayq_core.cli.output import say
from relayq_core.cli.params import parse_queue
from relayq_core.errors import InvalidOption


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "make-job", example="relayq make-job SendInvoice --queue billing", place=False)(make_job)


def make_job(
    cli: Cli,
    name: Annotated[str, typer.Argument(metavar="NAME", help="SendInvoice writes a class, send_invoice a function.")],
    queue: Annotated[
        str, typer.Option("--queue", metavar="QUEUE", help="The job's queue.", parser=parse_queue)
    ] = "default",
) -> None:
    """Write a job, its test and its event.

    The test passes as it is written. The job goes to the first of functions/runner/jobs (RelayQ's own repository),
    src/jobs and jobs that exists; if there is none, to src/jobs. Nothing is overwritten.

    JSON: {"name", "files": [path]}
    """
    try:
        names = scaffold.parse_names(name)
    except InvalidOption as error:
        raise typer.BadParameter(error.problem) from error
    root = Path.cwd()
    files = scaffold.render_files(names, queue, scaffold.find_layout(root))
    _refuse_taken(cli, names, [path for path in files if (root / path).exists()])
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    cli.answer(
        {"name": names.name, "files": [path.as_posix() for path in files]}, lambda: _show(names, queue, list(files))
    )


def _refuse_taken(cli: Cli, names: scaffold.Names, existing: list[Path]) -> None:
    if existing:
        raise Stop(f"{existing[0]} exists already; nothing was written")
    jobs = None
    with suppress(Exception):  # modules that cannot be imported hold no names to compare with
        jobs = cli.load_jobs_if_found(cli.load_settings())
    if jobs is not None and names.name in jobs:
        raise Stop(f"there is a job {names.name!r} already, {jobs[names.name].origin}; nothing was written")


def _show(names: scaffold.Names, queue: str, files: list[Path]) -> None:
    for path in files:
        say(f"wrote {path}", style="green")
    job, test, event, *_ = files
    say("Next:")
    say(f"  python -m pytest {test}")
    say(f"  relayq dev                  runs it here while you write {job}")
    say("  . .relayq/dev.env           in another terminal, so that it dispatches to it")
    say(f'  relayq dispatch {names.name} \'{{"name": "Ada"}}\' --queue {queue}')
    say(f"{event} is a body for POST /jobs of the API.", style="dim")
