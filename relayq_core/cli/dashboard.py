"""`relayq dashboard`: serve the dashboard on this machine, for browsers on this machine."""

from __future__ import annotations

import importlib.util
import threading
from contextlib import suppress
from typing import Annotated

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.demo import get_program
from relayq_core.cli.exit_codes import OK, Stop
from relayq_core.cli.output import complain, say
from relayq_core.cli.params import flag
from relayq_core.client import RelayQ
from relayq_core.jobs.registry import Registry
from relayq_core.ports import History

_NEEDED = ("aws_lambda_powertools", "jinja2")
_PORT = 8642


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "dashboard", example="relayq dashboard --stack relayq --read-only")(dashboard)


def dashboard(
    cli: Cli,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="The port to serve on; 0: any free one.", min=0, max=65_535)
    ] = _PORT,
    read_only: Annotated[bool, flag("--read-only", help="Allow no dispatch, cancel, redrive or forget.")] = False,
) -> int:
    """See queues, jobs and failures in a browser, and act on them.

    Serves the dashboard on 127.0.0.1 until Ctrl-C, for the link that it prints. It runs nothing in the
    stack, and reads the tables only when a page is opened.

    JSON: {"url", "address", "token", "read_only"}, once it is served
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise Stop(f"the dashboard is not installed ({missing[0]} is missing): pip install 'relayq[cli,api]'")
    from relayq_core.local.web import serve

    relayq = cli.connect(hands_off=not read_only)
    jobs = _load_jobs(cli, relayq)
    try:
        server = serve(
            relayq,
            port,
            may_change=not read_only,
            history=_open_history(cli, relayq),
            jobs=jobs,
            command=" ".join([get_program(), *_list_place_options(cli)]),
        )
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --port 0") from error
    with server:
        data = {"url": server.url, "address": server.address, "token": server.token, "read_only": read_only}
        cli.answer(data, lambda: _show(server.url, server.address, server.token, local=cli.target.local))
        _wait_for_interrupt()
    return OK


def _load_jobs(cli: Cli, relayq: RelayQ) -> Registry | None:
    """Return the job types whose code is here; without them the dashboard has no forms to dispatch jobs."""
    try:
        return cli.load_jobs_if_found(relayq.settings)
    except Stop as stop:
        complain("note", str(stop))
        return None


def _wait_for_interrupt() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _open_history(cli: Cli, relayq: RelayQ) -> History | None:
    """Return the history of the stack's metrics, or of those in the logs of `relayq demo`."""
    if cli.target.local:
        from relayq_core.local.history import LogHistory
        from relayq_core.local.stack import RUNNER
        from relayq_core.local.state import FOLDER

        return LogHistory([FOLDER / "logs" / f"{RUNNER}.log"], relayq.clock)
    return None if cli.target.stack is None else relayq.history(cli.target.stack)


def _list_place_options(cli: Cli) -> list[str]:
    where = cli.target
    options = [("--stack", where.stack), ("--region", where.region), ("--profile", where.profile)]
    return ["--local"] if where.local else [word for name, value in options if value for word in (name, value)]


def _show(url: str, address: str, token: str, *, local: bool) -> None:
    say("The dashboard is served. Open it (the link works once):")
    say(f"  {url}")
    say(f"In another browser on this machine: {address}, with the token {token}", style="dim")
    if local:
        say("No runner works here, and other commands with --local wait until this one ends.", style="dim")
    say("Press Ctrl-C to stop.", style="dim")
