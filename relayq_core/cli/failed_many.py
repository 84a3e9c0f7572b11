"""`relayq failed redrive|forget`: what becomes of failures, of one or of all that are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import typer

from relayq_core.cli.bulk import Done, Rate, Stopped, carried_out
from relayq_core.cli.command import Cli, command
from relayq_core.cli.exit_codes import OK, no_such_job
from relayq_core.cli.jobs import known_queue
from relayq_core.cli.output import Column, age, print_table, say, span
from relayq_core.cli.params import Queue, duration, flag, id_of_job, name_of_job
from relayq_core.cli.prompts import Yes, confirm
from relayq_core.client import RelayQ
from relayq_core.errors import UnreadableRow
from relayq_core.model.record import JobRecord
from relayq_core.operations.bulk import Outcome, Tally
from relayq_core.operations.jobs import Failures
from relayq_core.operations.serialize import failed_shape, headline, job_shape

TABLE = "in the failed table"
#: Of a dry run people read so many.
_SHOWN = 100

Named = Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only jobs of this name.", parser=name_of_job)]
Error = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only errors that contain this, in whatever case.")
]
Since = Annotated[
    float | None,
    typer.Option("--since", metavar="TIME", help="Only what failed in the last 90s, 2h, 1d.", parser=duration),
]
_Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="The jobs' ids; else say which by options.", parser=id_of_job),
]
_All = Annotated[bool, flag("--all", help="All failed jobs.")]
_Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The newest N at most.")]
_DryRun = Annotated[bool, flag("--dry-run", help="Show which, and do nothing.")]


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    command(group, "redrive", example="relayq failed redrive --job send_email --since 2h --rate 10")(redrive)
    command(group, "forget", example='relayq failed forget --queue emails --error "no such user" --dry-run')(forget)


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

    By id, or all that fit the options, newest first. Each keeps its id, and is handed to a runner. Refused while
    another job has its unique key. Asks first where jobs are chosen by options, unless --yes is given; Ctrl-C stops
    after the job in hand.

    JSON: for one id the object of `relayq list`, as the job then is, else {"matched", "dry_run", "redriven", "gone",
    "refused": [{"id", "reason"}], "stopped"}, with --dry-run also "jobs". Exit code 1 if any was refused.
    """
    meant = _Meant(ids or [], queue, job, error, since, everything, limit)
    return _done(cli, _REDRIVE, meant, rate=rate, dry_run=dry_run, yes=yes)


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
    """Delete failed jobs; there is no way back.

    By id, or all that fit the options, newest first. Asks first where jobs are chosen by options, unless --yes is
    given; Ctrl-C stops after the job in hand.

    JSON: for one id {"id", "forgotten": true}, else {"matched", "dry_run", "forgotten", "gone", "refused":
    [{"id", "reason"}], "stopped"}, with --dry-run also "jobs". Exit code 1 if any was refused.
    """
    meant = _Meant(ids or [], queue, job, error, since, everything, limit)
    return _done(cli, _FORGET, meant, rate=rate, dry_run=dry_run, yes=yes)


def failures(now: int, queue: str | None, job: str | None, error: str | None, since: float | None) -> Failures:
    """Which failures the options mean."""
    return Failures(queue=queue, job=job, error=error, since=None if since is None else now - round(since * 1000))


def show_failures(found: Iterable[JobRecord], now: int) -> None:
    """A table of failed jobs."""
    columns = (
        Column("id"),
        Column("name"),
        Column("queue"),
        Column("attempts", right=True),
        Column("failed"),
        Column("error", wide=True),
    )
    rows = [(job.id, job.name, job.queue, str(job.attempt), age(job.finished_at, now), headline(job)) for job in found]
    print_table(columns, rows)


# --- what is common to both ---


@dataclass(frozen=True, slots=True)
class _Meant:
    """Which jobs were said, as they were said."""

    ids: Sequence[str]
    queue: str | None
    job: str | None
    error: str | None
    since: float | None
    everything: bool
    limit: int | None

    @property
    def narrowed(self) -> bool:
        """There are filters."""
        return any(filter is not None for filter in (self.queue, self.job, self.error, self.since))

    def checked(self) -> None:
        """Raises BadParameter where nobody can know which are meant: least of all may that be all of them."""
        if self.ids and (self.narrowed or self.everything or self.limit):
            raise typer.BadParameter("give either ids, or options that say which jobs, not both")
        if self.everything and self.narrowed:
            raise typer.BadParameter("--all means all: leave it out, or --queue, --job, --error and --since")
        if not self.ids and not self.everything and not self.narrowed:
            raise typer.BadParameter("say which jobs: their ids; --queue, --job, --error or --since; or --all")

    def found(self, relayq: RelayQ) -> Sequence[str | JobRecord]:
        """The ids, or the failures that fit; all of them before the first is touched."""
        if self.ids:
            return list(dict.fromkeys(self.ids))
        known_queue(relayq, self.queue)
        now = relayq.clock.now()
        fitting = relayq.operations.failures(failures(now, self.queue, self.job, self.error, self.since))
        return list(islice(fitting, self.limit))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to become of them."""

    verb: str
    done: str
    #: the row is read, and a runner is told
    reads: bool
    one: Callable[[Cli, RelayQ, str], None]
    many: Callable[[RelayQ, Sequence[str], float | None, Stopped], Iterator[Outcome]]


def _done(cli: Cli, work: _Work, meant: _Meant, *, rate: float | None, dry_run: bool, yes: bool) -> int:
    meant.checked()
    relayq = cli.relayq(hands_off=work.reads and not dry_run)
    if len(meant.ids) == 1 and not dry_run:
        work.one(cli, relayq, meant.ids[0])
        return OK
    chosen = meant.found(relayq)
    if dry_run:
        return _rehearse(cli, relayq, work, chosen)
    ids = [each if isinstance(each, str) else each.id for each in chosen]
    if ids and not meant.ids:
        takes = f" at {rate:g} a second, about {span(round(len(ids) * 1000 / rate))}" if rate else ""
        jobs = f"{len(ids)} failed job{'s' if len(ids) > 1 else ''}"
        confirm(f"{work.verb.capitalize()} {jobs}{takes}?", yes=yes, purpose=f"{work.verb} {jobs}")
    done = carried_out(lambda stop: work.many(relayq, ids, rate, stop), work.verb, len(ids))
    shown = done.show if ids else lambda: say("no failed job is like that", style="green")
    cli.answer({"matched": len(ids), "dry_run": False, **done.shape(work.done, "gone")}, shown)
    return done.exit_code


def _rehearse(cli: Cli, relayq: RelayQ, work: _Work, chosen: Sequence[str | JobRecord]) -> int:
    """Show what would become of them; ends as the real one does."""
    done = Done()
    found = list(_still_there(relayq, work, chosen, done.tally))
    if len(chosen) == 1 and done.tally.counts["gone"]:
        raise no_such_job(str(chosen[0]), TABLE)
    rest = ", ".join(f"{number} {what}" for what, number in done.tally.counts.items())

    def show() -> None:
        records = [each for each in found if isinstance(each, JobRecord)]
        if records:
            show_failures(records[:_SHOWN], relayq.clock.now())
        say(f"would {work.verb} {len(found)}" + (f"; {rest}" if rest else ""))
        done.show_refused()

    shapes = [{"id": each} if isinstance(each, str) else failed_shape(each) for each in found]
    cli.answer({"matched": len(chosen), "dry_run": True, **done.shape(work.done, "gone"), "jobs": shapes}, show)
    return done.exit_code


def _still_there(
    relayq: RelayQ, work: _Work, chosen: Sequence[str | JobRecord], tally: Tally
) -> Iterator[str | JobRecord]:
    """The job of each id, or the id alone of a row that cannot be read, where that is no hindrance; what is not there,
    or cannot be done, is counted. What was chosen by filters was just read."""
    for each in chosen:
        try:
            job = relayq.store.get_failed(each) if isinstance(each, str) else each
        except UnreadableRow as error:
            if work.reads:
                tally.add(Outcome(str(each), "refused", str(error)))
            else:
                yield each
        else:
            if job is None:
                tally.add(Outcome(str(each), "gone"))
            else:
                yield job


def _redrive_one(cli: Cli, relayq: RelayQ, job_id: str) -> None:
    job = relayq.redrive(job_id)
    if job is None:
        raise no_such_job(job_id, TABLE)

    def show_redriven() -> None:
        say(f"{job_id} is {job.status.value} again", style="green")
        if cli.where.local:
            say(f"Nobody runs it by itself here: relayq --local run --id {job_id}")

    cli.answer(job_shape(job), show_redriven)


def _forget_one(cli: Cli, relayq: RelayQ, job_id: str) -> None:
    if not relayq.forget(job_id):
        raise no_such_job(job_id, TABLE)
    cli.answer({"id": job_id, "forgotten": True}, lambda: say(f"{job_id} is forgotten"))


_REDRIVE = _Work(
    "redrive",
    "redriven",
    True,
    _redrive_one,
    lambda relayq, ids, rate, stop: relayq.bulk.redrive(ids, rate=rate, stop=stop),
)
_FORGET = _Work(
    "forget",
    "forgotten",
    False,
    _forget_one,
    lambda relayq, ids, rate, stop: relayq.bulk.forget(ids, rate=rate, stop=stop),
)
