"""`relayq health`: check that the tables and the sweeper work."""

from __future__ import annotations

import re
from dataclasses import replace

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import ERROR, OK
from relayq_core.cli.jobs import show_queues
from relayq_core.cli.output import say
from relayq_core.operations.health import Health
from relayq_core.operations.serialize import serialize_health


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "health", example="relayq health --stack relayq || echo look")(health)


def health(cli: Cli) -> int:
    """Check that tables and sweeper work and no job is overdue.

    For people and for monitors: exit code 1 means that something is wrong, and the sentences say what. Each queue is
    counted up to 100 jobs. `relayq doctor` examines a deployed stack in depth.

    JSON: {"healthy", "problems": [], "last_sweep_age_ms", "sweep_is_late", "oldest_due_age_ms", "queues"}
    """
    relayq = cli.connect()
    health = relayq.health()
    if cli.target.local:
        health = replace(health, problems=tuple(map(_replace_advice, health.problems)))
    cli.answer(serialize_health(health), lambda: _show(health, relayq.clock.now()))
    return OK if health.healthy else ERROR


def _replace_advice(problem: str) -> str:
    """Return the problem with the advice for this machine, where no schedule runs the sweeper."""
    fact, *advice = re.split("[:;] ", problem, maxsplit=1)
    if not advice or "sweeper" not in problem:
        return problem
    return f"{fact}: on this machine only `relayq --local sweep` runs it"


def _show(health: Health, now: int) -> None:
    for problem in health.problems:
        say(f"unhealthy: {problem}", style="red")
    if health.healthy:
        say("healthy: both tables answer, the sweeper is on time, no job is long overdue", style="green")
    if health.queues or health.last_sweep_age_ms is not None:
        swept_at = None if health.last_sweep_age_ms is None else now - health.last_sweep_age_ms
        show_queues(health.queues, swept_at, now)
