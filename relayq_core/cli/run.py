"""`relayq run`: run one job in this process."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from relayq_core import api
from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import ERROR, JOB_FAILED, STILL_RUNNING, JobNotFound
from relayq_core.cli.output import format_age, say
from relayq_core.cli.params import parse_epoch_ms, parse_job_id
from relayq_core.cli.render import get_exit_code, show_ended
from relayq_core.client import RelayQ
from relayq_core.engine.results import RunOutcome, RunResult
from relayq_core.errors import UnknownJob
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.serialize import get_headline, serialize_job
from relayq_core.process.loggers import job_logger

#: The longest timeout of a Lambda function, so that a job that fits here fits there.
_INVOCATION_MS = 900_000


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "run", example="relayq run --id 01KAM3ZJ5Y8W4T9Q2N6R7B1C0D")(run)


def run(
    cli: Cli,
    job_id: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="The job's id, which `relayq dispatch` prints.", parser=parse_job_id),
    ],
    run_at: Annotated[
        int | None,
        typer.Option("--run-at", metavar="TIME", help="Wait until then: epoch ms or ISO 8601.", parser=parse_epoch_ms),
    ] = None,
) -> int:
    """Run one job here, as the runner function would.

    Claims, performs and settles it in this process. Its code comes from the modules of RELAYQ_JOB_MODULES, in this
    folder, in src or in functions/runner. Use it to debug, or on a machine that can do what a Lambda cannot.

    JSON: {"ended", "job"}, the job as it is afterwards.
    """
    relayq = cli.connect()
    job = relayq.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    if not job.status.is_waiting:
        return _refuse_to_run(cli, job, relayq.clock.now())
    jobs = cli.load_jobs(relayq.settings)
    if job.name not in jobs:
        raise UnknownJob(job.name, jobs)
    job_logger.setLevel(logging.INFO)  # context.logger
    # keep what the job prints out of the JSON
    with contextlib.redirect_stdout(sys.stderr) if cli.json else contextlib.nullcontext(), _use_for_dispatches(relayq):
        # waiting does not use up the job's time: it has to run here, and not to be handed on
        wait = max(0, max(run_at or 0, job.available_at) - relayq.clock.now())
        ends = time.monotonic() * 1000 + wait + _INVOCATION_MS
        ran = relayq.runner.run(job_id, run_at, lambda: int(ends - time.monotonic() * 1000), job.name, job.queue)
    after = relayq.get(job_id) or ran.job or job
    answer = {"ended": ran.ended.value, "job": serialize_job(after, whole=True)}
    cli.answer(answer, lambda: _show_ran(ran, after, relayq.clock.now()))
    return _get_exit_code(ran, after)


@contextlib.contextmanager
def _use_for_dispatches(relayq: RelayQ) -> Iterator[None]:
    """While the block runs, let handlers dispatch to the same tables."""
    former = api.use(relayq)
    try:
        yield
    finally:
        api.use(former)


def _refuse_to_run(cli: Cli, job: JobRecord, now: int) -> int:
    """Say why the job cannot be claimed, and return the exit code."""
    reason = {
        Status.PROCESSING: f"a runner claimed it {format_age(job.started_at, now)}",
        Status.FAILED: f"bring it back first with `relayq failed redrive {job.id}`",
    }.get(job.status, "there is nothing to run")
    cli.answer(
        {"ended": RunOutcome.NOT_CLAIMED.value, "job": serialize_job(job, whole=True)},
        lambda: say(f"{job.id} is {job.status.value}: {reason}"),
    )
    return get_exit_code(job)


def _show_ran(ran: RunResult, job: JobRecord, now: int) -> None:
    match ran.ended:
        case RunOutcome.COMPLETED:
            show_ended(job, 0)
        case RunOutcome.FAILED | RunOutcome.CANCELLED:
            say(f"{ran.ended.value} at attempt {job.attempt}: {get_headline(job)}".rstrip(": "), style="red")
        case RunOutcome.RETRYING:
            error = job.errors[-1]["error"] if job.errors else ""
            say(f"attempt {job.attempt} failed: {error}", style="red")
            say(f"the next attempt starts {format_age(job.available_at, now)}")
        case RunOutcome.NOT_CLAIMED if job.available_at > now:
            say(f"not run: it is due {format_age(job.available_at, now)}", style="yellow")
        case RunOutcome.NOT_CLAIMED:
            say(f"not run: a runner claimed it first; it is {job.status.value}", style="yellow")
        case RunOutcome.SNOOZED | RunOutcome.GIVEN_BACK:
            say(f"{ran.ended.value}; again {format_age(job.available_at, now)}", style="yellow")
        case _:
            say(f"{ran.ended.value}; it is {job.status.value}", style="red")


def _get_exit_code(ran: RunResult, after: JobRecord) -> int:
    match ran.ended:
        case RunOutcome.COMPLETED | RunOutcome.NOT_CLAIMED:
            return get_exit_code(after)
        case RunOutcome.FAILED | RunOutcome.RETRYING | RunOutcome.CANCELLED:
            return JOB_FAILED
        case RunOutcome.SNOOZED | RunOutcome.HANDED_ON | RunOutcome.GIVEN_BACK:
            return STILL_RUNNING
        case _:
            return ERROR
