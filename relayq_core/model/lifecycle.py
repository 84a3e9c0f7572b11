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


class Transition(StrEnum):
    """What can happen to a job that is stored."""

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


#: (status, transition) -> status. What is not here cannot happen.
TRANSITIONS: dict[tuple[Status, Transition], Status] = {
    (Status.PENDING, Transition.CLAIM): Status.PROCESSING,
    (Status.PENDING, Transition.CANCEL): Status.CANCELLED,
    (Status.RETRYING, Transition.CLAIM): Status.PROCESSING,
    (Status.RETRYING, Transition.CANCEL): Status.CANCELLED,
    (Status.PROCESSING, Transition.COMPLETE): Status.COMPLETED,
    (Status.PROCESSING, Transition.RETRY): Status.RETRYING,
    (Status.PROCESSING, Transition.SNOOZE): Status.RETRYING,
    (Status.PROCESSING, Transition.GIVE_BACK): Status.RETRYING,
    (Status.PROCESSING, Transition.RELEASE): Status.RETRYING,
    (Status.PROCESSING, Transition.BURY): Status.FAILED,
    (Status.PROCESSING, Transition.CANCEL): Status.CANCELLED,
    (Status.FAILED, Transition.REDRIVE): Status.PENDING,
}

#: These give way to a cancel that was requested while the job ran; a success counts all the same.
YIELDS_TO_CANCEL = frozenset(
    {Transition.RETRY, Transition.SNOOZE, Transition.GIVE_BACK, Transition.RELEASE, Transition.BURY}
)


class Settlement(NamedTuple):
    """A job as it is to be written, and whether to offer it to a runner afterwards.

    `keeps_row` is False for a job that completed and is not to be kept: its row is deleted instead of written.
    """

    transition: Transition
    after: JobRecord
    hand_off: bool = False
    keeps_row: bool = True


#: The sweeper may have moved due_at since the row was read, and every settle leaves its mark.
_ALWAYS_WRITTEN = frozenset({"due_at", "settled_by"})


def find_changes(before: JobRecord, after: JobRecord) -> dict[str, Any]:
    """Return the fields to write, with their values; the others may have been changed since `before` was read."""
    old = vars(before)
    return {name: value for name, value in vars(after).items() if value != old[name] or name in _ALWAYS_WRITTEN}


def plan_start(available_at: int, policy: Policy, *, now: int) -> tuple[int, bool]:
    """Return `due_at`, when the sweeper should look at the job, and whether to hand it off now.

    A wait that a runner can sleep is handed off at once, and the sweeper looks only if no runner has come; after a
    longer wait the sweeper hands it off at its moment.
    """
    if policy.hands_off and available_at - now <= policy.max_wait_ms:
        return max(available_at, now) + policy.stale_ms, True
    return max(available_at, now), False


def resolve_status(record: JobRecord, transition: Transition) -> Status:
    """Return the job's status after this transition. Raises AssertionError for one that cannot happen."""
    try:
        return TRANSITIONS[record.status, transition]
    except KeyError:
        msg = f"job {record.id!r} is {record.status}: it cannot {transition}"
        raise AssertionError(msg) from None
