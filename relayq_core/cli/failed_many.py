"""`relayq failed redrive|forget`: bring failed jobs back or delete them, one by id or all that match."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, ClassVar

import typer

from relayq_core.cli.bulk import Done, Rate, Stopped, carry_out, format_counts
from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import OK, JobNotFound
from relayq_core.cli.jobs import require_queue
from relayq_core.cli.output import Column, format_age, print_table, say
from relayq_core.cli.params import Queue, flag, parse_duration, parse_job_id, parse_name
from relayq_core.cli.prompts import Yes, confirm
from relayq_core.client import RelayQ
from relayq_core.dashboard.words import format_span
from relayq_core.errors import UnreadableRow
from relayq_core.model.record import JobRecord
from relayq_core.operations.bulk import BulkOutcome, Tally
from relayq_core.operations.jobs import Failures
from relayq_core.operations.serialize import get_headline, serialize_failed, serialize_job

TABLE = "in the failed table"
#: The most jobs that a dry run lists for people.
_SHOWN = 100

Named = Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only jobs of this name.", parser=parse_name)]
Error = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only errors that contain this; case does not matter.")
]
Since = Annotated[
    float | None,
    typer.Option("--since", metavar="TIME", help="Only what failed in the last 90s, 2h, 1d.", parser=parse_duration),
]
_Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="The jobs' ids; or choose them with options.", parser=parse_job_id),
]
_All = Annotated[bool, flag("--all", help="All failed jobs.")]
_Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most the newest N.")]
_DryRun = Annotated[bool, flag("--dry-run", help="Show which jobs, and do nothing.")]


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    register_command(group, "redrive", example="relayq failed redrive --job send_email --since 2h --rate 10")(redrive)
    register_command(group, "forget", example='relayq failed forget --queue emails --error "no such user" --dry-run')(
        forget
    )


def redrive(
    cli: Cli,
    ids: _Ids = None,
    queue: Queue = None,
    job: Named = None,
    error: Error = None,
    since: Since = None,
    everything: _All = False,
    limit: _Limit = None,
    rate: Rate = None,
    dry_run: _DryRun = False,
    yes: Yes = False,
) -> int:
    """Bring failed jobs back, with all their attempts.

    Takes ids, or options that select jobs, newest first. Each job keeps its id and is handed to a runner. It is refused
    while another job has its unique key. Asks for confirmation if you select jobs with options, unless --yes is given;
    Ctrl-C stops after the current job.

    JSON: for one id the object of `relayq list`, for the job as it is afterwards; otherwise {"matched", "dry_run",
    "redriven", "gone", "refused": [{"id", "reason"}], "stopped"}, with --dry-run also "jobs". Exit code 1 if a job was
    refused.
    """
    selection = _Selection(ids or [], queue, job, error, since, everything, limit)
    return _apply(cli, _Redrive(), selection, rate=rate, dry_run=dry_run, yes=yes)


def forget(
    cli: Cli,
    ids: _Ids = None,
    queue: Queue = None,
    job: Named = None,
    error: Error = None,
    since: Since = None,
    everything: _All = False,
    limit: _Limit = None,
    rate: Rate = None,
    dry_run: _DryRun = False,
    yes: Yes = False,
) -> int:
    """Delete failed jobs; this cannot be undone.

    Takes ids, or options that select jobs, newest first. Asks for confirmation if you select jobs with options, unless
    --yes is given; Ctrl-C stops after the current job.

    JSON: for one id {"id", "forgotten": true}, otherwise {"matched", "dry_run", "forgotten", "gone", "refused":
    [{"id", "reason"}], "stopped"}, with --dry-run also "jobs". Exit code 1 if a job was refused.
    """
    selection = _Selection(ids or [], queue, job, error, since, everything, limit)
    return _apply(cli, _Forget(), selection, rate=rate, dry_run=dry_run, yes=yes)


def select_failures(now: int, queue: str | None, job: str | None, error: str | None, since: float | None) -> Failures:
    """Return the selection that the options describe; `since` is a duration in seconds, `now` epoch milliseconds."""
    return Failures(queue=queue, job=job, error=error, since=None if since is None else now - round(since * 1000))


def show_failures(jobs: Iterable[JobRecord], now: int) -> None:
    """Print a table of failed jobs."""
    columns = (
        Column("id"),
        Column("name"),
        Column("queue"),
        Column("attempts", right=True),
        Column("failed"),
        Column("error", wide=True),
    )
    rows = [
        (job.id, job.name, job.queue, str(job.attempt), format_age(job.finished_at, now), get_headline(job))
        for job in jobs
    ]
    print_table(columns, rows)


# --- what both share ---


@dataclass(frozen=True, slots=True)
class _Selection:
    """The jobs that the command line selects: by their ids, by filters, or all of them."""

    ids: Sequence[str]
    queue: str | None
    job: str | None
    error: str | None
    since: float | None
    everything: bool
    limit: int | None

    @property
    def has_filters(self) -> bool:
        """At least one filter was given."""
        return any(filter is not None for filter in (self.queue, self.job, self.error, self.since))

    def check(self) -> None:
        """Raise BadParameter if the selection is ambiguous or empty; it never means all jobs by default."""
        if self.ids and (self.has_filters or self.everything or self.limit):
            raise typer.BadParameter("give either ids, or options that select jobs, not both")
        if self.everything and self.has_filters:
            raise typer.BadParameter("--all means all: leave it out, or --queue, --job, --error and --since")
        if not self.ids and not self.everything and not self.has_filters:
            raise typer.BadParameter("say which jobs: their ids; --queue, --job, --error or --since; or --all")

    def resolve(self, relayq: RelayQ) -> Sequence[str | JobRecord]:
        """Return the ids, or the failures that match; all of them, before the first is changed."""
        if self.ids:
            return list(dict.fromkeys(self.ids))
        require_queue(relayq, self.queue)
        filters = select_failures(relayq.clock.now(), self.queue, self.job, self.error, self.since)
        return list(islice(relayq.operations.failures(filters), self.limit))


class _Operation(ABC):
    """What a command does to failed jobs."""

    #: as the user reads it
    verb: ClassVar[str]
    #: its outcome in the tally
    outcome: ClassVar[str]
    #: it reads the row, and hands the job to a runner
    reads_row: ClassVar[bool]

    @abstractmethod
    def apply_to_one(self, cli: Cli, relayq: RelayQ, job_id: str) -> None:
        """Do it to one job and print the answer. Raises JobNotFound."""

    @abstractmethod
    def apply_to_many(
        self, relayq: RelayQ, job_ids: Sequence[str], rate: float | None, stop: Stopped
    ) -> Iterator[BulkOutcome]:
        """Do it to each of these jobs, at most `rate` a second, until `stop` returns True; yield each outcome."""


class _Redrive(_Operation):
    verb, outcome, reads_row = "redrive", "redriven", True

    def apply_to_one(self, cli: Cli, relayq: RelayQ, job_id: str) -> None:
        job = relayq.redrive(job_id)
        if job is None:
            raise JobNotFound(job_id, TABLE)

        def show() -> None:
            say(f"{job_id} is {job.status.value} again", style="green")
            if cli.target.local:
                say(f"No runner works here; to run the job: relayq --local run --id {job_id}")

        cli.answer(serialize_job(job), show)

    def apply_to_many(
        self, relayq: RelayQ, job_ids: Sequence[str], rate: float | None, stop: Stopped
    ) -> Iterator[BulkOutcome]:
        return relayq.bulk.redrive(job_ids, rate=rate, stop=stop)


class _Forget(_Operation):
    verb, outcome, reads_row = "forget", "forgotten", False

    def apply_to_one(self, cli: Cli, relayq: RelayQ, job_id: str) -> None:
        if not relayq.forget(job_id):
            raise JobNotFound(job_id, TABLE)
        cli.answer({"id": job_id, "forgotten": True}, lambda: say(f"{job_id} is forgotten"))

    def apply_to_many(
        self, relayq: RelayQ, job_ids: Sequence[str], rate: float | None, stop: Stopped
    ) -> Iterator[BulkOutcome]:
        return relayq.bulk.forget(job_ids, rate=rate, stop=stop)


def _apply(
    cli: Cli, operation: _Operation, selection: _Selection, *, rate: float | None, dry_run: bool, yes: bool
) -> int:
    selection.check()
    relayq = cli.connect(hands_off=operation.reads_row and not dry_run)
    if len(selection.ids) == 1 and not dry_run:
        operation.apply_to_one(cli, relayq, selection.ids[0])
        return OK
    selected = selection.resolve(relayq)
    if dry_run:
        return _rehearse(cli, relayq, operation, selected)
    ids = [job if isinstance(job, str) else job.id for job in selected]
    if ids and not selection.ids:
        duration = f" at {rate:g} per second, about {format_span(round(len(ids) * 1000 / rate))}" if rate else ""
        jobs = f"{len(ids)} failed job{'s' if len(ids) > 1 else ''}"
        confirm(f"{operation.verb.capitalize()} {jobs}{duration}?", yes=yes, purpose=f"{operation.verb} {jobs}")
    done = carry_out(lambda stop: operation.apply_to_many(relayq, ids, rate, stop), operation.verb, len(ids))
    show = done.show if ids else lambda: say("no failed job matches", style="green")
    cli.answer({"matched": len(ids), "dry_run": False, **done.summarize(operation.outcome, "gone")}, show)
    return done.exit_code


def _rehearse(cli: Cli, relayq: RelayQ, operation: _Operation, selected: Sequence[str | JobRecord]) -> int:
    """Show what the operation would do, and return the exit code that it would have."""
    done = Done()
    jobs = list(_read_remaining(relayq, operation, selected, done.tally))
    if len(selected) == 1 and done.tally.counts["gone"]:
        raise JobNotFound(str(selected[0]), TABLE)
    rest = format_counts(done.tally)

    def show() -> None:
        records = [job for job in jobs if isinstance(job, JobRecord)]
        if records:
            show_failures(records[:_SHOWN], relayq.clock.now())
        say(f"would {operation.verb} {len(jobs)}" + (f"; {rest}" if rest else ""))
        done.show_refused()

    shapes = [{"id": job} if isinstance(job, str) else serialize_failed(job) for job in jobs]
    cli.answer(
        {"matched": len(selected), "dry_run": True, **done.summarize(operation.outcome, "gone"), "jobs": shapes}, show
    )
    return done.exit_code


def _read_remaining(
    relayq: RelayQ, operation: _Operation, selected: Sequence[str | JobRecord], tally: Tally
) -> Iterator[str | JobRecord]:
    """Yield the jobs that are still in the table; count the others in `tally`.

    A row that cannot be read is yielded as its id if the operation does not read it. Jobs that were selected by filters
    have just been read.
    """
    for selection in selected:
        try:
            job = relayq.store.get_failed(selection) if isinstance(selection, str) else selection
        except UnreadableRow as error:
            if operation.reads_row:
                tally.add(BulkOutcome(str(selection), "refused", str(error)))
            else:
                yield selection
        else:
            if job is None:
                tally.add(BulkOutcome(str(selection), "gone"))
            else:
                yield job
