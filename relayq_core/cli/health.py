"""`relayq health`: is all well?"""

from __future__ import annotations

import re
from dataclasses import replace

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import ERROR, OK
from relayq_core.cli.jobs import show_queues
from relayq_core.cli.output import say
from relayq_core.operations.health import Health
from relayq_core.operations.serialize import health_shape


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "health", example="relayq health --stack relayq || echo look")(health)


def health(cli: Cli) -> int:
    """Do the tables answer, is the sweeper on time, is nothing overdue?

    For people and for monitors: exit code 1 says that something is wrong, and the sentences say what. Queues are
    counted up to 100. `relayq doctor` looks deeper into a deployed stack.

    JSON: {"healthy", "problems": [], "last_sweep_age_ms", "sweep_is_late", "oldest_due_age_ms", "queues"}
    """
    relayq = cli.relayq()
    found = relayq.health()
    if cli.where.local:
        found = replace(found, problems=tuple(map(_here, found.problems)))
    cli.answer(health_shape(found), lambda: _show(found, relayq.clock.now()))
    return OK if found.healthy else ERROR


def _here(problem: str) -> str:
    """The same problem where nothing is deployed: no schedule sweeps between two commands."""
    fact, *advice = re.split("[:;] ", problem, maxsplit=1)
    if not advice or "sweeper" not in problem:
        return problem
    return f"{fact}: here nothing sweeps but `relayq --local sweep`"


def _show(found: Health, now: int) -> None:
    for problem in found.problems:
        say(f"unhealthy: {problem}", style="red")
    if found.healthy:
        say("healthy: both tables answer, the sweeper is on time, nothing is long overdue", style="green")
    if found.queues or found.last_sweep_age_ms is not None:
        swept_at = None if found.last_sweep_age_ms is None else now - found.last_sweep_age_ms
        show_queues(found.queues, swept_at, now)
