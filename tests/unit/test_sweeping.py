"""What the sweeper does with a row, by its state and the time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Status
from relayq_core.model import bounds, leases, settling, sweeping
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import Succeeded
from relayq_core.model.sweeping import Leave, Nudge, Postpone
from tests.support.factories import LIMITS, NOW, POLICY, a_job, a_lease
from tests.unit.decisions import SECOND, a_claimed_job, policy, told_once

# --- sweep ---


def look(job: JobRecord | None, seen: int | None = None, *, now: int = NOW, by: Policy = POLICY) -> sweeping.Decision:
    """What the sweeper makes of a row that the index had at `seen`."""
    due_at = seen if seen is not None else (job.due_at if job and job.due_at else NOW)
    return sweeping.decide(job, due_at, by, token="sweep-1", now=now, draw=0.5)


@pytest.mark.parametrize(
    "job", [None, a_job(due_at=NOW + 1), *(a_job(status=s) for s in Status if s.is_ended)], ids=str
)
def test_a_row_that_is_not_as_the_index_said_is_left(job: JobRecord | None) -> None:
    """The index is behind the row: it only nominates."""
    assert look(job, NOW + 30_000) == Leave()


@pytest.mark.parametrize(
    ("nudges", "wait"), [(0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 900), (6, 900), (10**9, 900)]
)
def test_a_waiting_job_is_nudged_ever_more_seldom(nudges: int, wait: int) -> None:
    """A runner that cannot start must not be asked without end."""
    assert look(a_job(nudges=nudges)) == Nudge(NOW + wait * SECOND)


@pytest.mark.parametrize(
    ("late_ms", "alive"), [(-60_000, True), (0, True), (1_999, True), (2_000, False), (10**9, False)]
)
def test_a_lease_is_over_when_no_clock_can_think_it_alive(late_ms: int, alive: bool) -> None:
    """Clocks differ by up to two seconds."""
    job = a_claimed_job()
    assert job.lease_until is not None
    decision = look(job, now=job.lease_until + late_ms)
    assert decision == Postpone(job.lease_until + 2_000) if alive else isinstance(decision, Settlement)


def test_a_running_row_without_a_lease_is_released() -> None:
    """It was edited by hand: it would otherwise stay forever."""
    assert isinstance(look(a_claimed_job(lease_until=None)), Settlement)


def test_a_crash_spends_its_attempt_and_waits_for_the_backoff() -> None:
    """As any other failure; the write is marked as the sweeper's."""
    job = a_claimed_job(attempt=2)
    settlement = sweeping.release(job, POLICY, token="sweep-1", now=NOW, draw=0.5)
    crash = (
        "JobCrashed: the runner of attempt 2 ended without settling "
        "(it overran its time, was killed, or ran out of memory)"
    )
    assert settlement == Settlement(
        Transition.RELEASE,
        job.evolve(
            status=Status.RETRYING,
            error=crash,
            errors_json=told_once(2, NOW, crash),
            available_at=NOW + 10_000,
            updated_at=NOW,
            due_at=NOW + 40_000,
            lease_id=None,
            lease_until=None,
            settled_by="sweep-1",
        ),
        hand_off=True,
    )


def test_the_crash_of_the_last_attempt_still_lets_failed_be_called() -> None:
    """At once, by a claim that starts no handler."""
    settlement = sweeping.release(a_claimed_job(attempt=3), POLICY, token="sweep-1", now=NOW, draw=0.5)
    assert (settlement.transition, settlement.after.exhausted, settlement.after.available_at) == (
        Transition.RELEASE,
        True,
        NOW,
    )
    assert leases.claim(settlement.after, a_lease()).attempt == 3


def test_a_crash_during_failed_buries_the_job() -> None:
    """It keeps the error of its last attempt: failed() may not be called twice."""
    job = a_claimed_job(attempt=3, max_attempts=3, exhausted=True, error="JobCrashed: attempt 3", errors_json="[1]")
    settlement = sweeping.release(job, POLICY, token="sweep-1", now=NOW, draw=0.5)
    assert (settlement.transition, settlement.after.error, settlement.after.errors_json) == (
        Transition.BURY,
        "JobCrashed: attempt 3",
        "[1]",
    )
    assert settlement.after.settled_by == "sweep-1"


def test_a_sweeper_that_knows_no_attempts_ends_a_job_that_keeps_crashing_at_last() -> None:
    """Only the runner knows how many its type allows; where each of them dies in failed(), five are enough."""
    job = a_claimed_job(attempt=3, exhausted=False)
    events = []
    while (
        settlement := sweeping.release(job, POLICY, token="sweep", now=NOW, draw=0.5)
    ).transition is Transition.RELEASE:
        events.append(settlement.after.exhausted)
        job = leases.claim(settlement.after, leases.request_lease("next", POLICY, now=NOW, remaining_ms=60_000))
        assert job.attempt == 3
    assert (settlement.transition, events) == (Transition.BURY, [True] * 4)


@pytest.mark.parametrize("exhausted", [False, True])
@pytest.mark.parametrize("attempt", [1, 3, 9, 10])
@pytest.mark.parametrize("policy_says", [1, 3])
def test_whatever_crashed_and_is_to_be_cancelled_is_cancelled(exhausted: bool, attempt: int, policy_says: int) -> None:
    """The mark lets nothing but a cancel or a success through: to bury it would be refused at each tick."""
    job = a_claimed_job(attempt=attempt, exhausted=exhausted, cancel_requested_at=NOW, error="JobCrashed: 3")
    settlement = sweeping.release(job, policy(max_attempts=policy_says), token="sweep-1", now=NOW, draw=0.5)
    assert (settlement.transition, settlement.after.status) == (Transition.CANCEL, Status.CANCELLED)


@pytest.mark.parametrize("allows", [1, 2, 3, 4, 10])
def test_a_crash_is_judged_by_the_type_where_it_is_known(allows: int) -> None:
    """A worker and the test kit have the job's code beside the sweeper."""
    job = a_claimed_job(attempt=3)
    after = sweeping.release(job, POLICY, token="s", now=NOW, draw=0.5, of_type=Options(max_attempts=allows)).after
    assert after.exhausted is (allows <= 3)


@given(attempt=st.integers(1, 20), allows=st.integers(1, 20), own=st.none() | st.integers(1, 20), crashed=st.booleans())
def test_a_job_taken_for_exhausted_goes_on_while_its_type_allows_more(
    attempt: int, allows: int, own: int | None, crashed: bool
) -> None:
    """Only where the row does not say it: the row's own number is no guess of the sweeper's."""
    job = a_claimed_job(attempt=attempt, max_attempts=own, exhausted=crashed)
    known = bounds.resolve_bounds(job, Options(max_attempts=allows), POLICY)
    settlement = settling.resume(job, known, POLICY, now=NOW, draw=0.5)
    if crashed and own is None and attempt < allows:
        assert settlement is not None
        assert (settlement.after.exhausted, settlement.after.attempt) == (False, attempt)
        assert settlement.after.status is Status.RETRYING
    else:
        assert settlement is None


@given(kept=st.integers(0, 10**7))
def test_a_completed_job_is_kept_for_ten_minutes_whatever_the_retention(kept: int) -> None:
    """A late try of its dispatch must find it, and not begin it again. (With 0 it is deleted instead.)"""
    after = settling.settle(a_claimed_job(), Succeeded(), LIMITS, policy(retention_ms=kept), now=NOW, draw=0.5).after
    assert after.expires_at == settling.compute_expiry(NOW + max(kept, 600_000))


@given(kept=st.integers(0, 10**7))
def test_a_cancelled_job_is_kept_for_an_hour_whatever_the_retention(kept: int) -> None:
    """A dispatch that is repeated within it must not bring the job back."""
    after = settling.cancel(a_job(), policy(retention_ms=kept), now=NOW).after
    assert after.expires_at == settling.compute_expiry(NOW + max(kept, 3_600_000))


def test_a_crash_of_a_job_that_was_to_be_cancelled_cancels_it() -> None:
    """Anything but success ends it as cancelled."""
    job = a_claimed_job(cancel_requested_at=NOW)
    assert sweeping.release(job, POLICY, token="sweep-1", now=NOW, draw=0.5).after.status is Status.CANCELLED


def test_the_row_says_how_many_tries_a_crashed_job_has() -> None:
    """The sweeper has no job types; where the row says nothing, the settings do."""
    for job, exhausted in [
        (a_claimed_job(attempt=1, max_attempts=1), True),
        (a_claimed_job(attempt=3, max_attempts=9), False),
        (a_claimed_job(attempt=3), True),
    ]:
        assert sweeping.release(job, POLICY, token="sweep-1", now=NOW, draw=0.5).after.exhausted is exhausted
