"""`relayq dispatch`: dispatch a job by its name, and wait for it with --wait."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import OK, Stop
from relayq_core.cli.output import complain, is_fancy, render_text, say
from relayq_core.cli.params import (
    Attempts,
    JobName,
    parse_duration,
    parse_job_id,
    parse_queue,
    parse_time,
    read_payload,
)
from relayq_core.cli.render import get_exit_code, show_ended
from relayq_core.cli.watch import expect_deleted, poll_job
from relayq_core.client import RelayQ
from relayq_core.errors import RelayQError, suggest
from relayq_core.model.record import JobRecord
from relayq_core.operations.serialize import serialize_job
from relayq_core.settings import Settings

#: How long --wait waits by default, in seconds.
_WAIT_SECONDS = 60
_DURATION = re.compile(r"[\d.]++(ms|s|m|h|d)?([\d.]++(ms|s|m|h|d))*", re.ASCII)


def fill_in_wait(argv: Sequence[str]) -> list[str]:
    """Return the words with the default duration after each `--wait` that has none: click has no optional values."""
    words: list[str] = []
    for place, word in enumerate(argv):
        next_word = argv[place + 1] if place + 1 < len(argv) else ""
        words.append(f"--wait={_WAIT_SECONDS}" if word == "--wait" and not _DURATION.fullmatch(next_word) else word)
    return words


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(
        app,
        "dispatch",
        example='relayq dispatch send_email \'{"to": "ada@example.com", "subject": "Hi"}\' --delay 5m --wait',
    )(dispatch)


def dispatch(
    cli: Cli,
    name: JobName,
    args: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The payload: a JSON object, @file, or - for stdin.")
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="QUEUE", help="The queue, instead of the job type's own.", parser=parse_queue),
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option(
            "--delay", metavar="TIME", help="Start it after this time: 5, 90s, 5m, 2h.", parser=parse_duration
        ),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option("--at", metavar="TIME", help="Start it at this time: 2030-01-31T09:00:00Z.", parser=parse_time),
    ] = None,
    unique: Annotated[
        str | None, typer.Option("--unique", metavar="KEY", help="Refuse it while another job has this key.")
    ] = None,
    unique_for: Annotated[
        float | None,
        typer.Option(
            "--unique-for",
            metavar="TIME",
            help="How long the key is held, instead of until the job ends.",
            parser=parse_duration,
        ),
    ] = None,
    max_attempts: Attempts = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="How long its handler may take; a crash is noticed after that.",
            parser=parse_duration,
        ),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option(
            "--job-id", metavar="ID", help="The job's id; an id is dispatched only once.", parser=parse_job_id
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="[TIME]",
            help=f"Wait for its end, at most TIME ({_WAIT_SECONDS} s); exit code 0, 3 or 5.",
            parser=parse_duration,
        ),
    ] = None,
) -> int:
    """Dispatch a job and print its id.

    Writes the job to the table and hands it to a runner. If the job's code is here (RELAYQ_JOB_MODULES, in this
    folder, src or functions/runner) the payload is checked against it; otherwise any JSON object will do. For a
    duplicate, prints the id of the job that has the key.

    JSON: {"job_id", "duplicate", "handed_off"}, with --wait also "job".
    """
    if delay is not None and at is not None:
        raise typer.BadParameter("give either --delay or --at, not both")
    if unique_for is not None and unique is None:
        raise typer.BadParameter("--unique-for needs --unique KEY: it says how long that key is held")
    if wait is not None and cli.target.local:
        raise typer.BadParameter(
            "--wait needs a runner, and --local has none; run the job with `relayq --local run --id ID`"
        )
    data = read_payload(args)
    relayq = cli.connect(hands_off=True, failed=wait is not None)
    _warn_of_mistakes(cli, relayq.settings, name, queue)
    dispatched = relayq.dispatch(
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
    answer: dict[str, Any] = {
        "job_id": dispatched.job_id,
        "duplicate": dispatched.duplicate,
        "handed_off": dispatched.handed_off,
    }
    is_delayed = bool(delay) or at is not None
    if wait is None:
        cli.answer(answer, lambda: _show_dispatched(cli, answer, is_delayed=is_delayed))
        return OK
    if not cli.json:
        _show_dispatched(cli, answer, is_delayed=is_delayed)
    job = _wait_for_end(relayq, dispatched.job_id, wait)
    if job is None:
        expect_deleted(relayq, dispatched.job_id)
    answer["job"] = None if job is None else serialize_job(job, whole=True)
    cli.answer(answer, lambda: show_ended(job, wait))
    return OK if job is None else get_exit_code(job)


def _warn_of_mistakes(cli: Cli, settings: Settings, name: str, queue: str | None) -> None:
    """Import the job modules if they are here, so that dispatch checks the payload; warn of an unknown name, and of a
    queue that is not the job type's own."""
    try:
        jobs = cli.load_jobs_if_found(settings)
    except (Stop, RelayQError) as error:
        complain("warning", f"the payload is not checked: {error}")
        return
    if not jobs:
        return
    if name not in jobs:
        near = suggest(name, jobs)
        complain("warning", f"no job named {name!r} here.{near} If no runner knows it either, it fails after 15 min")
        return
    own = jobs[name].options.queue or settings.default_queue
    if queue not in (None, own):
        complain("warning", f"{name} belongs to queue {own!r}; this one goes to {queue!r}.{suggest(queue, [own])}")


def _show_dispatched(cli: Cli, answer: dict[str, Any], *, is_delayed: bool) -> None:
    job_id = answer["job_id"]
    if answer["duplicate"]:
        say(f"{job_id} already has this unique key; nothing was dispatched", style="magenta")
    elif answer["handed_off"]:
        say(f"{job_id} dispatched and handed to a runner", style="green")
    elif cli.target.local:
        say(f"{job_id} dispatched", style="green")
        say(f"No runner works here; to run the job: relayq --local run --id {job_id}")
    else:
        say(f"{job_id} dispatched; the sweeper starts it{' when it is due' if is_delayed else ''}", style="green")


def _wait_for_end(relayq: RelayQ, job_id: str, seconds: float) -> JobRecord | None:
    """Return the job once it has ended, or as it is after `seconds`; None if it is no longer kept."""
    with _show_spinner() as update:
        return poll_job(
            relayq, job_id, lambda job: update(f"{job.status.value}, attempt {job.attempt}"), timeout=seconds
        )


@contextlib.contextmanager
def _show_spinner() -> Iterator[Any]:
    """Show a spinner on stderr, if that is a terminal, while the block runs; yield what changes its text."""
    if not is_fancy(sys.stderr):
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("waiting") as status:
        yield lambda text: status.update(render_text(text))
