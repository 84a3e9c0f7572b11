"""How an attempt ends: the bounds of a job, what its outcome leads to, and which errors are kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import Exponential, Fixed, Status
from relayq_core.model import bounds, leases, settling
from relayq_core.model.lifecycle import Settlement, Transition
from relayq_core.model.options import Options
from relayq_core.model.settling import AttemptOutcome, Failed, Snoozed, Succeeded
from tests.support.factories import LIMITS, NOW, POLICY, a_job, a_lease
from tests.unit.decisions import SECOND, a_claimed_job, policy, settle, some_bounds

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
