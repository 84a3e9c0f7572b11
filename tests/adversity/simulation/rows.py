"""The judge of rows: is a write one that may be, given the row as it was?"""

from __future__ import annotations

from operator import attrgetter

from relayq_core.errors import RetryAfter, Snooze
from relayq_core.model import budgets, leases, lifecycle, settling
from relayq_core.model.record import JobRecord, Status
from tests.adversity.simulation.book import Book, Snapshot, Story
from tests.adversity.simulation.world import CANARY, Actor

#: What no settle changes: who the job is, what it was given, and what it may use.
_KEPT = (
    "id",
    "name",
    "queue",
    "payload_json",
    "max_attempts",
    "backoff",
    "timeout_ms",
    "created_at",
    "parent_id",
    "root_id",
    "depth",
    "trace_id",
    "unique_pk",
    "unique_for_ms",
)
_kept = attrgetter(*_KEPT)


class Rows:
    """Judges every change of a row in either table."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._hold = book.hold

    def changed(self, actor: Actor, verb: str, job_id: str, before: Snapshot, after: Snapshot) -> None:
        """A write took effect: is it one that may?"""
        old, new = before.job, after.job
        if new is not None:
            self._shape(new)
        if after.failed is not None and before.failed is None:
            self._failure(after.failed)
        if old is None and new is None:
            if verb == "forget":
                self._book.forgotten.add(job_id)
            return
        if old is None or (verb == "redrive" and before.failed is not None):
            assert new is not None
            self._appeared(verb, new, before)
        elif new is None or (verb == "settle (bury)" and after.failed is not None and before.failed is None):
            self._vanished(actor, verb, old, after)
        else:
            self._moved(actor, verb, old, new)
        self._one_row(job_id, after)

    def expires(self, row: JobRecord) -> None:
        """TTL deletes a row."""
        self._hold(1, row.status.is_ended, row.id, "a live row expired")
        self._book.deleted.add(row.id)

    # --- what every row looks like ---

    def _shape(self, row: JobRecord) -> None:
        live = not row.status.is_ended
        self._hold(12, live == (row.due_at is not None), row.id, "live rows are in the index, ended rows are not")
        self._hold(12, live == (row.expires_at is None), row.id, "only ended rows expire")
        self._hold(4, (row.status is Status.PROCESSING) == (row.lease_id is not None), row.id, "a lease means running")
        self._hold(4, (row.lease_id is None) == (row.lease_until is None), row.id, "a lease has an end")
        self._hold(3, row.attempt >= 0, row.id, "attempts are not negative")
        if row.max_attempts is not None:
            self._hold(3, row.attempt <= row.max_attempts, row.id, "attempts never exceed max_attempts")
        if row.error is not None:
            self._hold(16, CANARY not in f"{row.error}{row.errors_json}", row.id, "the payload is in an error")

    def _failure(self, row: JobRecord) -> None:
        self._hold(18, row.status is Status.FAILED and bool(row.error), row.id, "a failed job has its error")
        self._hold(10, len((row.error or "").encode()) <= budgets.ERROR_BYTES, row.id, "errors are bounded")
        self._hold(16, CANARY not in f"{row.error}{row.errors_json}", row.id, "the payload is in an error")

    def _one_row(self, job_id: str, after: Snapshot) -> None:
        both = after.job is not None and after.failed is not None
        self._hold(2, not both, job_id, "the job is in both tables")

    # --- one change ---

    def _appeared(self, verb: str, new: JobRecord, before: Snapshot) -> None:
        self._hold(2, verb in {"add", "add_many", "redrive"}, new.id, f"a row appeared by {verb}")
        if verb == "redrive":
            failed = before.failed
            self._hold(2, failed is not None, new.id, "only a failed job is redriven")
            assert failed is not None
            self._same(failed, new)
            self._hold(18, new.errors == failed.errors, new.id, "a redrive lost the errors")
            self._hold(3, new.attempt == 0 and not new.exhausted, new.id, "a redriven job begins with attempt 0")
            self._book.stories[new.id] = Story()
            self._book.moves[new.id] += 1

    def _vanished(self, actor: Actor, verb: str, old: JobRecord, after: Snapshot) -> None:
        story = self._book.stories[old.id]
        if verb == "settle (bury)":
            self._hold(10, after.failed is not None, old.id, "buried in one step, or not at all")
            self._hold(11, old.cancel_requested_at is None, old.id, "buried though it was to be cancelled")
            assert after.failed is not None
            self._buried(actor, old, after.failed)
            self._book.moves[old.id] += 1
        else:
            self._hold(1, verb == "settle (delete)", old.id, f"the row vanished by {verb}")
            self._book.deleted.add(old.id)
            self._returned(old, None, kept=False)
            story.completed_at = self._book.world.now
        self._book.settled[old.lease_id or ""] = "bury" if verb == "settle (bury)" else "complete"
        if actor.kind == "runner":
            self._hold(5, self._book.is_holder(actor, old.lease_id), old.id, "settled without holding the lease")
        else:
            self._ended_lease(actor, old)

    def _moved(self, actor: Actor, verb: str, old: JobRecord, new: JobRecord) -> None:
        if old.status is not new.status:
            allowed = any(key[0] == old.status and to == new.status for key, to in lifecycle.TRANSITIONS.items())
            self._hold(2, allowed, new.id, f"{old.status} became {new.status} by {verb}")
        if old.cancel_requested_at is not None:
            self._hold(11, new.status is not Status.RETRYING, new.id, "tried again though it was to be cancelled")
            self._hold(11, new.cancel_requested_at is not None, new.id, "the cancel's mark is gone")
        if old.status.is_ended:
            self._hold(2, old == new, new.id, f"{verb} changed a job that had ended")
        self._same(old, new)
        self._counted(verb, old, new)
        self._leased(actor, verb, old, new)
        self._waits(actor, verb, old, new)
        self._errors(verb, old, new)
        if verb not in {"save_progress", "claim"}:
            self._hold(22, old.progress_json == new.progress_json, new.id, f"{verb} lost the progress")
        if new.status is Status.COMPLETED:
            self._returned(old, new, kept=True)
            self._book.stories[new.id].completed_at = self._book.world.now
        if verb == "settle (cancel)" and actor.kind == "runner":
            returned = (old.lease_id or "") in self._book.stories[old.id].returned
            self._hold(11, not returned, new.id, "its handler returned, and it was cancelled")

    def _same(self, old: JobRecord, new: JobRecord) -> None:
        if _kept(old) != _kept(new):
            lost = [name for name in _KEPT if getattr(old, name) != getattr(new, name)]
            self._hold(18, False, new.id, f"{lost} is not what it was")

    # --- attempts ---

    def _counted(self, verb: str, old: JobRecord, new: JobRecord) -> None:
        step = new.attempt - old.attempt
        if verb == "claim":
            self._hold(3, step == (0 if old.exhausted else 1), new.id, f"a claim counted {step}")
        elif "snooze" in verb or "give back" in verb:
            self._hold(3, step == (0 if old.exhausted else -1), new.id, f"{verb} counted {step}")
        else:
            self._hold(3, step == 0, new.id, f"{verb} counted {step}")

    # --- leases ---

    def _leased(self, actor: Actor, verb: str, old: JobRecord, new: JobRecord) -> None:
        if old.lease_id == new.lease_id:
            if old.lease_until != new.lease_until:
                self._hold(4, verb == "renew_lease", new.id, f"{verb} moved the end of a lease")
                self._hold(4, self._book.is_holder(actor, old.lease_id), new.id, "a lease was renewed by another")
            return
        if old.lease_id is None:
            self._hold(4, verb == "claim", new.id, f"a lease was taken by {verb}")
            self._book.holders[new.lease_id or ""] = actor
            return
        self._hold(4, new.lease_id is None, new.id, "a lease was taken from under its holder")
        self._book.settled[old.lease_id] = verb
        self._ended_lease(actor, old)

    def _ended_lease(self, actor: Actor, old: JobRecord) -> None:
        """The holder ends its lease; another only once it ran out, or its holder is known to be dead."""
        mine = self._book.is_holder(actor, old.lease_id)
        ended = (old.lease_until or 0) <= self._book.world.now + self._book.most_skew
        if actor.kind in {"sweeper", "worker"}:
            self._hold(4, ended or mine, old.id, f"the {actor.kind} ended a lease that was alive")
            running = self._book.stories[old.id].running.get(old.lease_id or "")
            still = mine and running is not None and not running.dead
            self._hold(4, not still, old.id, "a worker ended the lease of a handler that runs")
        else:
            self._hold(5, mine, old.id, "settled without holding the lease")

    # --- waits ---

    def _waits(self, actor: Actor, verb: str, old: JobRecord, new: JobRecord) -> None:
        if new.status is not Status.RETRYING or old.status is not Status.PROCESSING:
            self._hold(21, old.available_at == new.available_at, new.id, f"{verb} moved its time")
            return
        waited = new.available_at - new.updated_at
        least, most = self._asked(actor, verb, old, new)
        self._hold(
            21, least <= waited <= most, new.id, f"{verb}: it waits {waited} ms, asked were {least} to {most} ms"
        )

    def _asked(self, actor: Actor, verb: str, old: JobRecord, new: JobRecord) -> tuple[int, int]:
        """How long a job is to wait after an attempt, milliseconds."""
        raised = self._book.stories[old.id].raised.get(old.lease_id or "")
        seconds = raised.seconds if isinstance(raised, RetryAfter | Snooze) else None
        if "give back" in verb:  # for its name is not known here, or to be started elsewhere at once
            waited = new.available_at - new.updated_at
            wait = settling.UNKNOWN_RETRY_MS if waited and new.unknown_since is not None else 0
            # or since its type allows more attempts than the sweeper knew of: then it backs off as ever
            return self._backed_off(verb, old, new) if old.exhausted and not new.exhausted else (wait, wait)
        if "release" in verb and actor.kind == "runner":  # a handler that did not stop: not before its lease is over
            least, most = self._backed_off(verb, old, new)
            if actor.renews:  # its process is ended long before the lease would
                return max(least, leases.SKEW_MS), max(most, leases.SKEW_MS + leases.STUBBORN_MS)
            rest = (old.lease_until or 0) + leases.SKEW_MS - new.updated_at
            return max(least, rest), max(most, rest)
        if seconds is not None and "release" not in verb:
            return round(seconds * 1000), round(seconds * 1000)
        return self._backed_off(verb, old, new)

    def _backed_off(self, verb: str, old: JobRecord, new: JobRecord) -> tuple[int, int]:
        promised = self._book.promised(old)
        backoffs = [promised.backoff, *([promised.backoff_without_type] if "release" in verb else [])]
        waits = [round(backoff.delay(old.attempt, draw) * 1000) for backoff in backoffs for draw in (0.0, 1.0)]
        # one that is exhausted waits for failed() alone: at once, or as its crashes in failed() ask for
        return 0 if new.exhausted else min(waits), max(waits)

    # --- errors and results ---

    def _errors(self, verb: str, old: JobRecord, new: JobRecord) -> None:
        """What each kind of settle leaves of the errors that were there."""
        if "retry" in verb or "release" in verb:
            self._one_error_more(old, new)
        elif verb == "settle (cancel)":
            raised = self._book.stories[old.id].raised.get(old.lease_id or "")
            if raised is not None and not isinstance(raised, Snooze):
                self._one_error_more(old, new)
        elif "cancel" not in verb:
            self._hold(18, old.errors_json == new.errors_json, new.id, f"{verb} changed the errors")

    def _one_error_more(self, old: JobRecord, new: JobRecord) -> None:
        kept = old.errors
        added = new.errors[-1] if new.errors else {}
        self._hold(18, new.errors == [*kept, added][-budgets.ERRORS_KEPT :], new.id, "the last five errors")
        self._hold(18, added.get("attempt") == old.attempt, new.id, "an error names its attempt")
        raised = self._book.stories[new.id].raised.get(old.lease_id or "")
        if raised is not None and "JobCrashed" not in added["error"]:
            named = added["error"].startswith(type(raised).__name__) and type(raised).__name__ in (new.error or "")
            self._hold(18, named, new.id, f"the error is not the one that was raised: {added['error']}")

    def _buried(self, actor: Actor, old: JobRecord, failed: JobRecord) -> None:
        self._same(old, failed)
        self._hold(22, old.progress_json == failed.progress_json, old.id, "burying lost the progress")
        self._hold(3, failed.attempt == old.attempt, old.id, "burying changed the count of attempts")
        if failed.errors != old.errors or not old.exhausted:
            self._one_error_more(old, failed)
        story = self._book.stories[old.id]
        raised = story.raised.get(old.lease_id or "")
        self._hold(19, (old.lease_id or "") not in story.returned, old.id, "its handler returned, and it was buried")
        self._reported(actor, old, failed)
        for_good = type(raised).__name__ == "Bury"
        unknown = (failed.error or "").startswith("UnknownJob")
        if unknown:
            since = old.unknown_since
            waited = since is not None and failed.updated_at - since >= settling.UNKNOWN_PATIENCE_MS
            self._hold(20, waited, old.id, "buried as unknown before 15 minutes had passed")
        most = self._book.promised(old).max_attempts
        enough = old.attempt >= most
        self._hold(20, for_good or unknown or enough, old.id, f"failed after {old.attempt} of {most} attempts")

    def _reported(self, actor: Actor, old: JobRecord, failed: JobRecord) -> None:
        """failed() comes before the burial; of a runner that died in it the sweeper buries the job."""
        if actor.kind == "runner" and not (failed.error or "").startswith("UnknownJob"):
            called = (old.lease_id or "") in self._book.stories[old.id].failed_by
            self._hold(17, called, old.id, "buried, and failed() was not called")
        else:
            unknown = (failed.error or "").startswith("UnknownJob")
            self._hold(17, old.exhausted or unknown, old.id, "buried by the sweeper, and failed() had no chance")

    def _returned(self, old: JobRecord, new: JobRecord | None, *, kept: bool) -> None:
        returned = self._book.stories[old.id].returned
        lease = old.lease_id or ""
        self._hold(19, lease in returned, old.id, "completed, and its handler has not returned")
        if kept and new is not None:
            self._hold(19, new.result_json == returned[lease], old.id, "the result is not what its handler returned")
