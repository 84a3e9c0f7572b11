"""`relayq dashboard`: the jobs in a browser, served from this machine for this machine."""

from __future__ import annotations

import importlib.util
import threading
from contextlib import suppress
from typing import Annotated

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.demo import program
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
    command(app, "dashboard", example="relayq dashboard --stack relayq --read-only")(dashboard)


def dashboard(
    cli: Cli,
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="0: a free one.", min=0, max=65_535)] = _PORT,
    read_only: Annotated[
        bool, flag("--read-only", help="Nothing can be dispatched, cancelled, redriven or forgotten from it.")
    ] = False,
) -> int:
    """See queues, jobs and failures in a browser; redrive, cancel, dispatch.

    It is served on 127.0.0.1 until Ctrl-C, and opens for whoever has the link that is printed. Nothing runs in the
    stack for it; what it shows is read when somebody looks.

    JSON: {"url", "address", "token", "read_only"}, once it is served
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise Stop(f"the dashboard is not installed ({missing[0]} is missing): pip install 'relayq[cli,api]'")
    from relayq_core.local.web import serve

    relayq = cli.relayq(hands_off=not read_only)
    jobs = _jobs(cli, relayq)
    try:
        server = serve(
            relayq,
            port,
            may_change=not read_only,
            history=_history(cli, relayq),
            jobs=jobs,
            command=" ".join([program(), *_place(cli)]),
        )
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --port 0") from error
    with server:
        data = {"url": server.url, "address": server.address, "token": server.token, "read_only": read_only}
        cli.answer(data, lambda: _show(server.url, server.address, server.token, local=cli.where.local))
        _until_interrupted()
    return OK


def _jobs(cli: Cli, relayq: RelayQ) -> Registry | None:
    """Those whose code is at hand; where it cannot be imported there are no forms, and the rest is shown."""
    try:
        return cli.jobs_at_hand(relayq.settings)
    except Stop as stop:
        complain("note", str(stop))
        return None


def _until_interrupted() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _history(cli: Cli, relayq: RelayQ) -> History | None:
    """The stack's metrics bear its name; those of `relayq demo` are in its logs."""
    if cli.where.local:
        from relayq_core.local.history import LogHistory
        from relayq_core.local.stack import RUNNER
        from relayq_core.local.state import FOLDER

        return LogHistory([FOLDER / "logs" / f"{RUNNER}.log"], relayq.clock)
    return None if cli.where.stack is None else relayq.history(cli.where.stack)


def _place(cli: Cli) -> list[str]:
    where = cli.where
    given = [("--stack", where.stack), ("--region", where.region), ("--profile", where.profile)]
    return ["--local"] if where.local else [word for name, value in given if value for word in (name, value)]


def _show(url: str, address: str, token: str, *, local: bool) -> None:
    say("The dashboard is served. Open it (the link works once):")
    say(f"  {url}")
    say(f"Another browser on this machine: {address}, and the token {token}", style="dim")
    if local:
        say("Nothing runs jobs here, and other commands with --local wait until this one has ended.", style="dim")
    say("Ctrl-C ends it.", style="dim")
