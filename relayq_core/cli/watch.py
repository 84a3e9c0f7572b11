"""Look again and again: at all queues while somebody watches, at one job until it has ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType

from relayq_core.cli.exit_codes import NOT_FOUND, Stop
from relayq_core.cli.output import as_text, is_fancy, say
from relayq_core.cli.render import attempts, progress_of
from relayq_core.client import RelayQ
from relayq_core.model.record import JobRecord

#: Seconds between two looks at all queues. Each is eight small reads for every queue.
_EVERY = 2.0
#: Looks at one job come ever further apart, seconds: a short job is seen to end at once, a long one costs little.
_FIRST, _LONGEST = 0.1, 2.0


def watched(look: Callable[[], RenderableType]) -> None:
    """Show what `look` answers with, anew every two seconds, until Ctrl-C."""
    from rich.live import Live

    console = Console(highlight=False)
    try:
        with Live(look(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_EVERY)
                live.update(look(), refresh=True)
    except KeyboardInterrupt:
        return


def followed(relayq: RelayQ, job_id: str, *, quiet: bool = False) -> JobRecord | None:
    """The job once it has ended, or None once it is not there; tells of each change meanwhile, unless `quiet`."""
    with _teller(quiet=quiet) as tell:
        pause = _FIRST
        while (job := relayq.get(job_id)) is not None and not job.status.is_ended:
            tell(_line(job))
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)
        return job


def gone_well(relayq: RelayQ, job_id: str) -> None:
    """Of a job that was there, and is not any more. Raises Stop, unless completed jobs are not kept here."""
    if relayq.settings.retention_seconds == 0:
        return
    raise Stop(
        f"job {job_id!r} is gone: it failed and was forgotten, or it completed where RELAYQ_RETENTION_SECONDS is 0"
        " (which it is not here)",
        NOT_FOUND,
        kind="NotFound",
    )


def _line(job: JobRecord) -> str:
    progress = f", {progress_of(job)}" if job.progress_json else ""
    return f"{job.status.value}, attempt {attempts(job)}{progress}"


@contextmanager
def _teller(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """On a terminal one line that changes; elsewhere a line for each change."""
    if quiet:
        yield lambda line: None
    elif is_fancy(sys.stderr):
        with Console(stderr=True).status("") as status:
            yield lambda line: status.update(as_text(line))
    else:
        said: list[str] = []

        def tell(line: str) -> None:
            if said[-1:] != [line]:
                said.append(line)
                say(line)

        yield tell
