"""The laws that hold whatever the nemesis did; the numbers are those of the simulation's checker.

Each takes the history of a run, and yields what breaks it: a job, and a sentence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

from relayq_core import JobRecord, Status
from relayq_core.model import budgets
from tests.adversity.chaos.history import Ack, History
from tests.adversity.chaos.log import Start
from tests.adversity.chaos.trial import LATER, SNOOZE

#: A unique key's window is kept in whole seconds, rounded up.
_ROUNDING_MS = 1_000


@dataclass(frozen=True, slots=True)
class Breach:
    """A job, and the sentence that does not hold of it."""

    job_id: str
    what: str


Law = Callable[[History], Iterator[Breach]]


def nothing_accepted_is_lost(history: History) -> Iterator[Breach]:
    """I1: a row of every accepted job is in one of the tables."""
    for job_id in history.accepted:
        if history.row(job_id) is None:
            yield Breach(job_id, "was accepted, and is in neither table")


def every_job_ends_in_one_state(history: History) -> Iterator[Breach]:
    """I2, I14: nothing waits or runs any more, and no job is in both tables."""
    for job_id, row in history.tables.jobs.items():
        if not row.status.is_ended:
            yield Breach(job_id, f"is still {row.status}")
        if row.status is Status.FAILED:
            yield Breach(job_id, "failed, and is in the jobs table")
        if job_id in history.tables.failed:
            yield Breach(job_id, "is in both tables")
    for job_id, row in history.tables.failed.items():
        if row.status is not Status.FAILED:
            yield Breach(job_id, f"is {row.status} in the failed table")


def nobody_is_there_uninvited(history: History) -> Iterator[Breach]:
    """A row is of a job that was accepted; a handler starts for no other; a payload has one job."""
    numbers = {order.number: job_id for job_id, order in history.accepted.items() if order is not None}
    for job_id in [*history.tables.jobs, *history.tables.failed, *history.starts]:
        parent = job_id.removesuffix("-child")  # one that died before it could say that its dispatch was accepted
        if job_id not in history.accepted and (parent == job_id or parent not in history.accepted):
            yield Breach(job_id, "is there, and nobody's dispatch was accepted")
    for job_id, starts in history.starts.items():
        number = starts[0].first.number
        if number in numbers and numbers[number] != job_id:
            yield Breach(job_id, f"runs the payload of {numbers[number]}")


def starts_are_bounded(history: History) -> Iterator[Breach]:
    """I3: at most max_attempts starts, not counting those that were given back by a snooze."""
    for job_id, row in _rows(history):
        starts = history.starts.get(job_id, [])
        counted = [start for start in starts if _how(start) != "Snooze"]
        most = row.max_attempts or 0
        if len(counted) > row.attempt:
            yield Breach(job_id, f"was started {len(counted)} times, and counts {row.attempt} attempts")
        if row.attempt > most:
            yield Breach(job_id, f"counts {row.attempt} attempts of at most {most}")


def handlers_do_not_overlap(history: History) -> Iterator[Breach]:
    """I4: no two handlers of one job at once, unless the nemesis had stopped one of them."""
    for one, other in history.overlaps():
        if not history.was_stopped_within(one) and not history.was_stopped_before(other):
            yield Breach(one.first.job, f"ran in {one.first.pid} and in {other.first.pid} at once")


def only_the_holder_settles(history: History) -> Iterator[Breach]:
    """I5: the result of a completed job is that of the attempt that settled, and that one had returned it."""
    for job_id, row in history.tables.jobs.items():
        if row.status is not Status.COMPLETED:
            continue
        result = row.result or {}
        settled = [start for start in history.starts.get(job_id, []) if start.first.nonce == result.get("nonce")]
        if not settled or _how(settled[0]) != "return":
            yield Breach(job_id, f"bears the result {result}, which no handler returned")
        elif not settled[0].first.attempt == result.get("attempt") == row.attempt:
            yield Breach(job_id, f"was settled by attempt {settled[0].first.attempt}, and counts {row.attempt}")


def nothing_starts_after_its_success(history: History) -> Iterator[Breach]:
    """I6: once `completed` is written no handler starts, unless its process was stopped after its claim."""
    for job_id, row in history.tables.jobs.items():
        if row.status is not Status.COMPLETED or row.finished_at is None:
            continue
        for start in history.starts.get(job_id, []):
            if start.first.wall > row.finished_at and not history.was_stopped_before(start):
                late = start.first.wall - row.finished_at
                yield Breach(job_id, f"was started {late} ms after its success was written")


def a_key_has_one_job(history: History) -> Iterator[Breach]:
    """I7: of two jobs with one key, the second was accepted when the first's window was over, or it had ended."""
    for acks in _by_key(history).values():
        for one, other in combinations([ack for ack in acks if _accepted_id(history, ack)], 2):
            if _accepted_id(history, one) == _accepted_id(history, other):
                continue
            if not (_may_follow(history, one, other) or _may_follow(history, other, one)):
                yield Breach(
                    _accepted_id(history, other) or "",
                    f"has the key {other.order.unique!r} together with {_accepted_id(history, one)}",
                )


def duplicates_are_told_of_the_first(history: History) -> Iterator[Breach]:
    """I8: a duplicate is answered with the id of a job that has its key, and no job of its own is there."""
    started = {start.first.number for starts in history.starts.values() for start in starts}
    for acks in _by_key(history).values():
        holders = {_accepted_id(history, ack) for ack in acks}
        for ack in acks:
            if ack.answer is None or not ack.answer.duplicate:
                continue
            if ack.answer.job_id not in holders:
                yield Breach(
                    ack.answer.job_id, f"was named to a duplicate of {ack.order.unique!r}, and has no such key"
                )
            if ack.order.number in started:
                yield Breach(ack.answer.job_id, f"was named to number {ack.order.number}, which ran all the same")


def an_expired_key_is_free(history: History) -> Iterator[Breach]:
    """I9: a dispatch that begins after the window is accepted, though the key's item is still there."""
    for acks in _by_key(history).values():
        for ack in acks:
            window = ack.order.unique_for
            if ack.answer is None or not ack.answer.duplicate or window is None:
                continue
            others = [other for other in acks if _accepted_id(history, other)]
            ends = [other.ended.wall + window * 1000 + _ROUNDING_MS for other in others]
            if ends and ack.began.wall > max(ends):
                yield Breach(ack.answer.job_id, f"was named to a duplicate of {ack.order.unique!r} after its window")


def failures_bear_error_and_payload(history: History) -> Iterator[Breach]:
    """I10: a failed job has its error and payload, had all its attempts or was buried, and failed() was called."""
    for job_id, row in history.tables.failed.items():
        order = history.accepted.get(job_id)
        starts = history.starts.get(job_id, [])
        if not row.error or len(row.error.encode()) > budgets.ERROR_BYTES:
            yield Breach(job_id, f"failed with the error {row.error!r}")
        if order is not None and row.payload["number"] != order.number:
            yield Breach(job_id, f"failed with the payload {row.payload}")
        if row.attempt < (row.max_attempts or 0) and "Bury" not in {_how(start) for start in starts}:
            yield Breach(job_id, f"failed after {row.attempt} of {row.max_attempts} attempts")
        crashed = "JobCrashed" in (row.error or "")
        if not history.told_failed.get(row.payload["number"]) and not crashed:
            yield Breach(job_id, "failed, and its failed() was not called")


def failed_is_told_to_failures_alone(history: History) -> Iterator[Breach]:
    """I10: failed() is not called for a job that goes on; a crash in it, or a cancel, may have come between."""
    for job_id, row in history.tables.jobs.items():
        order = history.accepted.get(job_id)
        told = history.told_failed.get(order.number, []) if order else []
        if told and job_id not in history.crashed and row.status is not Status.CANCELLED:
            yield Breach(job_id, f"is {row.status}, and its failed() was called")


def cancels_hold(history: History) -> Iterator[Breach]:
    """I11: a job that was cancelled stays so and starts no more; one that was marked does not fail nor try again."""
    asked = {cancel.job_id for cancel in history.cancels}
    for job_id, row in history.tables.jobs.items():
        if row.status is Status.CANCELLED and job_id not in asked:
            yield Breach(job_id, "is cancelled, and nobody asked for it")
    for cancel in history.cancels:
        told, end = cancel.record, history.row(cancel.job_id)
        if told is None or end is None or told.status not in {Status.CANCELLED, Status.PROCESSING}:
            continue
        allowed = {Status.CANCELLED} if told.status is Status.CANCELLED else {Status.CANCELLED, Status.COMPLETED}
        if end.status not in allowed:
            yield Breach(cancel.job_id, f"was told to be {told.status}, cancelled, and is {end.status}")
        for start in history.starts.get(cancel.job_id, []):
            later = start.first.mono > cancel.ended.mono and start.first.attempt > told.attempt
            if told.status is Status.CANCELLED:
                later = start.first.mono > cancel.ended.mono
            if later and not history.was_stopped_before(start):
                yield Breach(cancel.job_id, "was started after its cancel was acknowledged")


def the_index_is_empty(history: History) -> Iterator[Breach]:
    """I12: what has ended is not in the index, will expire, and holds no key without a window."""
    for job_id in history.tables.due:
        yield Breach(job_id, "is still in the index")
    for job_id, row in _rows(history):
        if row.due_at is not None or row.lease_id is not None:
            yield Breach(job_id, "has ended, and bears a due_at or a lease")
        if row.expires_at is None:
            yield Breach(job_id, "has ended, and will never expire")
    for key, (job_id, expires_at) in history.tables.keys.items():
        if expires_at is None:
            yield Breach(job_id, f"has ended, and holds {key!r}")


def nothing_starts_early(history: History) -> Iterator[Breach]:
    """I13: not before its delay is over, nor before the wait after an attempt that said its last word."""
    for job_id, order in history.accepted.items():
        starts = history.starts.get(job_id, [])
        if order is None or not starts:
            continue
        early = history.first_asked[job_id].began.wall + order.delay * 1000 - starts[0].first.wall
        if early > 0:
            yield Breach(job_id, f"was started {early:.0f} ms before its delay of {order.delay:.1f} s was over")
        for before, start in pairwise(starts):
            ended = before.ended
            if ended is None or ended.mono > start.first.mono:
                continue  # it was killed, or is one that was stopped and came back
            if history.was_stopped(before.first.pid, before.first.mono, start.first.mono):
                continue  # it may have said its word after its lease
            wait = {"RetryAfter": LATER, "Snooze": SNOOZE}.get(ended.how, order.backoff)
            early = ended.wall + wait * 1000 - start.first.wall
            if early > 0:
                yield Breach(job_id, f"was started {early:.0f} ms before the wait after {ended.how} was over")


def only_documented_errors_come_out(history: History) -> Iterator[Breach]:
    """A dispatch that raised anything but DispatchUnknown has left nothing behind; no runner met a defect."""
    for complaint in history.complaints:
        yield Breach("", f"a runner logged {complaint}")
    started = {start.first.number for starts in history.starts.values() for start in starts}
    for ack in history.acks:
        if ack.error is None or ack.unknown_id is not None:
            continue
        if not ack.error.startswith(("StoreUnavailable:", "StoreError:")):
            yield Breach(ack.order.number, f"its dispatch raised {ack.error}")
        elif ack.order.number in started:
            yield Breach(ack.order.number, f"its dispatch raised {ack.error}, and it ran")
    for cancel in history.cancels:
        if cancel.error is not None and not cancel.error.startswith(("StoreUnavailable:", "StoreError:")):
            yield Breach(cancel.job_id, f"its cancel raised {cancel.error}")


LAWS: tuple[Law, ...] = (
    nothing_accepted_is_lost,
    every_job_ends_in_one_state,
    nobody_is_there_uninvited,
    starts_are_bounded,
    handlers_do_not_overlap,
    only_the_holder_settles,
    nothing_starts_after_its_success,
    a_key_has_one_job,
    duplicates_are_told_of_the_first,
    an_expired_key_is_free,
    failures_bear_error_and_payload,
    failed_is_told_to_failures_alone,
    cancels_hold,
    the_index_is_empty,
    nothing_starts_early,
    only_documented_errors_come_out,
)


def _rows(history: History) -> Iterator[tuple[str, JobRecord]]:
    yield from history.tables.jobs.items()
    yield from history.tables.failed.items()


def _how(start: Start) -> str:
    return start.ended.how if start.ended else ""


def _by_key(history: History) -> dict[str, list[Ack]]:
    found: dict[str, list[Ack]] = defaultdict(list)
    for ack in history.acks:
        if ack.order.unique is not None:
            found[ack.order.unique].append(ack)
    return found


def _accepted_id(history: History, ack: Ack) -> str | None:
    """The job that this very call had accepted."""
    if ack.unknown_id is not None:
        return ack.unknown_id if history.row(ack.unknown_id) else None
    return ack.answer.job_id if ack.answer is not None and not ack.answer.duplicate else None


def _may_follow(history: History, first: Ack, second: Ack) -> bool:
    """The second dispatch may have been written when the first one's key was free."""
    if first.order.unique_for is not None:
        return second.ended.wall >= first.began.wall + first.order.unique_for * 1000
    row = history.row(_accepted_id(history, first) or "")
    return row is not None and row.finished_at is not None and second.ended.wall >= row.finished_at
