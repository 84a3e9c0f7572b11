"""`relayq failed list|show`: look at the jobs that failed for good."""

from __future__ import annotations

from itertools import islice

import typer

from relayq_core.cli import failed_many
from relayq_core.cli.command import Cli, add_command_group, register_command
from relayq_core.cli.exit_codes import JobNotFound
from relayq_core.cli.failed_many import TABLE, Error, Named, Since, select_failures, show_failures
from relayq_core.cli.jobs import require_queue, say_capped
from relayq_core.cli.output import say
from relayq_core.cli.params import JobId, Limit, Queue
from relayq_core.cli.render import show_job
from relayq_core.model.record import Status
from relayq_core.operations.serialize import serialize_failed, serialize_job


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = add_command_group(app, "failed", help="Look at failed jobs, redrive them, forget them.")
    register_command(group, "list", example="relayq failed list --queue emails")(list_failed)
    register_command(group, "show", example="relayq failed show 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(show)
    failed_many.add_to(group)


def list_failed(
    cli: Cli, queue: Queue = None, job: Named = None, error: Error = None, since: Since = None, limit: Limit = 100
) -> None:
    """List the jobs that failed for good, newest first.

    A job has to match every filter given. --error searches the first 200 bytes of the error.

    JSON: {"jobs": [{"id", "name", "queue", "attempt", "failed_at", "failed_at_ms", "error"}]}
    """
    relayq = cli.connect()
    require_queue(relayq, queue)
    now = relayq.clock.now()
    selection = select_failures(now, queue, job, error, since)
    failures = list(islice(relayq.operations.failures(selection), limit))

    def show_all() -> None:
        if not failures:
            which = "no failed job matches" if job or error or since else "no job has failed"
            say(which + (f" in queue {queue}" if queue else ""), style="green")
            return
        show_failures(failures, now)
        say_capped(len(failures), limit)

    cli.answer({"jobs": [serialize_failed(job) for job in failures]}, show_all)


def show(cli: Cli, job_id: JobId) -> None:
    """Show one failed job, with its errors and payload.

    The error says where it came from. JSON: the object of `relayq status`.
    """
    relayq = cli.connect()
    job = relayq.get(job_id)
    if job is None or job.status is not Status.FAILED:
        raise JobNotFound(job_id, TABLE if job is None else f"{TABLE}: it is {job.status.value}")
    cli.answer(serialize_job(job, whole=True), lambda: show_job(job, relayq.clock.now()))
