"""`relayq dispatch`: start a job there, and wait for it if asked to."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import OK, Stop
from relayq_core.cli.output import as_text, complain, is_fancy, say
from relayq_core.cli.params import Attempts, JobName, at_time, duration, id_of_job, payload, queue_name
from relayq_core.cli.render import exit_of, show_ended
from relayq_core.cli.watch import gone_well
from relayq_core.client import RelayQ
from relayq_core.errors import RelayQError, suggest
from relayq_core.model.record import JobRecord
from relayq_core.operations.serialize import job_shape
from relayq_core.settings import Settings

#: How long --wait waits where nothing else is said, in seconds.
_PATIENCE = 60
_DURATION = re.compile(r"[\d.]++(ms|s|m|h|d)?([\d.]++(ms|s|m|h|d))*", re.ASCII)


def with_wait_value(argv: Sequence[str]) -> list[str]:
    """`--wait` may stand without its seconds: then they are filled in."""
    found: list[str] = []
    for place, word in enumerate(argv):
        follows = argv[place + 1] if place + 1 < len(argv) else ""
        found.append(f"--wait={_PATIENCE}" if word == "--wait" and not _DURATION.fullmatch(follows) else word)
    return found


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(
        app,
        "dispatch",
        example='relayq dispatch send_email \'{"to": "ada@example.com", "subject": "Hi"}\' --delay 5m --wait',
    )(dispatch)


def dispatch(
    cli: Cli,
    name: JobName,
    args: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="Its payload: a JSON object, @file, or - for stdin.")
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="QUEUE", help="The queue, else the job type's own.", parser=queue_name),
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option("--delay", metavar="TIME", help="Start it so much later: 5, 90s, 5m, 2h.", parser=duration),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option("--at", metavar="TIME", help="Start it then: 2030-01-31T09:00:00Z.", parser=at_time),
    ] = None,
    unique: Annotated[
        str | None, typer.Option("--unique", metavar="KEY", help="Turn it away while another job has this key.")
    ] = None,
    unique_for: Annotated[
        float | None,
        typer.Option(
            "--unique-for", metavar="TIME", help="How long the key is held; else until the job ends.", parser=duration
        ),
    ] = None,
    max_attempts: Attempts = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="How long its handler may take; also how soon a crash is noticed.",
            parser=duration,
        ),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option(
            "--job-id", metavar="ID", help="Its id; dispatching an id again is no second job.", parser=id_of_job
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="[TIME]",
            help=f"Wait until it has ended, at most so long ({_PATIENCE} s); exit 0, 3 or 5.",
            parser=duration,
        ),
    ] = None,
) -> int:
    """Dispatch a job and print its id.

    The job is written down, and a runner is told of it. Where the job's code is at hand (RELAYQ_JOB_MODULES, in this
    folder, src or functions/runner) the payload is checked against it; else it only has to be JSON. A duplicate
    prints the id of the job that has the key.

    JSON: {"job_id", "duplicate", "handed_off"}, with --wait also "job".
    """
    if delay is not None and at is not None:
        raise typer.BadParameter("give either --delay or --at, not both")
    if unique_for is not None and unique is None:
        raise typer.BadParameter("--unique-for needs --unique KEY, the key that is held for that long")
    if wait is not None and cli.where.local:
        raise typer.BadParameter("--wait needs a runner, and --local has none: relayq --local run --id ID runs a job")
    data = payload(args)
    relayq = cli.relayq(hands_off=True, failed=wait is not None)
    _advise(cli, relayq.settings, name, queue)
    done = relayq.dispatch(
        name,
        data,
        queue=queue,
        delay=delay,
        at=at,
        unique=unique,
        unique_for=unique_for,
        max_attempts=max_attempts,
        timeout=timeout,
        job_id=job_id,
    )
    answer: dict[str, Any] = {"job_id": done.job_id, "duplicate": done.duplicate, "handed_off": done.handed_off}
    later = bool(delay) or at is not None
    if wait is None:
        cli.answer(answer, lambda: _show_dispatched(cli, answer, later=later))
        return OK
    if not cli.json:
        _show_dispatched(cli, answer, later=later)
    job = _waited_for(relayq, done.job_id, wait)
    if job is None:
        gone_well(relayq, done.job_id)
    answer["job"] = None if job is None else job_shape(job, whole=True)
    cli.answer(answer, lambda: show_ended(job, wait))
    return OK if job is None else exit_of(job)


def _advise(cli: Cli, settings: Settings, name: str, queue: str | None) -> None:
    """Where job modules are at hand, import them, so that the payload is checked; and warn of an unknown name, and of
    a queue that is not the job type's own."""
    try:
        jobs = cli.jobs_at_hand(settings)
    except (Stop, RelayQError) as error:
        complain("warning", f"the payload is not checked: {error}")
        return
    if not jobs:
        return
    if name not in jobs:
        near = suggest(name, jobs)
        complain("warning", f"no job named {name!r} here.{near} Where no runner knows it either, it fails after 15 min")
        return
    own = jobs[name].options.queue or settings.default_queue
    if queue not in (None, own):
        complain("warning", f"{name} is a job of queue {own!r}, and goes to {queue!r} now.{suggest(queue, [own])}")


def _show_dispatched(cli: Cli, answer: dict[str, Any], *, later: bool) -> None:
    job_id = answer["job_id"]
    if answer["duplicate"]:
        say(f"{job_id} has this unique key already: nothing was dispatched", style="magenta")
    elif answer["handed_off"]:
        say(f"{job_id} dispatched, and handed to a runner", style="green")
    elif cli.where.local:
        say(f"{job_id} dispatched", style="green")
        say(f"Nobody runs it by itself here: relayq --local run --id {job_id}")
    else:
        say(f"{job_id} dispatched; the sweeper starts it{' when its time comes' if later else ''}", style="green")


def _waited_for(relayq: RelayQ, job_id: str, patience: float) -> JobRecord | None:
    """The job once it has ended, or as it is when patience ends; None if it is no longer kept."""
    ends = time.monotonic() + patience
    pause = 0.1
    with _spinner() as told:
        while True:
            job = relayq.get(job_id)
            if job is None or job.status.is_ended or time.monotonic() >= ends:
                return job
            told(f"{job.status.value}, attempt {job.attempt}")
            time.sleep(max(0.0, min(pause, ends - time.monotonic())))
            pause = min(pause * 1.5, 2.0)


@contextlib.contextmanager
def _spinner() -> Iterator[Any]:
    """Something that moves on a terminal's stderr; silent elsewhere."""
    if not is_fancy(sys.stderr):
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("waiting") as status:
        yield lambda text: status.update(as_text(text))
