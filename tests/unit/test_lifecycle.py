"""Where a job goes next: every decision, with the time as an argument and nothing else around it."""

from __future__ import annotations

from collections.abc import Callable

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
from relayq_core.model.settling import Failed, Snoozed, Succeeded
from tests.support.factories import NOW, POLICY, a_job, a_lease
from tests.unit.decisions import MINUTE, SECOND, a_claimed_job, policy, settle, some_bounds

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
