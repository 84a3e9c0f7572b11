"""What an operator sees of the whole: a queue at a glance, and whether the system is healthy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relayq_core.model.record import JobRecord

#: Three ticks of the schedule: after that an operator should look.
LATE_MS = 180_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue at a glance. Counts stop at the limit asked for: `capped` says that there are more."""

    queue: str
    live: int
    overdue: int
    #: how long the oldest overdue row has been due, milliseconds; right also where the counts are capped
    oldest_due_age_ms: int
    capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJobs:
    """Jobs that wait or run, by when they are due; `capped` says that more rows are there than were looked at."""

    jobs: tuple[JobRecord, ...]
    looked_at: int
    capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the system is: `problems` are sentences, none where all is well."""

    problems: tuple[str, ...]
    #: how long ago the last sweep began, milliseconds; None: there was none, or the table does not answer
    last_sweep_age_ms: int | None
    #: how long the oldest overdue job has been due, milliseconds
    oldest_due_age_ms: int
    queues: tuple[QueueView, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def sweep_is_late(self) -> bool:
        """Whether the last sweep is longer ago than three ticks."""
        return self.last_sweep_age_ms is None or self.last_sweep_age_ms > LATE_MS


def report_unreachable(problems: Sequence[str]) -> Health:
    """Return the health of a system with a table that does not answer: nothing more is known."""
    return Health(problems=tuple(problems), last_sweep_age_ms=None, oldest_due_age_ms=0, queues=())


def explain_sharing(sweepers: Sequence[str]) -> str | None:
    """Return what is wrong where the last two ticks named different runners; None where nothing is."""
    if len(sweepers) < 2:
        return None
    return (
        f"two stacks sweep these tables, those of the runners {' and '.join(sweepers)}: each hands the other's jobs to "
        "its own runner, which buries what it does not know. Disable one's schedule. Right after a runner was replaced "
        "this passes with the next tick"
    )


def judge(queues: Sequence[QueueView], last_sweep_at: int | None, now: int, sweepers: Sequence[str] = ()) -> Health:
    """Return the health of a system whose tables answer. `last_sweep_at` and `now` are epoch milliseconds."""
    swept = None if last_sweep_at is None else now - last_sweep_at
    problems = []
    if swept is None:
        problems.append(
            "the sweeper has not run yet; it ticks each minute, so right after the first deploy ask again in two; "
            "later see whether the stack's schedule is enabled, and its function's log"
        )
    elif swept > LATE_MS:
        problems.append(
            f"the sweeper has not run for {_format_minutes(swept)}, and should each minute: "
            "look at its schedule and its function's log"
        )
    problems += [
        f"a job in queue {view.queue!r} has been overdue for {_format_minutes(view.oldest_due_age_ms)}: "
        "look at the sweeper's log, and whether runners are throttled"
        for view in queues
        if view.oldest_due_age_ms > LATE_MS
    ]
    if (shared := explain_sharing(sweepers)) is not None:
        problems.append(shared)
    return Health(
        problems=tuple(problems),
        last_sweep_age_ms=swept,
        oldest_due_age_ms=max((view.oldest_due_age_ms for view in queues), default=0),
        queues=tuple(queues),
    )


def _format_minutes(ms: int) -> str:
    minutes = ms // 60_000
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
