"""Work on many jobs, as commands show it: a bar for people, a clean end at Ctrl-C, and a summary."""

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
from relayq_core.operations.bulk import Outcome, Tally

#: Refusals of the same kind are many: people read so many.
_REFUSALS_SHOWN = 20

Stopped = Callable[[], bool]

Rate = Annotated[
    float | None,
    typer.Option("--rate", metavar="N", min=0.01, max=1000, help="So many a second at most, else as fast as it goes."),
]


@dataclass(slots=True)
class Done:
    """How far the work came."""

    tally: Tally = field(default_factory=Tally)
    #: somebody pressed Ctrl-C
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 if all was done; what others had done before is no error."""
        return ERROR if self.stopped or self.tally.refused else OK

    def shape(self, *whats: str) -> dict[str, Any]:
        """For programs: how many of each, and who was refused why."""
        return {
            **{what: self.tally.counts[what] for what in whats},
            "refused": [{"id": outcome.job_id, "reason": outcome.reason} for outcome in self.tally.refused],
            "stopped": self.stopped,
        }

    def show(self) -> None:
        """For people: the counts, and the first refusals."""
        counts = ", ".join(f"{number} {what}" for what, number in self.tally.counts.items()) or "nothing done"
        stopped = "; stopped before the rest" if self.stopped else ""
        say(f"{counts}{stopped}", style="yellow" if self.exit_code else "green")
        self.show_refused()

    def show_refused(self) -> None:
        """For people: the first refusals, and why."""
        for outcome in self.tally.refused[:_REFUSALS_SHOWN]:
            say(f"  {outcome.job_id}: {outcome.reason}")
        if (more := len(self.tally.refused) - _REFUSALS_SHOWN) > 0:
            say(f"  and {more} more, --json has all")


def carried_out(begin: Callable[[Stopped], Iterator[Outcome]], title: str, total: int | None) -> Done:
    """Do it all, with a bar on a terminal. Raises Stop, with the counts so far, where the tables refuse."""
    done = Done()
    with _stoppable() as stopped, _bar(title, total) as advance:
        try:
            for outcome in begin(stopped):
                done.tally.add(outcome)
                advance()
        except RelayQError as error:
            so_far = ", ".join(f"{number} {what}" for what, number in done.tally.counts.items()) or "nothing was done"
            raise Stop(f"{error} (until then: {so_far})", kind=type(error).__name__) from error
        done.stopped = stopped()
    return done


@contextmanager
def _stoppable() -> Iterator[Stopped]:
    """The first Ctrl-C asks for an end after the job in hand; the second ends at once."""
    asked = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        complain("note", "stopping after this one; Ctrl-C again stops at once")

    former = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar on stderr while inside, where that is a terminal."""
    if not is_fancy(sys.stderr):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
