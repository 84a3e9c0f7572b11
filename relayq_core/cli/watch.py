"""Poll: show all queues again and again, or one job until it has ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType

from relayq_core.cli.exit_codes import NotFound
from relayq_core.cli.output import is_fancy, render_text, say
from relayq_core.cli.render import format_attempts, format_progress
from relayq_core.client import RelayQ
from relayq_core.model.record import JobRecord

#: Seconds between two updates of all queues; each makes eight small reads per queue.
_EVERY = 2.0
#: The first and the longest pause between two reads of one job, in seconds, and the factor between them: the end of a
#: short job is seen at once, and a long one costs few reads.
_FIRST, _LONGEST, _FACTOR = 0.1, 2.0, 1.5


def watch_screen(render: Callable[[], RenderableType]) -> None:
    """Show what `render` returns and update it every two seconds, until Ctrl-C."""
    from rich.live import Live

    console = Console(highlight=False)
    try:
        with Live(render(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_EVERY)
                live.update(render(), refresh=True)
    except KeyboardInterrupt:
        return


def follow_job(relayq: RelayQ, job_id: str, *, quiet: bool = False) -> JobRecord | None:
    """Return the job once it has ended, or None once it is gone; show each change until then, unless `quiet`."""
    with _show_changes(quiet=quiet) as show:
        return poll_job(relayq, job_id, lambda job: show(_describe_progress(job)))


def poll_job(
    relayq: RelayQ, job_id: str, show: Callable[[JobRecord], object], *, timeout: float | None = None
) -> JobRecord | None:
    """Read a job until it has ended or is gone, or for `timeout` seconds; call `show` after each read before that.

    Returns the job as it was last read, or None if it is gone.
    """
    end = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST
    while True:
        job = relayq.get(job_id)
        if job is None or job.status.is_ended or (end is not None and time.monotonic() >= end):
            return job
        show(job)
        time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))
        pause = min(pause * _FACTOR, _LONGEST)


def expect_deleted(relayq: RelayQ, job_id: str) -> None:
    """Raise NotFound for a job that has disappeared, unless completed jobs are not kept here."""
    if relayq.settings.retention_seconds == 0:
        return
    raise NotFound(
        f"job {job_id!r} is gone: it failed and was forgotten, or it completed under RELAYQ_RETENTION_SECONDS=0,"
        " which is not the setting here"
    )


def _describe_progress(job: JobRecord) -> str:
    progress = f", {format_progress(job)}" if job.progress_json else ""
    return f"{job.status.value}, attempt {format_attempts(job)}{progress}"


@contextmanager
def _show_changes(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield the function that shows a line: on a terminal it replaces the last one, elsewhere it is printed if new."""
    if quiet:
        yield lambda line: None
    elif is_fancy(sys.stderr):
        with Console(stderr=True).status("") as status:
            yield lambda line: status.update(render_text(line))
    else:
        lines: list[str] = []

        def show(line: str) -> None:
            if lines[-1:] != [line]:
                lines.append(line)
                say(line)

        yield show
