"""`relayq queues`, `list`, `status` and `cancel`: look at waiting and running jobs, and cancel one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import ERROR, OK, JobNotFound, NotFound, Stop
from relayq_core.cli.output import (
    STATUS_STYLES,
    Column,
    build_table,
    format_age,
    format_time,
    is_fancy,
    print_table,
    say,
)
from relayq_core.cli.params import JobId, Limit, LiveStatus, Queue, flag, parse_queue
from relayq_core.cli.render import LIVE_COLUMNS, format_live_row, get_exit_code, show_ended, show_job
from relayq_core.cli.watch import expect_deleted, follow_job, watch_screen
from relayq_core.client import RelayQ
from relayq_core.dashboard.words import format_span
from relayq_core.errors import suggest
from relayq_core.model.record import Status
from relayq_core.operations.health import QueueView
from relayq_core.operations.serialize import serialize_job, serialize_queue, serialize_times


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    register_command(app, "queues", example="relayq queues --stack relayq")(queues)
    register_command(app, "list", example="relayq list --queue emails --status retrying")(list_jobs)
    register_command(app, "status", example="relayq status 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(status)
    register_command(app, "cancel", example="relayq cancel 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(cancel)


def queues(
    cli: Cli,
    forget: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[forget NAME]", help="Forget the name of a queue that has no jobs.", show_default=False
        ),
    ] = None,
    watch: Annotated[bool, flag("--watch", help="Update the table every two seconds, until Ctrl-C.")] = False,
) -> int:
    """List the queues, with their live and overdue jobs.

    Live jobs are waiting or running. Overdue jobs are those that the sweeper should have handled by now; between two
    sweeps a few of them are normal. --watch is for people at a terminal.

    `relayq queues forget NAME` makes room for another name. It is refused while the queue has jobs, live or failed;
    the queue is still swept for one more day.

    JSON: {"queues": [{"queue", "live", "overdue", "oldest_due_age_ms", "capped"}], "swept_at", "swept_at_ms"}; for
    forget {"forgotten"}, the name.
    """
    if forget:
        return _forget(cli, forget)
    if watch and (cli.json or not is_fancy(sys.stdout)):
        raise typer.BadParameter("--watch needs a terminal; a program can poll `relayq queues --json`")
    relayq = cli.connect(failed=False)
    if watch:
        watch_screen(lambda: _render_queues(relayq))
        return OK
    views, swept_at = relayq.queues(), _read_swept_at(relayq)
    data = {"queues": [serialize_queue(view) for view in views], **serialize_times(swept_at=swept_at)}
    cli.answer(data, lambda: show_queues(views, swept_at, relayq.clock.now()))
    return OK


def _forget(cli: Cli, words: list[str]) -> int:
    if len(words) != 2 or words[0] != "forget":
        raise typer.BadParameter("expected no argument, or: forget NAME")
    relayq, queue = cli.connect(), parse_queue(words[1])
    require_queue(relayq, queue)
    if not relayq.operations.forget_queue(queue):
        raise NotFound(f"queue {queue!r} is forgotten already; it is still swept for one more day")
    message = f"{queue} is forgotten; it is still swept for one more day"
    cli.answer({"forgotten": queue}, lambda: say(message, style="green"))
    return OK


def list_jobs(
    cli: Cli,
    queue: Queue = None,
    status: LiveStatus = None,
    limit: Limit = 100,
) -> None:
    """List the waiting and running jobs, by when they are due.

    Ended jobs are not listed: `relayq failed list` lists those that failed, `relayq status` shows any job by its id.
    With --status, the first 10000 jobs that are due are searched, or more if --limit is larger.

    JSON: {"jobs": [{"id", "name", "queue", "status", "attempt", "max_attempts", times, "error", "errors"}],
    "looked_at", "capped"}; capped: there are more jobs than were searched.
    """
    relayq = cli.connect(failed=False)
    require_queue(relayq, queue)
    scan = relayq.operations.find_live(queue, status, limit=limit)
    jobs, now = scan.jobs, relayq.clock.now()
    is_cut_short = scan.capped and len(jobs) < limit

    def show() -> None:
        if jobs:
            print_table(LIVE_COLUMNS, [format_live_row(job, now) for job in jobs], styles=STATUS_STYLES)
            if is_cut_short:
                say(f"among the first {scan.looked_at}; {_FURTHER}", style="dim")
            elif scan.capped:
                say_capped(len(jobs), limit)
            return
        where = f" in queue {queue}" if queue else ""
        none = f"no job{where} is {status.value}" if status else f"no job is waiting or running{where}"
        say(f"{none} among the first {scan.looked_at}; {_FURTHER}" if is_cut_short else none)

    data = {"jobs": [serialize_job(job) for job in jobs], "looked_at": scan.looked_at, "capped": scan.capped}
    cli.answer(data, show)


def status(
    cli: Cli,
    job_id: JobId,
    follow: Annotated[
        bool, flag("--follow", "-f", help="Wait for its end; exit code 0 completed, 3 failed or cancelled.")
    ] = False,
) -> int:
    """Show one job: its state, attempts, errors and result.

    With --follow the command waits until the job has ended, and shows each change of its state, its attempt and the
    progress that its handler reports.

    JSON: the object of `list`, with "payload", "result", "result_problem" (why the result is not kept), "progress",
    "backoff", "timeout", "unique" and "parent_id"; with --follow {"id", "status": null} if completed jobs are not kept.
    Exit code 4 if there is no such job, or if it disappears.
    """
    if follow and cli.target.local:
        raise typer.BadParameter(
            "--follow needs a runner, and --local has none; run the job with `relayq --local run --id ID`"
        )
    relayq = cli.connect()
    job = relayq.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    if follow:
        ended = follow_job(relayq, job_id, quiet=cli.json)
        if ended is None:
            expect_deleted(relayq, job_id)
            cli.answer({"id": job_id, "status": None}, lambda: show_ended(None, 0))
            return OK
        job = ended
    cli.answer(serialize_job(job, whole=True), lambda: show_job(job, relayq.clock.now()))
    return get_exit_code(job) if follow else OK


def cancel(cli: Cli, job_id: JobId) -> int | None:
    """Cancel a waiting job; ask a running one to stop.

    A running job ends as cancelled, unless it succeeds.

    JSON: the object of `list`, for the job as it is afterwards. Exit code 1 if it has already ended in another way.
    """
    relayq = cli.connect()
    job = relayq.cancel(job_id)
    if job is None:
        raise JobNotFound(job_id)
    if job.status.is_ended and job.status is not Status.CANCELLED:
        raise Stop(f"job {job_id!r} is {job.status.value} already; there is nothing to cancel", ERROR)
    running = job.status is Status.PROCESSING

    def show() -> None:
        if running:
            say(f"{job_id} is running: it will end as cancelled, unless it succeeds", style="yellow")
        else:
            say(f"{job_id} cancelled", style="green")

    cli.answer(serialize_job(job), show)
    return None


def require_queue(relayq: RelayQ, queue: str | None) -> None:
    """Raise NotFound for a queue that no job was ever dispatched to; None stands for all queues."""
    if queue is None or queue in (known := relayq.store.list_queues()):
        return
    raise NotFound(f"there is no queue {queue!r}.{suggest(queue, known)} Known: {', '.join(known) or 'none yet'}")


def say_capped(shown: int, limit: int) -> None:
    """Say that there may be more, if as many were shown as the limit allows."""
    if shown >= limit:
        say(f"the first {limit}; --limit N shows more", style="dim")


def show_queues(views: Sequence[QueueView], swept_at: int | None, now: int) -> None:
    """Print a table of queues, and when they were last swept."""
    if not views:
        say(_NO_QUEUE)
        return
    print_table(_QUEUE_COLUMNS, _format_queues(views))
    say(_describe_sweep(swept_at, now), style="dim")


def _render_queues(relayq: RelayQ) -> RenderableType:
    """Return the same for a screen that is updated."""
    views, swept_at, now = relayq.queues(), _read_swept_at(relayq), relayq.clock.now()
    table = build_table(_QUEUE_COLUMNS, _format_queues(views), {}) if views else Text(_NO_QUEUE)
    return Group(table, Text(f"{_describe_sweep(swept_at, now)}; {format_time(now)}; Ctrl-C to quit", style="dim"))


_FURTHER = "a larger --limit searches more"
_NO_QUEUE = "no queues yet: the first dispatch creates one"
_QUEUE_COLUMNS = (Column("queue"), Column("live", right=True), Column("overdue", right=True), Column("oldest due"))


def _format_queues(views: Sequence[QueueView]) -> list[list[str]]:
    return [
        [
            view.queue,
            f"{view.live}{'+' if view.capped else ''}",
            str(view.overdue),
            f"for {format_span(view.oldest_due_age_ms)}" if view.oldest_due_age_ms else "",
        ]
        for view in views
    ]


def _read_swept_at(relayq: RelayQ) -> int | None:
    tick = relayq.store.read_last_tick()
    return tick[0] if tick else None


def _describe_sweep(swept_at: int | None, now: int) -> str:
    return f"last swept {format_age(swept_at, now)}" if swept_at else "not swept yet"
