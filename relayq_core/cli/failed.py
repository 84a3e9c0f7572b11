"""`relayq failed list|show|redrive|forget`: what failed for good, and what becomes of it."""

from __future__ import annotations

import typer

from relayq_core.cli.command import Cli, command, command_group
from relayq_core.cli.exits import no_such_job
from relayq_core.cli.jobs import known_queue, say_capped
from relayq_core.cli.output import Column, age, print_table, say
from relayq_core.cli.values import JobId, Limit, Queue
from relayq_core.cli.view import show_job
from relayq_core.record import Status
from relayq_core.shapes import failed_shape, headline, job_shape

_TABLE = "in the failed table"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = command_group(app, "failed", help="Jobs that failed for good: look, bring back, forget.")
    command(group, "list", example="relayq failed list --queue emails")(list_failed)
    command(group, "show", example="relayq failed show 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(show)
    command(group, "redrive", example="relayq failed redrive 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(redrive)
    command(group, "forget", example="relayq failed forget 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(forget)


def list_failed(cli: Cli, queue: Queue = None, limit: Limit = 100) -> None:
    """The jobs that failed for good, newest first.

    JSON: {"jobs": [{"id", "name", "queue", "attempt", "failed_at", "failed_at_ms", "error"}]}
    """
    relayq = cli.relayq()
    known_queue(relayq, queue)
    found = relayq.failed(queue, limit=limit)
    now = relayq.clock.now()
    data = [failed_shape(job) for job in found]

    def show_all() -> None:
        if not found:
            say("no job has failed" + (f" in queue {queue}" if queue else ""), style="green")
            return
        columns = (
            Column("id"),
            Column("name"),
            Column("queue"),
            Column("tries", right=True),
            Column("failed"),
            Column("error", wide=True),
        )
        rows = [
            (job.id, job.name, job.queue, str(job.attempt), age(job.finished_at, now), headline(job)) for job in found
        ]
        print_table(columns, rows)
        say_capped(len(found), limit)

    cli.answer({"jobs": data}, show_all)


def show(cli: Cli, job_id: JobId) -> None:
    """One failed job, whole: its errors and payload.

    The error says where it came from. JSON: the object of `relayq status`.
    """
    relayq = cli.relayq()
    job = relayq.get(job_id)
    if job is None or job.status is not Status.FAILED:
        raise no_such_job(job_id, _TABLE if job is None else f"{_TABLE}: it is {job.status.value}")
    cli.answer(job_shape(job, whole=True), lambda: show_job(job, relayq.clock.now()))


def redrive(cli: Cli, job_id: JobId) -> None:
    """Bring a failed job back, with all its tries.

    It keeps its id, and is handed to a runner. Refused while another job has its unique key. JSON: the object of
    `relayq list`, as the job then is.
    """
    relayq = cli.relayq(hands_off=True)
    job = relayq.redrive(job_id)
    if job is None:
        raise no_such_job(job_id, _TABLE)

    def show_redriven() -> None:
        say(f"{job_id} is {job.status.value} again", style="green")
        if cli.where.local:
            say(f"Nobody runs it by itself here: relayq --local run --id {job_id}")

    cli.answer(job_shape(job), show_redriven)


def forget(cli: Cli, job_id: JobId) -> None:
    """Delete a failed job; there is no way back.

    JSON: {"id", "forgotten": true}
    """
    if not cli.relayq().forget(job_id):
        raise no_such_job(job_id, _TABLE)
    cli.answer({"id": job_id, "forgotten": True}, lambda: say(f"{job_id} is forgotten"))
