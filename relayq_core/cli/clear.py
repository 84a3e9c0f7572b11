"""`relayq clear`: cancel what waits in a queue."""

from __future__ import annotations

from typing import Annotated

import typer

from relayq_core.cli.bulk import Done, Rate, carried_out
from relayq_core.cli.command import Cli, command
from relayq_core.cli.jobs import known_queue
from relayq_core.cli.output import say
from relayq_core.cli.params import flag, queue_name
from relayq_core.cli.prompts import Yes, confirm

#: Further than this a queue is not counted for the question and the bar.
_COUNTED = 10_000


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "clear", example="relayq clear emails --dry-run")(clear)


def clear(
    cli: Cli,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue to clear.", parser=queue_name)],
    rate: Rate = None,
    dry_run: Annotated[bool, flag("--dry-run", help="Say what would be cancelled, and do nothing.")] = False,
    yes: Yes = False,
) -> int:
    """Cancel what waits in a queue; what runs is left.

    Pending, delayed and retrying jobs that were dispatched before this began end as cancelled. A job that a runner
    takes meanwhile runs. Asks first, unless --yes is given; Ctrl-C stops after the job in hand.

    JSON: {"queue", "dry_run", "cancelled", "running", "gone", "refused": [{"id", "reason"}], "stopped"}. Exit code 1
    if any was refused, or it was stopped.
    """
    relayq = cli.relayq(failed=False)
    known_queue(relayq, queue)
    view = relayq.operations.queue(queue, limit=_COUNTED)
    if view.live and not dry_run:
        live = f"{view.live}{'+' if view.capped else ''} live job{'s' if view.live > 1 else ''}"
        confirm(f"Cancel what waits in queue {queue} ({live})?", yes=yes, purpose=f"clear queue {queue}")
    done = carried_out(
        lambda stop: relayq.bulk.clear(queue, rate=rate, dry_run=dry_run, stop=stop),
        f"clearing {queue}",
        None if view.capped else view.live,
    )
    answer = {"queue": queue, "dry_run": dry_run, **done.shape("cancelled", "running", "gone")}
    cli.answer(answer, lambda: _show(queue, done, dry_run=dry_run))
    return done.exit_code


def _show(queue: str, done: Done, *, dry_run: bool) -> None:
    counts = done.tally.counts
    if not counts:
        say(f"nothing waits or runs in queue {queue}", style="green")
    elif dry_run:
        say(f"would cancel {counts['cancelled']}, and leave {counts['running']} that run")
    else:
        done.show()
