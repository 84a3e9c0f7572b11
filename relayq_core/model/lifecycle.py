"""Where a job goes next: the drawing, and the table behind it. Every module of this folder decides without I/O.

                 dispatch
                    |
                    v            claim                  complete
                 pending -----------------> processing ------------> completed
                    |                        |  ^  |
                    |   retry, snooze,       |  |  |   bury
                    |   give back, release   |  |  +-----------------> failed
                    |                        v  | claim                  |
                    |                      retrying <----------+         | redrive
                    |  cancel                |  cancel         |         v
                    +--------> cancelled <---+            (sweeper)   pending
                                   ^
                                   +---- processing, when its cancel mark is seen at the settle

A claim takes a lease; only the holder of the lease may settle, or the sweeper once the lease has run out. All
times are epoch milliseconds, all durations milliseconds unless they are options of a job (seconds).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord, Status


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    GIVE_BACK = "give back"
    RELEASE = "release"
    BURY = "bury"
    CANCEL = "cancel"
    REDRIVE = "redrive"

    __hash__ = str.__hash__  # as Status has it


#: (status, event) -> status. What is not here cannot happen.
TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.PENDING, Event.CLAIM): Status.PROCESSING,
    (Status.PENDING, Event.CANCEL): Status.CANCELLED,
    (Status.RETRYING, Event.CLAIM): Status.PROCESSING,
    (Status.RETRYING, Event.CANCEL): Status.CANCELLED,
    (Status.PROCESSING, Event.COMPLETE): Status.COMPLETED,
    (Status.PROCESSING, Event.RETRY): Status.RETRYING,
    (Status.PROCESSING, Event.SNOOZE): Status.RETRYING,
    (Status.PROCESSING, Event.GIVE_BACK): Status.RETRYING,
    (Status.PROCESSING, Event.RELEASE): Status.RETRYING,
    (Status.PROCESSING, Event.BURY): Status.FAILED,
    (Status.PROCESSING, Event.CANCEL): Status.CANCELLED,
    (Status.FAILED, Event.REDRIVE): Status.PENDING,
}

#: A settle of these kinds gives way to a cancel that came meanwhile; a success counts all the same.
YIELDS_TO_CANCEL = frozenset({Event.RETRY, Event.SNOOZE, Event.GIVE_BACK, Event.RELEASE, Event.BURY})


class Settlement(NamedTuple):
    """A job as it is to be, and whether a runner is to be told of it.

    `keeps_row` is False for a job that completed and is not to be kept: its row is deleted instead of written.
    """

    event: Event
    after: JobRecord
    hand_off: bool = False
    keeps_row: bool = True

    @property
    def run_at(self) -> int:
        """When it may next be started."""
        return self.after.available_at


#: The sweeper may have moved due_at since the row was read; and who settles always leaves its name.
_ALWAYS_WRITTEN = frozenset({"due_at", "settled_by"})


def written(before: JobRecord, after: JobRecord) -> dict[str, Any]:
    """The fields that are written to turn the one record into the other; what others wrote meanwhile stays."""
    were = vars(before)
    return {name: value for name, value in vars(after).items() if value != were[name] or name in _ALWAYS_WRITTEN}


def next_look(available_at: int, now: int, policy: Policy) -> tuple[int, bool]:
    """`due_at`, when the sweeper should look, and whether to hand the job off now.

    A wait that a runner can sleep is handed off at once, and the sweeper looks only if that came to nothing; a
    longer one is the sweeper's, at its very moment.
    """
    if policy.hands_off and available_at - now <= policy.max_wait_ms:
        return max(available_at, now) + policy.stale_ms, True
    return max(available_at, now), False


def reached(record: JobRecord, event: Event) -> Status:
    try:
        return TRANSITIONS[record.status, event]
    except KeyError:
        msg = f"job {record.id!r} is {record.status}: it cannot {event}"
        raise AssertionError(msg) from None
