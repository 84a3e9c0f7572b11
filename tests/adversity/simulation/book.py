"""The book: what has happened to each job, which the judges need to judge what happens next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from relayq_core.model.backoff import Backoff
from relayq_core.model.record import JobRecord
from tests.adversity.simulation.world import Actor, Violation, World


class Snapshot(NamedTuple):
    """Where a job is: its row in either table."""

    job: JobRecord | None
    failed: JobRecord | None


class Promised(NamedTuple):
    """What holds for a job: by its row, else its type, else the settings."""

    max_attempts: int
    backoff: Backoff
    #: what the sweeper goes by, which does not know the type
    backoff_without_type: Backoff


class Start(NamedTuple):
    """A handler that was started."""

    attempt: int
    lease: str
    at: int


@dataclass
class Story:
    """What happened to one job since it was dispatched, or redriven."""

    starts: list[Start] = field(default_factory=list)
    #: the runners whose handlers are running, by lease
    running: dict[str, Actor] = field(default_factory=dict)
    completed_at: int | None = None
    cancel_acknowledged: bool = False
    #: who called failed(), by lease
    failed_by: dict[str, Actor] = field(default_factory=dict)
    #: what each lease's handler returned, as JSON, or raised
    returned: dict[str, str | None] = field(default_factory=dict)
    raised: dict[str, BaseException] = field(default_factory=dict)
    #: since when a runner could have claimed it, true time
    ready_at: int | None = None


class Book:
    """Notes kept by the judges, and their one way to say that a law does not hold."""

    def __init__(self, world: World, *, most_skew: int, promised: Callable[[JobRecord], Promised]) -> None:
        self.world = world
        self.most_skew = most_skew
        self.promised = promised
        #: clocks are set while actors run: what is bound to one reading of a clock is judged with that much play
        self.clocks_step = False
        self.stories: dict[str, Story] = defaultdict(Story)
        self.accepted: set[str] = set()
        self.written: set[str] = set()
        self.forgotten: set[str] = set()
        self.deleted: set[str] = set()
        #: how each lease was settled
        self.settled: dict[str, str] = {}
        #: how often a job has moved between the tables
        self.moves: defaultdict[str, int] = defaultdict(int)
        #: lease -> the runner whose claim took it
        self.holders: dict[str, Actor] = {}

    def hold(self, number: int, condition: bool, job_id: str, what: str) -> None:
        """A law holds for a job, or the schedule ends here."""
        if not condition:
            violation = Violation(f"law {number}: {what} (job {job_id})")
            # a handler's exceptions are the runner's business: the world must hear of this one all the same
            self.world.broken = self.world.broken or violation
            raise violation

    def is_holder(self, actor: Actor, lease: str | None) -> bool:
        """This actor, or the worker it runs for, has claimed with that lease."""
        holder = self.holders.get(lease or "")
        return holder is not None and holder in (actor, actor.works_for)

    @property
    def play(self) -> int:
        """How far readings of clocks may be apart, milliseconds."""
        return 2 * self.most_skew if self.clocks_step else 0
