"""`relayq sweep`: do now what the scheduled sweeper would do."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.jobs import known_queue
from relayq_core.cli.output import Column, print_table, say
from relayq_core.cli.params import Queue, duration, flag
from relayq_core.engine.sweeper import Scope

#: As long as the sweeper function may take.
_TICK_MS = 150_000


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "sweep", example="relayq sweep --dry-run --queue emails")(sweep)


def sweep(
    cli: Cli,
    stale: Annotated[
        float | None,
        typer.Option(
            "--stale", metavar="TIME", help="Jobs whose handoff is so old, instead of the setting's.", parser=duration
        ),
    ] = None,
    vt: Annotated[
        float,
        typer.Option(
            "--vt",
            metavar="TIME",
            help="Release only what was claimed so long ago or longer.",
            parser=duration,
            show_default=False,
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Act on so many jobs at most.")
    ] = None,
    queue: Queue = None,
    dry_run: Annotated[bool, flag("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Hand off what nobody ran; end leases that ran out.

    The schedule does this each minute. A live lease is never cut, whatever --vt says.

    JSON: {"dry_run", "counts": {action: number}, "oldest_due_age_ms", "jobs": [{"id", "queue", "action"}]}
    """
    relayq = cli.relayq(hands_off=not dry_run)
    known_queue(relayq, queue)
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
            say("nothing is overdue", style="green")
            return
        columns = (Column("id"), Column("queue"), Column("would be" if dry_run else "was"))
        print_table(columns, [(row.job_id, row.queue, action) for row, action in swept.rows], styles=_STYLES)
        say(", ".join(f"{number} {action}" for action, number in swept.counts.items()), style="bold")

    cli.answer(data, show)


_STYLES = {"nudged": "blue", "released": "yellow", "buried": "red", "error": "red", "unreadable": "red"}
