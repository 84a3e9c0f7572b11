"""`relayq run`: run a job here."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from relayq_core import api
from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import ERROR, JOB_FAILED, STILL_RUNNING, no_such_job
from relayq_core.cli.output import age, say
from relayq_core.cli.params import epoch_ms, id_of_job
from relayq_core.cli.render import exit_of, show_ended
from relayq_core.client import RelayQ
from relayq_core.engine.results import RunOutcome, RunResult
from relayq_core.errors import UnknownJob
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.serialize import headline, job_shape
from relayq_core.process.loggers import job_logger

#: As long as a Lambda function may live, so that what fits here fits there.
_INVOCATION_MS = 900_000


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "run", example="relayq run --id 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(run)


def run(
    cli: Cli,
    job_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="The job's id, as `relayq dispatch` printed it.", parser=id_of_job)
    ],
    run_at: Annotated[
        int | None,
        typer.Option("--run-at", metavar="TIME", help="Wait until then first: epoch ms or ISO 8601.", parser=epoch_ms),
    ] = None,
) -> int:
    """Run one job here, as the runner function would.

    Claims, performs and settles it in this process. Its code is found through RELAYQ_JOB_MODULES, in this folder, in
    src or in functions/runner. For debugging, and for machines that can do what a Lambda cannot.

    JSON: {"ended", "job"}, the job as it then is.
    """
    relayq = cli.relayq()
    job = relayq.get(job_id)
    if job is None:
        raise no_such_job(job_id)
    if not job.status.is_waiting:
        return _not_waiting(cli, job, relayq.clock.now())
    jobs = cli.jobs(relayq.settings)
    if job.name not in jobs:
        raise UnknownJob(job.name, jobs)
    job_logger.setLevel(logging.INFO)  # context.logger
    # what the job prints is no part of the JSON
    with contextlib.redirect_stdout(sys.stderr) if cli.json else contextlib.nullcontext(), _dispatching_by(relayq):
        # waiting is not taken from its time: the job is to run here, and not to be handed on
        wait = max(0, max(run_at or 0, job.available_at) - relayq.clock.now())
        ends = time.monotonic() * 1000 + wait + _INVOCATION_MS
        ran = relayq.runner.run(job_id, run_at, lambda: int(ends - time.monotonic() * 1000), job.name, job.queue)
    after = relayq.get(job_id) or ran.job or job
    answer = {"ended": ran.ended.value, "job": job_shape(after, whole=True)}
    cli.answer(answer, lambda: _show_ran(ran, after, relayq.clock.now()))
    return _exit_of(ran, after)


@contextlib.contextmanager
def _dispatching_by(relayq: RelayQ) -> Iterator[None]:
    """What the handler dispatches goes to the same tables."""
    former = api.use(relayq)
    try:
        yield
    finally:
        api.use(former)


def _not_waiting(cli: Cli, job: JobRecord, now: int) -> int:
    """It cannot be claimed; say what is the matter."""
    more = {
        Status.PROCESSING: f": a runner has it since {age(job.started_at, now)}",
        Status.FAILED: f": bring it back first, relayq failed redrive {job.id}",
    }.get(job.status, ": there is nothing to run")
    cli.answer(
        {"ended": RunOutcome.NOT_CLAIMED.value, "job": job_shape(job, whole=True)},
        lambda: say(f"{job.id} is {job.status.value}{more}"),
    )
    return exit_of(job)


def _show_ran(ran: RunResult, job: JobRecord, now: int) -> None:
    match ran.ended:
        case RunOutcome.COMPLETED:
            show_ended(job, 0)
        case RunOutcome.FAILED | RunOutcome.CANCELLED:
            say(f"{ran.ended.value} at attempt {job.attempt}: {headline(job)}".rstrip(": "), style="red")
        case RunOutcome.RETRYING:
            last = job.errors[-1]["error"] if job.errors else ""
            say(f"attempt {job.attempt} failed: {last}", style="red")
            say(f"it is tried again {age(job.available_at, now)}")
        case RunOutcome.NOT_CLAIMED if job.available_at > now:
            say(f"not run: its time comes {age(job.available_at, now)}", style="yellow")
        case RunOutcome.NOT_CLAIMED:
            say(f"not run: a runner took it first; it is {job.status.value}", style="yellow")
        case RunOutcome.SNOOZED | RunOutcome.GIVEN_BACK:
            say(f"{ran.ended.value}; again {age(job.available_at, now)}", style="yellow")
        case _:
            say(f"{ran.ended.value}; it is {job.status.value}", style="red")


def _exit_of(ran: RunResult, after: JobRecord) -> int:
    match ran.ended:
        case RunOutcome.COMPLETED | RunOutcome.NOT_CLAIMED:
            return exit_of(after)
        case RunOutcome.FAILED | RunOutcome.RETRYING | RunOutcome.CANCELLED:
            return JOB_FAILED
        case RunOutcome.SNOOZED | RunOutcome.HANDED_ON | RunOutcome.GIVEN_BACK:
            return STILL_RUNNING
        case _:
            return ERROR
