"""`relayq sweep`: sweep once, as the scheduled sweeper does."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.jobs import require_queue
from relayq_core.cli.output import Column, print_table, say
from relayq_core.cli.params import Queue, flag, parse_duration
from relayq_core.engine.sweeper import Scope

#: The timeout of the sweeper function.
_TICK_MS = 150_000


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "sweep", example="relayq sweep --dry-run --queue emails")(sweep)


def sweep(
    cli: Cli,
    stale: Annotated[
        float | None,
        typer.Option(
            "--stale", metavar="TIME", help="How old a handoff must be, instead of the setting.", parser=parse_duration
        ),
    ] = None,
    vt: Annotated[
        float,
        typer.Option(
            "--vt",
            metavar="TIME",
            help="Release only jobs that were claimed at least TIME ago.",
            parser=parse_duration,
            show_default=False,
        ),
    ] = 0.0,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Act on at most N jobs.")] = None,
    queue: Queue = None,
    dry_run: Annotated[bool, flag("--dry-run", help="Show what would be done, and do nothing.")] = False,
) -> None:
    """Hand off overdue jobs again; release those whose lease expired.

    The schedule does this every minute. A lease that has not expired is never ended, whatever --vt says.

    JSON: {"dry_run", "counts": {action: number}, "oldest_due_age_ms", "jobs": [{"id", "queue", "action"}]}
    """
    relayq = cli.connect(hands_off=not dry_run)
    require_queue(relayq, queue)
    scope = Scope(
        queues=None if queue is None else [queue],
        stale_ms=None if stale is None else round(stale * 1000),
        claimed_before_ms=round(vt * 1000),
        limit=limit,
        dry_run=dry_run,
    )
    ends = time.monotonic() * 1000 + _TICK_MS
    swept = relayq.sweeper.sweep(lambda: int(ends - time.monotonic() * 1000), scope)
    data = {
        "dry_run": dry_run,
        "counts": dict(swept.counts),
        "oldest_due_age_ms": swept.oldest_due_age_ms,
        "jobs": [{"id": row.job_id, "queue": row.queue, "action": action} for row, action in swept.rows],
    }

    def show() -> None:
        if not swept.rows:
            say("no job is overdue", style="green")
            return
        columns = (Column("id"), Column("queue"), Column("would be" if dry_run else "was"))
        print_table(columns, [(row.job_id, row.queue, action) for row, action in swept.rows], styles=_STYLES)
        say(", ".join(f"{number} {action}" for action, number in swept.counts.items()), style="bold")

    cli.answer(data, show)


_STYLES = {"nudged": "blue", "released": "yellow", "buried": "red", "error": "red", "unreadable": "red"}
