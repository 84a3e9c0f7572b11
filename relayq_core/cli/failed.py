"""`relayq failed list|show`: what failed for good."""

from __future__ import annotations

from itertools import islice

import typer

from relayq_core.cli import failed_many
from relayq_core.cli.command import Cli, command, command_group
from relayq_core.cli.exit_codes import no_such_job
from relayq_core.cli.failed_many import TABLE, Error, Named, Since, failures, show_failures
from relayq_core.cli.jobs import known_queue, say_capped
from relayq_core.cli.output import say
from relayq_core.cli.params import JobId, Limit, Queue
from relayq_core.cli.render import show_job
from relayq_core.model.record import Status
from relayq_core.operations.serialize import failed_shape, job_shape


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = command_group(app, "failed", help="Jobs that failed for good: look, bring back, forget.")
    command(group, "list", example="relayq failed list --queue emails")(list_failed)
    command(group, "show", example="relayq failed show 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(show)
    failed_many.add_to(group)


def list_failed(
    cli: Cli, queue: Queue = None, job: Named = None, error: Error = None, since: Since = None, limit: Limit = 100
) -> None:
    """The jobs that failed for good, newest first.

    All filters that are given have to fit. --error looks at the first 200 bytes of the error.

    JSON: {"jobs": [{"id", "name", "queue", "attempt", "failed_at", "failed_at_ms", "error"}]}
    """
    relayq = cli.relayq()
    known_queue(relayq, queue)
    now = relayq.clock.now()
    meant = failures(now, queue, job, error, since)
    found = list(islice(relayq.operations.failures(meant), limit))

    def show_all() -> None:
        if not found:
            narrowed = " like that" if job or error or since else ""
            say(f"no job{narrowed} has failed" + (f" in queue {queue}" if queue else ""), style="green")
            return
        show_failures(found, now)
        say_capped(len(found), limit)

    cli.answer({"jobs": [failed_shape(job) for job in found]}, show_all)


def show(cli: Cli, job_id: JobId) -> None:
    """One failed job, whole: its errors and payload.

    The error says where it came from. JSON: the object of `relayq status`.
    """
    relayq = cli.relayq()
    job = relayq.get(job_id)
    if job is None or job.status is not Status.FAILED:
        raise no_such_job(job_id, TABLE if job is None else f"{TABLE}: it is {job.status.value}")
    cli.answer(job_shape(job, whole=True), lambda: show_job(job, relayq.clock.now()))
