"""`relayq queues`, `list`, `status` and `cancel`: look at jobs that wait or run, and stop one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import ERROR, NOT_FOUND, OK, Stop, no_such_job
from relayq_core.cli.output import STATUS_STYLES, Column, age, is_fancy, moment, print_table, say, span, table_of
from relayq_core.cli.params import JobId, Limit, LiveStatus, Queue, flag, queue_name
from relayq_core.cli.render import LIVE_COLUMNS, exit_of, live_row, show_ended, show_job
from relayq_core.cli.watch import followed, gone_well, watched
from relayq_core.client import RelayQ
from relayq_core.errors import suggest
from relayq_core.model.record import Status
from relayq_core.operations.health import QueueView
from relayq_core.operations.serialize import job_shape, queue_shape, times


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "queues", example="relayq queues --stack relayq")(queues)
    command(app, "list", example="relayq list --queue emails --status retrying")(list_jobs)
    command(app, "status", example="relayq status 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(status)
    command(app, "cancel", example="relayq cancel 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(cancel)


def queues(
    cli: Cli,
    forget: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[forget NAME]", help="Take back the name of a queue that has no jobs.", show_default=False
        ),
    ] = None,
    watch: Annotated[bool, flag("--watch", help="Show them anew every two seconds, until Ctrl-C.")] = False,
) -> int:
    """Every queue, how much waits and what is overdue.

    `relayq queues forget NAME` makes room for another one, and is refused while the queue has jobs, live or failed; it
    is swept for a day more.

    Live is what waits or runs. Overdue is what the sweeper should have looked at by now; for the time between two
    ticks that is no trouble. --watch is for people at a terminal.

    JSON: {"queues": [{"queue", "live", "overdue", "oldest_due_age_ms", "capped"}], "swept_at", "swept_at_ms"}; of
    forget {"forgotten"}, the name.
    """
    if forget:
        return _forget(cli, forget)
    if watch and (cli.json or not is_fancy(sys.stdout)):
        raise typer.BadParameter("--watch is for a terminal; a program asks again: relayq queues --json")
    relayq = cli.relayq(failed=False)
    if watch:
        watched(lambda: _watched_queues(relayq))
        return OK
    views, swept_at = relayq.queues(), _swept_at(relayq)
    data = {"queues": [queue_shape(view) for view in views], **times(swept_at=swept_at)}
    cli.answer(data, lambda: show_queues(views, swept_at, relayq.clock.now()))
    return OK


def _forget(cli: Cli, words: list[str]) -> int:
    if len(words) != 2 or words[0] != "forget":
        raise typer.BadParameter("expected nothing, or: forget NAME")
    relayq, queue = cli.relayq(), queue_name(words[1])
    known_queue(relayq, queue)
    if not relayq.operations.forget_queue(queue):
        raise Stop(f"queue {queue!r} is forgotten already; it is swept for a day more", NOT_FOUND, kind="NotFound")
    cli.answer({"forgotten": queue}, lambda: say(f"{queue} is forgotten; it is swept for a day more", style="green"))
    return OK


def list_jobs(
    cli: Cli,
    queue: Queue = None,
    status: LiveStatus = None,
    limit: Limit = 100,
) -> None:
    """The jobs that wait or run, by when they are due.

    Ended jobs are not listed: `relayq failed list` has those that failed, `relayq status` any one by its id. Those of
    one --status are looked for among the first 10000 that are due, or as many as --limit says.

    JSON: {"jobs": [{"id", "name", "queue", "status", "attempt", "max_attempts", times, "error", "errors"}],
    "looked_at", "capped"}; capped: there are more than were looked at.
    """
    relayq = cli.relayq(failed=False)
    known_queue(relayq, queue)
    found = relayq.operations.find_live(queue, status, limit=limit)
    jobs, now = found.jobs, relayq.clock.now()
    cut_short = found.capped and len(jobs) < limit

    def show() -> None:
        if jobs:
            print_table(LIVE_COLUMNS, [live_row(job, now) for job in jobs], styles=STATUS_STYLES)
            if cut_short:
                say(f"of the first {found.looked_at}; {_FURTHER}", style="dim")
            elif found.capped:
                say_capped(len(jobs), limit)
            return
        where = f" in queue {queue}" if queue else ""
        none = f"no job{where} is {status.value}" if status else f"no job waits or runs{where}"
        say(f"{none} among the first {found.looked_at}; {_FURTHER}" if cut_short else none)

    data = {"jobs": [job_shape(job) for job in jobs], "looked_at": found.looked_at, "capped": found.capped}
    cli.answer(data, show)


def status(
    cli: Cli,
    job_id: JobId,
    follow: Annotated[
        bool, flag("--follow", "-f", help="Until it has ended; exit 0 completed, 3 failed or cancelled.")
    ] = False,
) -> int:
    """One job, whole: state, attempts, errors, result.

    With --follow it is shown once it has ended, and on the way each change: its state, its attempts, and what its
    handler says of its progress.

    JSON: the object of `list`, and "payload", "result", "result_problem" (why it is not kept), "progress", "backoff",
    "timeout", "unique", "parent_id"; with --follow {"id", "status": null} where completed jobs are not kept. Exit code
    4 if it is not there, or vanishes.
    """
    if follow and cli.where.local:
        raise typer.BadParameter("--follow needs a runner, and --local has none: relayq --local run --id ID runs a job")
    relayq = cli.relayq()
    job = relayq.get(job_id)
    if job is None:
        raise no_such_job(job_id)
    if follow:
        ended = followed(relayq, job_id, quiet=cli.json)
        if ended is None:
            gone_well(relayq, job_id)
            cli.answer({"id": job_id, "status": None}, lambda: show_ended(None, 0))
            return OK
        job = ended
    cli.answer(job_shape(job, whole=True), lambda: show_job(job, relayq.clock.now()))
    return exit_of(job) if follow else OK


def cancel(cli: Cli, job_id: JobId) -> int | None:
    """Cancel a job that waits; mark one that runs.

    A marked job ends as cancelled, but if it succeeds all the same, that counts.

    JSON: the object of `list`, as the job then is. Exit code 1 if it had ended in another way before.
    """
    relayq = cli.relayq()
    job = relayq.cancel(job_id)
    if job is None:
        raise no_such_job(job_id)
    if job.status.is_ended and job.status is not Status.CANCELLED:
        raise Stop(f"job {job_id!r} is {job.status.value} already: there is nothing to cancel", ERROR)
    running = job.status is Status.PROCESSING

    def show() -> None:
        if running:
            say(f"{job_id} runs; marked: it ends as cancelled, unless it succeeds", style="yellow")
        else:
            say(f"{job_id} cancelled", style="green")

    cli.answer(job_shape(job), show)
    return None


def known_queue(relayq: RelayQ, queue: str | None) -> None:
    """Raises Stop for a queue that nothing was ever dispatched to."""
    if queue is None or queue in (known := relayq.store.list_queues()):
        return
    raise Stop(
        f"there is no queue {queue!r}.{suggest(queue, known)} Known: {', '.join(known) or 'none yet'}",
        NOT_FOUND,
        kind="NotFound",
    )


def say_capped(shown: int, limit: int) -> None:
    """There may be more than was asked for."""
    if shown >= limit:
        say(f"the first {limit}; --limit N shows more", style="dim")


def show_queues(views: Sequence[QueueView], swept_at: int | None, now: int) -> None:
    """A table of queues, and when they were last swept."""
    if not views:
        say(_NO_QUEUE)
        return
    print_table(_QUEUE_COLUMNS, _queue_rows(views))
    say(_swept(swept_at, now), style="dim")


def _watched_queues(relayq: RelayQ) -> RenderableType:
    """The same for a screen that is drawn anew."""
    views, swept_at, now = relayq.queues(), _swept_at(relayq), relayq.clock.now()
    shown = table_of(_QUEUE_COLUMNS, _queue_rows(views), {}) if views else Text(_NO_QUEUE)
    return Group(shown, Text(f"{_swept(swept_at, now)}; {moment(now)}; Ctrl-C ends this", style="dim"))


_FURTHER = "a larger --limit looks further"
_NO_QUEUE = "no queue yet: the first dispatch makes one"
_QUEUE_COLUMNS = (Column("queue"), Column("live", right=True), Column("overdue", right=True), Column("oldest due"))


def _queue_rows(views: Sequence[QueueView]) -> list[list[str]]:
    return [
        [
            view.queue,
            f"{view.live}{'+' if view.capped else ''}",
            str(view.overdue),
            f"for {span(view.oldest_due_age_ms)}" if view.oldest_due_age_ms else "",
        ]
        for view in views
    ]


def _swept_at(relayq: RelayQ) -> int | None:
    tick = relayq.store.read_last_tick()
    return tick[0] if tick else None


def _swept(swept_at: int | None, now: int) -> str:
    return f"last swept {age(swept_at, now)}" if swept_at else "never swept yet"
