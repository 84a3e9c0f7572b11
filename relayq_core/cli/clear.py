"""`relayq clear`: cancel the waiting jobs of a queue."""

from __future__ import annotations

from typing import Annotated

import typer

from relayq_core.cli.bulk import Done, Rate, carry_out
from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.jobs import require_queue
from relayq_core.cli.output import say
from relayq_core.cli.params import flag, parse_queue
from relayq_core.cli.prompts import Yes, confirm

#: For the question and the progress bar, a queue is counted up to here.
_COUNTED = 10_000


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "clear", example="relayq clear emails --dry-run")(clear)


def clear(
    cli: Cli,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue to clear.", parser=parse_queue)],
    rate: Rate = None,
    dry_run: Annotated[bool, flag("--dry-run", help="Show what would be cancelled, and do nothing.")] = False,
    yes: Yes = False,
) -> int:
    """Cancel the waiting jobs of a queue; leave the running ones.

    Cancels pending, delayed and retrying jobs that were dispatched before this began, unless a runner claims one
    first. Asks for confirmation, unless --yes is given; Ctrl-C stops after the current job.

    JSON: {"queue", "dry_run", "cancelled", "running", "gone", "refused": [{"id", "reason"}], "stopped"}. Exit code 1
    if a job was refused, or if you stopped it.
    """
    relayq = cli.connect(failed=False)
    require_queue(relayq, queue)
    view = relayq.operations.queue(queue, limit=_COUNTED)
    if view.live and not dry_run:
        live = f"{view.live}{'+' if view.capped else ''} live job{'s' if view.live > 1 else ''}"
        confirm(f"Cancel the waiting jobs of queue {queue} ({live})?", yes=yes, purpose=f"clear queue {queue}")
    done = carry_out(
        lambda stop: relayq.bulk.clear(queue, rate=rate, dry_run=dry_run, stop=stop),
        f"clearing {queue}",
        None if view.capped else view.live,
    )
    answer = {"queue": queue, "dry_run": dry_run, **done.summarize("cancelled", "running", "gone")}
    cli.answer(answer, lambda: _show(queue, done, dry_run=dry_run))
    return done.exit_code


def _show(queue: str, done: Done, *, dry_run: bool) -> None:
    counts = done.tally.counts
    if not counts:
        say(f"no job is waiting or running in queue {queue}", style="green")
    elif dry_run:
        say(f"would cancel {counts['cancelled']}, and leave {counts['running']} running")
    else:
        done.show()
