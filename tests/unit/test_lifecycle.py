"""Where a job goes next: every decision, with the time as an argument and nothing else around it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayq_core import Exponential, Fixed, Status
from relayq_core.engine.dispatcher import is_same_dispatch
from relayq_core.model import bounds, leases, lifecycle, settling, sweeping
from relayq_core.model.backoff import Backoff
from relayq_core.model.bounds import Bounds
from relayq_core.model.lifecycle import TRANSITIONS, Settlement, Transition
from relayq_core.model.options import Options
from relayq_core.model.policy import Policy
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import AttemptOutcome, Failed, Snoozed, Succeeded
from relayq_core.model.sweeping import Leave, Nudge, Postpone
from tests.support.factories import LIMITS, NOW, POLICY, a_job, a_lease

SECOND = 1000
MINUTE = 60 * SECOND


def policy(**changes: Any) -> Policy:
    """The tests' policy, but for these."""
    return Policy(**{"max_attempts": 3, "backoff": Fixed(10), **changes})


def some_bounds(**changes: Any) -> Bounds:
    """The tests' bounds, with these changes."""
    return Bounds(**{"max_attempts": 3, "backoff": Fixed(10), "timeout_ms": None, "timeout_is_own": False, **changes})


def a_claimed_job(**changes: Any) -> JobRecord:
    """A job whose first attempt runs."""
    return leases.claim(a_job(), a_lease()).evolve(**changes)


def settle(job: JobRecord, outcome: AttemptOutcome, of: Bounds = LIMITS, by: Policy = POLICY) -> Settlement:
    """Settle it a second later, with the jitter in the middle."""
    return settling.settle(job, outcome, of, by, now=NOW + SECOND, draw=0.5)


def told_once(attempt: int, at: int, error: str) -> str:
    """A history of one error, as it is stored."""
    return json.dumps([{"attempt": attempt, "at": at, "error": error}], separators=(",", ":"))


# --- the table and the drawing ---


def test_every_status_can_be_reached_and_left_as_it_should() -> None:
    """The table is the whole of it: what is not there cannot happen."""
    reached = set(TRANSITIONS.values()) | {Status.PENDING}
    left = {status for status, _ in TRANSITIONS}
    assert reached == set(Status)
    assert left == {Status.PENDING, Status.RETRYING, Status.PROCESSING, Status.FAILED}


def test_every_event_happens_somewhere() -> None:
    """An event that is in no transition is dead code."""
    assert {event for _, event in TRANSITIONS} == set(Transition)


def test_only_a_claimed_job_can_be_settled() -> None:
    """Settling is for the holder of the lease; waiting jobs have none."""
    elsewhere = {event for status, event in TRANSITIONS if status is not Status.PROCESSING}
    assert elsewhere == {Transition.CLAIM, Transition.CANCEL, Transition.REDRIVE}


def test_an_ended_job_is_only_ever_brought_back_from_the_failed_table() -> None:
    """Completed and cancelled are final."""
    assert [move for move in TRANSITIONS if move[0].is_ended] == [(Status.FAILED, Transition.REDRIVE)]


def test_the_drawing_names_every_status_and_every_event() -> None:
    """It is the first thing a newcomer sees, and must not grow old."""
    drawing = lifecycle.__doc__ or ""
    assert [word for word in (*Status, *Transition) if word.value not in drawing] == []


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(
    "event", [Transition.CLAIM, Transition.COMPLETE, Transition.CANCEL, Transition.REDRIVE, Transition.BURY]
)
def test_what_is_not_in_the_table_cannot_be_decided(status: Status, event: Transition) -> None:
    """A decision on a job in the wrong state is a defect, and says so."""
    job = a_job(status=status)
    decisions: dict[Transition, Callable[[], Status]] = {
        Transition.CLAIM: lambda: leases.claim(job, a_lease()).status,
        Transition.COMPLETE: lambda: settle(job, Succeeded()).after.status,
        Transition.CANCEL: lambda: settling.cancel(job, POLICY, now=NOW).after.status,
        Transition.REDRIVE: lambda: settling.redrive(job, POLICY, now=NOW).after.status,
        Transition.BURY: lambda: settling.bury(job, POLICY, now=NOW).after.status,
    }
    decide = decisions[event]
    if (status, event) in TRANSITIONS:
        assert decide() == TRANSITIONS[status, event]
    else:
        with pytest.raises(AssertionError, match=f"job 'job-1' is {status}: it cannot {event}"):
            decide()


# --- dispatch ---


@pytest.mark.parametrize(
    ("wait", "by", "due_at", "hand_off"),
    [
        (0, policy(), NOW + 30_000, True),
        (65_000, policy(), NOW + 95_000, True),
        (65_001, policy(), NOW + 65_001, False),
        (-5_000, policy(), NOW + 30_000, True),
        (0, policy(hands_off=False), NOW, False),
        (5_000, policy(hands_off=False), NOW + 5_000, False),
        (0, policy(max_wait_ms=0), NOW + 30_000, True),
        (1, policy(max_wait_ms=0), NOW + 1, False),
        (1_000, policy(stale_ms=5_000), NOW + 6_000, True),
    ],
)
def test_a_short_wait_is_slept_in_a_runner_and_a_long_one_is_the_sweepers(
    wait: int, by: Policy, due_at: int, hand_off: bool
) -> None:
    """The sweeper looks at what was handed off only when that came to nothing."""
    assert lifecycle.plan_start(NOW + wait, by, now=NOW) == (due_at, hand_off)


def test_the_same_job_with_the_same_payload_is_the_same_dispatch() -> None:
    """A second try under one id is accepted; another job under that id is not."""
    assert is_same_dispatch(a_job(), a_job(status=Status.COMPLETED, attempt=2, created_at=1))
    assert not is_same_dispatch(a_job(), a_job(name="other"))
    assert not is_same_dispatch(a_job(), a_job(payload_json='{"to":"x"}'))


# --- claim ---


def test_a_claim_counts_the_attempt_and_takes_the_lease() -> None:
    """It leaves due_at alone: that is what makes the happy path cheap."""
    job = a_job(nudges=4, attempt=1, status=Status.RETRYING)
    lease = a_lease("mine", now=NOW + 5, budget_ms=60_000)
    assert leases.claim(job, lease) == job.evolve(
        status=Status.PROCESSING,
        attempt=2,
        lease_id="mine",
        lease_until=NOW + 5 + 10_000 + 60_000,
        nudges=0,
        started_at=NOW + 5,
        updated_at=NOW + 5,
    )


def test_a_lease_lasts_as_long_as_the_jobs_own_timeout_and_the_grace() -> None:
    """A crash of a short job is noticed soon, whatever the runner's own timeout is."""
    assert leases.claim(a_job(timeout_ms=5_000), a_lease()).lease_until == NOW + 15_000


def test_a_lease_that_is_renewed_lasts_for_another_while_however_long_its_job_has_run() -> None:
    """Else failed(), and a settle that is not answered at once, would have no time left after a long handler."""
    claimed = leases.claim(a_job(), leases.request_renewed_lease("mine", POLICY, now=NOW))
    later = NOW + 600_000
    assert leases.measure_lease(claimed, POLICY, now=later) < 0
    assert leases.measure_lease(claimed, policy(renews=True), now=later) == leases.RENEWED_MS


def test_a_lease_leaves_the_end_of_the_invocation_for_the_settle() -> None:
    """Otherwise a handler that used up all of its time could not say how it went."""
    assert leases.request_lease("mine", POLICY, now=NOW, remaining_ms=60_000) == leases.Lease(
        "mine", NOW, 50_000, 10_000
    )
    assert leases.request_lease("mine", POLICY, now=NOW, remaining_ms=5_000).budget_ms == 0


def test_a_lease_is_no_longer_than_any_job_of_this_runner_may_run() -> None:
    """A row dispatched by name does not say how long its job may run, but the runner knows the most it can be."""
    assert (
        leases.request_lease("mine", POLICY, now=NOW, remaining_ms=900_000, longest_ms=30_000).until(None)
        == NOW + 40_000
    )
    assert (
        leases.request_lease("mine", POLICY, now=NOW, remaining_ms=900_000, longest_ms=30_000).until(600_000)
        == NOW + 610_000
    )
    assert leases.request_lease("mine", POLICY, now=NOW, remaining_ms=60_000, longest_ms=600_000).budget_ms == 50_000


@pytest.mark.parametrize(
    ("timeouts", "by_settings", "longest"),
    [
        ((5, 0.5, 60), None, 60_000),
        ((5, None), None, None),
        ((5, None), 90_000, 90_000),
        ((0.001,), None, 1),
        ((), None, None),
    ],
)
def test_the_longest_timeout_is_that_of_all_jobs_or_none(
    timeouts: tuple[float | None, ...], by_settings: int | None, longest: int | None
) -> None:
    """One job that may run as long as its runner is enough for a lease as long as that."""
    types = [Options.validate(timeout=timeout) for timeout in timeouts]
    assert bounds.find_longest_timeout(types, policy(timeout_ms=by_settings)).of_all == longest


def test_a_claim_of_an_exhausted_job_keeps_its_attempt() -> None:
    """It starts no handler: it only calls failed() and buries."""
    assert leases.claim(a_job(attempt=3, exhausted=True), a_lease()).attempt == 3


@pytest.mark.parametrize("status", Status)
def test_a_waiting_job_can_be_claimed_from_its_time_on(status: Status) -> None:
    """Never early by the runner's clock."""
    job = a_job(status=status, created_at=NOW - 1, available_at=NOW)
    assert leases.is_claimable(job, now=NOW) is status.is_waiting
    assert not leases.is_claimable(job, now=NOW - 1)


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_job_without_a_delay_can_be_claimed_whatever_its_callers_clock_said(attempt: int) -> None:
    """A caller 30 seconds ahead would have it started 30 seconds late, and a runner billed for the wait."""
    job = a_job(attempt=attempt, created_at=NOW + 30_000, available_at=NOW + 30_000)
    assert leases.is_claimable(job, now=NOW) is (attempt == 0)


# --- bounds ---


def test_the_row_wins_over_the_type_and_the_type_over_the_settings() -> None:
    """The order of the promise, for each option by itself."""
    by = policy(max_attempts=9, backoff=Fixed(9), timeout_ms=9_000)
    of_type = Options.validate(max_attempts=5, backoff=5, timeout=5)
    assert bounds.resolve_bounds(a_job(max_attempts=2, timeout_ms=2_000), of_type, by) == some_bounds(
        max_attempts=2, backoff=Fixed(5), timeout_ms=2_000, timeout_is_own=True
    )
    assert bounds.resolve_bounds(a_job(), of_type, by) == some_bounds(
        max_attempts=5, backoff=Fixed(5), timeout_ms=5_000, timeout_is_own=True
    )
    assert bounds.resolve_bounds(a_job(), None, by) == some_bounds(max_attempts=9, backoff=Fixed(9), timeout_ms=9_000)


def test_a_claim_past_the_tries_of_the_type_is_exhausted() -> None:
    """The sweeper does not know the type: it may have released a job once too often."""
    assert bounds.cap_attempts(a_claimed_job(attempt=4), some_bounds(max_attempts=3)) == a_claimed_job(
        attempt=3, exhausted=True
    )
    assert bounds.cap_attempts(a_claimed_job(attempt=3), some_bounds(max_attempts=3)) == a_claimed_job(attempt=3)


@pytest.mark.parametrize(
    ("timeout_ms", "remaining_ms", "lease_until", "stops_at"),
    [
        (None, 60_000, NOW + 100_000, NOW + 50_000),
        (20_000, 60_000, NOW + 100_000, NOW + 20_000),
        (55_000, 60_000, NOW + 100_000, NOW + 50_000),
        (None, 5_000, NOW + 100_000, NOW),
        (20_000, 60_000, NOW + 20_000, NOW + 13_000),
    ],
)
def test_a_handler_is_stopped_at_its_timeout_or_while_there_is_time_to_settle(
    timeout_ms: int | None, remaining_ms: int, lease_until: int, stops_at: int
) -> None:
    """Whichever comes first; and before its lease ends, should the claim's answer have come late."""
    job = a_claimed_job(lease_until=lease_until)
    assert (
        leases.compute_handler_deadline(
            job, some_bounds(timeout_ms=timeout_ms), POLICY, now=NOW, remaining_ms=remaining_ms
        )
        == stops_at
    )


@given(
    timeout_ms=st.none() | st.integers(1, 10**7),
    own=st.booleans(),
    remaining_ms=st.integers(15_000, 900_000),
    grace_ms=st.integers(1_000, 600_000),
    late_ms=st.integers(0, 60_000),
    others=st.none() | st.integers(1, 10**7),
)
def test_no_handler_outlives_its_lease(
    timeout_ms: int | None, own: bool, remaining_ms: int, grace_ms: int, late_ms: int, others: int | None
) -> None:
    """Even one that ignores its deadline is ended by the watchdog: the next runner would work beside it."""
    by = policy(grace_ms=grace_ms)
    row_timeout = timeout_ms if own else None
    longest = None if others is None or timeout_ms is None else max(others, timeout_ms)
    job = leases.claim(
        a_job(timeout_ms=row_timeout),
        leases.request_lease("mine", by, now=NOW, remaining_ms=remaining_ms, longest_ms=longest),
    )
    stops_at = leases.compute_handler_deadline(
        job, some_bounds(timeout_ms=timeout_ms), by, now=NOW + late_ms, remaining_ms=max(0, remaining_ms - late_ms)
    )
    assert job.lease_until is not None
    assert stops_at + leases.compute_patience(by) < job.lease_until


@pytest.mark.parametrize(
    ("timeout_ms", "own", "whole_ms", "fits"),
    [
        (890_000, True, 900_000, True),
        (890_001, True, 900_000, False),
        (890_001, False, 900_000, True),
        (None, False, 900_000, True),
        (604_800_000, True, None, True),
    ],
)
def test_a_timeout_that_can_never_fit_is_refused_in_words(
    timeout_ms: int | None, own: bool, whole_ms: int | None, fits: bool
) -> None:
    """Such a job would be stopped at every attempt; the settings' default alone is no such promise.

    A runner that does not know how long it may live calls no timeout too long.
    """
    problem = bounds.explain_misfit(some_bounds(timeout_ms=timeout_ms, timeout_is_own=own), whole_ms)
    assert (problem is None) is fits
    if problem:
        assert problem.startswith("its timeout of 890.001 s can never fit: this runner lives 900 s and needs 10 s")


# --- settle ---


def test_a_success_completes_the_job() -> None:
    """It has its result, no lease, and is off the index."""
    job = a_claimed_job(error="ValueError: earlier", errors_json="[]")
    assert settle(job, Succeeded('{"sent":3}')) == Settlement(
        Transition.COMPLETE,
        job.evolve(
            status=Status.COMPLETED,
            result_json='{"sent":3}',
            error=None,
            updated_at=NOW + SECOND,
            finished_at=NOW + SECOND,
            due_at=None,
            lease_id=None,
            lease_until=None,
            settled_by="lease-1",
            expires_at=(NOW + SECOND) // 1000 + 604_800,
        ),
    )


def test_a_failure_is_tried_again_after_its_backoff() -> None:
    """The error is kept, and the history of errors grows by one."""
    job = a_claimed_job()
    assert settle(job, Failed("ValueError: no\n  at app.py:3", "ValueError: no")) == Settlement(
        Transition.RETRY,
        job.evolve(
            status=Status.RETRYING,
            error="ValueError: no\n  at app.py:3",
            errors_json=json.dumps(
                [{"attempt": 1, "at": NOW + SECOND, "error": "ValueError: no"}], separators=(",", ":")
            ),
            available_at=NOW + 11 * SECOND,
            updated_at=NOW + SECOND,
            due_at=NOW + 41 * SECOND,
            lease_id=None,
            lease_until=None,
            settled_by="lease-1",
        ),
        hand_off=True,
    )


def test_the_nth_failure_waits_for_the_nth_backoff() -> None:
    """Attempt 2 failed, so the second wait comes."""
    of = some_bounds(max_attempts=9, backoff=Exponential(10))
    waits = [
        settle(a_claimed_job(attempt=n), Failed("E", "E"), of).after.available_at - NOW - SECOND for n in (1, 2, 3)
    ]
    assert waits == [10_000, 20_000, 40_000]


def test_the_wait_of_the_handler_wins_over_the_backoff() -> None:
    """RetryAfter(3) means three seconds, not the backoff's ten."""
    assert settle(a_claimed_job(), Failed("E", "E", wait=3)).after.available_at == NOW + 4 * SECOND


def test_a_long_wait_is_left_to_the_sweeper() -> None:
    """No runner sleeps for an hour."""
    settlement = settle(a_claimed_job(), Failed("E", "E", wait=3600))
    assert (settlement.hand_off, settlement.after.due_at) == (False, settlement.after.available_at)


@pytest.mark.parametrize("outcome", [Failed("E", "E"), Failed("E", "E", wait=3)])
def test_the_last_failure_buries_the_job(outcome: Failed) -> None:
    """It is kept with its errors, for as long as failed jobs are kept."""
    job = a_claimed_job(attempt=3)
    settlement = settle(job, outcome)
    assert settlement.transition is Transition.BURY
    assert settlement.after == job.evolve(
        status=Status.FAILED,
        error="E",
        errors_json=settlement.after.errors_json,
        updated_at=NOW + SECOND,
        finished_at=NOW + SECOND,
        due_at=None,
        lease_id=None,
        lease_until=None,
        settled_by="lease-1",
        expires_at=(NOW + SECOND) // 1000 + 7_776_000,
    )


def test_a_final_failure_buries_the_job_at_its_first_attempt() -> None:
    """Bury means: do not try again."""
    assert settle(a_claimed_job(attempt=1), Failed("E", "E", final=True)).transition is Transition.BURY


def test_a_snooze_uses_up_no_attempt() -> None:
    """It does not count as an error either."""
    job = a_claimed_job(attempt=2, error="E", errors_json="[1]")
    settlement = settle(job, Snoozed(5))
    assert (settlement.transition, settlement.after.attempt, settlement.after.available_at) == (
        Transition.SNOOZE,
        1,
        NOW + 6 * SECOND,
    )
    assert (settlement.after.error, settlement.after.errors_json) == ("E", "[1]")


@given(attempt=st.integers(1, 5), most=st.integers(1, 5), final=st.booleans(), wait=st.none() | st.floats(0, 100))
def test_failed_is_called_exactly_when_the_job_is_buried(
    attempt: int, most: int, final: bool, wait: float | None
) -> None:
    """It is asked before the settle: the two must agree."""
    job, outcome, of = a_claimed_job(attempt=attempt), Failed("E", "E", wait, final), some_bounds(max_attempts=most)
    assert settling.will_bury(job, outcome, of) is (settle(job, outcome, of).transition is Transition.BURY)


@pytest.mark.parametrize("outcome", [Succeeded(), Snoozed(5)])
def test_failed_is_not_called_for_what_is_no_failure(outcome: AttemptOutcome) -> None:
    """That holds at the last attempt too."""
    assert not settling.will_bury(a_claimed_job(attempt=3), outcome, LIMITS)


def test_a_claim_that_knows_the_job_clears_the_mark_of_the_unknown() -> None:
    """The deploy is over: should the name be unknown again, it has its 15 minutes again."""
    assert settle(a_claimed_job(unknown_since=NOW), Snoozed(5)).after.unknown_since is None
    assert settle(a_claimed_job(unknown_since=NOW), Failed("E", "E")).after.unknown_since is None


# --- errors ---


def test_the_last_five_errors_are_kept_oldest_first() -> None:
    """A row has a budget; the last ones say most."""
    job = a_claimed_job()
    for attempt in range(1, 9):
        told = settle(
            job.evolve(attempt=attempt), Failed(f"E{attempt}", f"E{attempt}"), some_bounds(max_attempts=99)
        ).after
        job = leases.claim(told, a_lease())
    assert [error["error"] for error in job.errors] == ["E4", "E5", "E6", "E7", "E8"]
    assert [error["attempt"] for error in job.errors] == [4, 5, 6, 7, 8]


@given(st.text(st.characters(codec=None, categories=None)), st.integers(1, 3000))
def test_errors_are_bounded_whatever_they_say(text: str, times: int) -> None:
    """Settling can never fail on size, nor on a character that cannot be stored."""
    job = a_claimed_job()
    for _ in range(7):
        job = leases.claim(
            settle(job, Failed(text * times, text * times), some_bounds(max_attempts=99)).after, a_lease()
        )
    assert len((job.error or "").encode()) <= 8192
    assert [len(error["error"].encode()) <= 500 for error in job.errors] == [True] * 5
    assert len((job.errors_json or "").encode()) < 10_000


# --- cancel, give back, redrive ---


@pytest.mark.parametrize(
    "job", [a_job(), a_job(status=Status.RETRYING, attempt=1), a_claimed_job()], ids=lambda j: j.status
)
def test_a_job_is_cancelled_whether_it_waits_or_runs(job: JobRecord) -> None:
    """It leaves the index and is kept for a while, for callers who ask."""
    after = settling.cancel(job, POLICY, now=NOW).after
    assert (after.status, after.due_at, after.lease_id, after.finished_at) == (Status.CANCELLED, None, None, NOW)
    assert after.expires_at == NOW // 1000 + 604_800


def test_a_cancelled_job_can_be_seen_for_a_while_even_if_nothing_is_retained() -> None:
    """Retention 0 deletes what succeeded; who cancels a job wants to see that it is."""
    after = settling.cancel(a_job(), policy(retention_ms=0), now=NOW).after
    assert after.expires_at is not None
    assert after.expires_at > NOW // 1000


def test_an_unknown_name_is_given_back_uncounted() -> None:
    """A deploy may be under way: it is tried again in a minute."""
    settlement = settling.give_back(a_claimed_job(attempt=2), POLICY, now=NOW)
    assert settlement is not None
    assert (settlement.transition, settlement.after.status) == (Transition.GIVE_BACK, Status.RETRYING)
    assert (settlement.after.attempt, settlement.after.unknown_since) == (1, NOW)
    assert settlement.after.available_at == NOW + MINUTE


@pytest.mark.parametrize(("minutes", "given_back"), [(0, True), (14, True), (14.99, True), (15, False), (60, False)])
def test_patience_with_an_unknown_name_ends_after_15_minutes(minutes: float, given_back: bool) -> None:
    """Counted from the first time, however often it was tried."""
    job = a_claimed_job(unknown_since=NOW)
    settlement = settling.give_back(job, POLICY, now=NOW + round(minutes * MINUTE))
    assert (settlement is not None) is given_back
    assert settlement is None or settlement.after.unknown_since == NOW


def test_an_exhausted_job_that_is_given_back_stays_exhausted() -> None:
    """Its claim was not counted, so there is nothing to give back."""
    settlement = settling.give_back(a_claimed_job(attempt=3, exhausted=True), POLICY, now=NOW)
    assert settlement is not None
    assert (settlement.after.attempt, settlement.after.exhausted) == (3, True)


def test_a_reason_of_relayqs_own_buries_with_that_reason() -> None:
    """Such as a name that stayed unknown."""
    settlement = settling.bury_with(a_claimed_job(), "UnknownJob: no job", "UnknownJob", POLICY, now=NOW)
    assert (settlement.transition, settlement.after.error) == (Transition.BURY, "UnknownJob: no job")
    assert settlement.after.errors == [{"attempt": 1, "at": NOW, "error": "UnknownJob"}]


def test_a_redriven_job_begins_again_under_its_own_id() -> None:
    """Its attempt is 0 and its history stays; nothing of its former end is left."""
    failed = settle(
        a_claimed_job(attempt=3, progress_json="{}", unknown_since=1, cancel_requested_at=1, exhausted=True),
        Failed("E", "E"),
    ).after
    later = NOW + 5 * MINUTE
    assert settling.redrive(failed, POLICY, now=later) == Settlement(
        Transition.REDRIVE,
        a_job(errors_json=failed.errors_json, available_at=later, updated_at=later, due_at=later + 30_000),
        hand_off=True,
    )


def test_a_redriven_job_is_left_to_the_sweeper_where_nothing_is_handed_off() -> None:
    """HANDOFF=none means none."""
    settlement = settling.redrive(a_job(status=Status.FAILED, due_at=None), policy(hands_off=False), now=NOW)
    assert (settlement.hand_off, settlement.after.due_at) == (False, NOW)


@pytest.mark.parametrize(("at", "seconds"), [(1000, 1), (1001, 2), (1999, 2), (2000, 2)])
def test_an_expiry_is_never_before_its_moment(at: int, seconds: int) -> None:
    """TTL counts in seconds: a window of 1.5 s must not end after 1."""
    assert settling.compute_expiry(at) == seconds


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


# --- whatever happens ---


def step(job: JobRecord, choice: str, by: Policy, of: Bounds, now: int, wait: float) -> JobRecord:
    """The job after one thing that may happen to it, or as it was where that cannot."""
    failed = Failed("E" * 300, "E" * 300, None if wait > 50 else wait)
    if job.status.is_waiting:
        if choice == "cancel":
            return settling.cancel(job, by, now=now).after
        return leases.claim(job, leases.request_lease(f"lease-{now}", by, now=now, remaining_ms=60_000))
    if job.status is Status.FAILED:
        return settling.redrive(job, by, now=now).after
    if job.status.is_ended:
        return job
    job = bounds.cap_attempts(job, of)
    match choice:
        case "succeed":
            return settling.settle(job, Succeeded(), of, by, now=now, draw=0.5).after
        case "fail":
            return settling.settle(job, failed, of, by, now=now, draw=0.5).after
        case "snooze":
            return settling.settle(job, Snoozed(wait), of, by, now=now, draw=0.5).after
        case "give back":
            back = settling.give_back(job, by, now=now) or settling.bury_with(job, "E", "E", by, now=now)
            return back.after
        case "crash":
            return sweeping.release(job, by, token=f"sweep-{now}", now=now, draw=0.5).after
        case "mark":
            return job.evolve(cancel_requested_at=now)
        case _:
            return settling.cancel(job, by, now=now).after


def check(job: JobRecord) -> None:
    """What is true of every job at every time."""
    live = not job.status.is_ended
    running = job.status is Status.PROCESSING
    assert job.attempt >= 0
    assert (job.due_at is not None) is live, "only live jobs are on the index, and all of them"
    assert (job.expires_at is not None) is not live, "only ended jobs expire"
    assert (job.finished_at is not None) is not live
    assert (job.lease_id is not None) is running, "only a running job has a lease"
    assert (job.lease_until is not None) is running
    assert len(job.errors) <= 5
    assert job.status is not Status.COMPLETED or job.error is None
    assert job.status is not Status.FAILED or job.error
    assert live or job.updated_at == job.finished_at


choices = st.sampled_from(["succeed", "fail", "snooze", "give back", "crash", "mark", "cancel"])
steps = st.lists(st.tuples(choices, st.integers(0, 20 * MINUTE), st.floats(0, 100)), max_size=40)
policies = st.builds(
    Policy,
    hands_off=st.booleans(),
    max_wait_ms=st.sampled_from([0, 65_000]),
    retention_ms=st.sampled_from([0, 604_800_000]),
    max_attempts=st.integers(1, 5),
    backoff=st.just(Fixed(10)),
)


@settings(max_examples=300)
@given(steps, policies, st.none() | st.integers(1, 5))
def test_whatever_happens_to_a_job_it_stays_whole(
    steps: list[tuple[str, int, float]], by: Policy, own_tries: int | None
) -> None:
    """Any story at all: on the index while it lives, off it when it has ended, never below zero tries."""
    due_at, _ = lifecycle.plan_start(NOW, by, now=NOW)
    job, now = a_job(due_at=due_at, max_attempts=own_tries), NOW
    of = bounds.resolve_bounds(job, None, by)
    for choice, passed, wait in steps:
        now += passed
        job = step(job, choice, by, of, now, wait)
        check(job)


@given(st.lists(choices, min_size=1, max_size=60), st.integers(1, 5))
def test_counted_starts_are_never_more_than_max_attempts(choices: list[str], most: int) -> None:
    """The promise: a snooze and an unknown name give their count back, nothing else does."""
    by, of = policy(max_attempts=most), some_bounds(max_attempts=most)
    job, now, counted = a_job(), NOW, 0
    for choice in choices:
        if job.status is Status.FAILED:
            break
        before = job
        now += SECOND
        job = step(job, choice, by, of, now, 1)
        if job.status is Status.PROCESSING and before.status.is_waiting and not job.exhausted:
            counted += 1
        if before.status is Status.PROCESSING and choice in {"snooze", "give back"} and not before.exhausted:
            counted -= 1
    assert counted <= most


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_decision_depends_on_nothing_but_its_arguments(attempt: int, draw: float) -> None:
    """The same job, time and draw: the same answer, as often as one asks."""
    backoff: Backoff = Exponential(10, cap=3600, jitter=0.5)
    job, of = a_claimed_job(attempt=attempt), some_bounds(max_attempts=10**9, backoff=backoff)
    first, second = (settling.settle(job, Failed("E", "E"), of, POLICY, now=NOW, draw=draw) for _ in range(2))
    assert first == second
