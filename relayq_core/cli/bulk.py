"""Run an operation on many jobs, with a progress bar, a clean end at Ctrl-C, and a summary."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from relayq_core.cli.exit_codes import ERROR, OK, Stop
from relayq_core.cli.output import complain, is_fancy, say
from relayq_core.errors import RelayQError
from relayq_core.operations.bulk import BulkOutcome, Tally

#: Refusals tend to repeat: more than these would not help a reader.
_REFUSALS_SHOWN = 20

Stopped = Callable[[], bool]

Rate = Annotated[
    float | None,
    typer.Option("--rate", metavar="N", min=0.01, max=1000, help="At most N jobs per second; without it, no limit."),
]


@dataclass(slots=True)
class Done:
    """What the operation has done so far."""

    tally: Tally = field(default_factory=Tally)
    #: Ctrl-C was pressed
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 if nothing was refused; jobs that were gone already are no error."""
        return ERROR if self.stopped or self.tally.refused else OK

    def summarize(self, *outcomes: str) -> dict[str, Any]:
        """Return, for JSON, the count of each of these outcomes, and each refused job with the reason."""
        return {
            **{outcome: self.tally.counts[outcome] for outcome in outcomes},
            "refused": [{"id": outcome.job_id, "reason": outcome.reason} for outcome in self.tally.refused],
            "stopped": self.stopped,
        }

    def show(self) -> None:
        """Print the counts and the first refusals."""
        counts = format_counts(self.tally) or "nothing done"
        stopped = "; stopped before the rest" if self.stopped else ""
        say(f"{counts}{stopped}", style="yellow" if self.exit_code else "green")
        self.show_refused()

    def show_refused(self) -> None:
        """Print the first refusals, each with its reason."""
        for outcome in self.tally.refused[:_REFUSALS_SHOWN]:
            say(f"  {outcome.job_id}: {outcome.reason}")
        if (more := len(self.tally.refused) - _REFUSALS_SHOWN) > 0:
            say(f"  and {more} more; --json lists them all")


def format_counts(tally: Tally) -> str:
    """Return `3 redriven, 1 gone`; empty if nothing was done."""
    return ", ".join(f"{number} {outcome}" for outcome, number in tally.counts.items())


def carry_out(begin: Callable[[Stopped], Iterator[BulkOutcome]], title: str, total: int | None) -> Done:
    """Run the operation to its end, with a progress bar on a terminal.

    Raises Stop, with the counts so far, if the tables cannot be used.
    """
    done = Done()
    with _stop_on_interrupt() as stopped, _show_bar(title, total) as advance:
        try:
            for outcome in begin(stopped):
                done.tally.add(outcome)
                advance()
        except RelayQError as error:
            so_far = format_counts(done.tally) or "nothing was done"
            raise Stop(f"{error} (until then: {so_far})", kind=type(error).__name__) from error
        done.stopped = stopped()
    return done


@contextmanager
def _stop_on_interrupt() -> Iterator[Stopped]:
    """While the block runs, let the first Ctrl-C stop it after the current job, and the second at once."""
    signals = []

    def note_signal(number: int, frame: Any) -> None:
        signals.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        complain("note", "stopping after this job; press Ctrl-C again to stop at once")

    former = signal.signal(signal.SIGINT, note_signal)
    try:
        yield lambda: bool(signals)
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def _show_bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr, if that is a terminal, while the block runs; yield what advances it."""
    if not is_fancy(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
