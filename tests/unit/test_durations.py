"""Durations: wherever one is given, it is seconds or a timedelta, and means the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayq_core import (
    Backoff,
    Exponential,
    Fixed,
    InvalidOption,
    JobContext,
    Linear,
    RetryAfter,
    Settings,
    Snooze,
    get,
    job,
)
from relayq_core.model.options import Options
from relayq_core.testing import Kit, ManualClock, fake, isolated_registry

TAKERS: dict[str, Callable[[Any], object]] = {
    "delay": lambda duration: Options.validate(delay=duration),
    "timeout": lambda duration: Options.validate(timeout=duration),
    "unique_for": lambda duration: Options.validate(unique="key", unique_for=duration),
    "backoff": lambda duration: Options.validate(backoff=duration),
    "backoff's list": lambda duration: Options.validate(backoff=[duration, 5, duration]),
    "Fixed": lambda duration: Fixed(duration, cap=duration),
    "Linear": lambda duration: Linear(duration, cap=duration),
    "Exponential": lambda duration: Exponential(duration, cap=duration),
    "Backoff": lambda duration: Backoff("list", (duration,), duration),
    "RetryAfter": lambda duration: (RetryAfter(duration).seconds, str(RetryAfter(duration))),
    "Snooze": lambda duration: (Snooze(duration).seconds, str(Snooze(duration))),
    "the kit's clock": lambda duration: ManualClock(0).advance(duration),
    "time_travel": lambda duration: _after(lambda kit: kit.time_travel(duration)),
    "time_travel by name": lambda duration: _after(lambda kit: kit.time_travel(seconds=duration)),
    "a setting": lambda duration: Settings(timeout=duration, retention_seconds=duration, backoff=duration).policy,
}


def _after(travel: Callable[[Kit], object]) -> int:
    kit = Kit(clock=ManualClock(0))
    travel(kit)
    return kit.clock.now()


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
@given(st.integers(1, 1_000_000))
def test_a_duration_is_seconds_or_a_timedelta(take: Callable[[Any], object], seconds: int) -> None:
    """The two are one."""
    assert take(timedelta(seconds=seconds)) == take(seconds)


@pytest.mark.parametrize(
    "wrong", ["5", None, True, [5], timedelta(seconds=-1), -1, timedelta.max, float("nan")], ids=str
)
@pytest.mark.parametrize("take", [RetryAfter, Snooze, Fixed, lambda wait: Options.validate(delay=wait or False)])
def test_what_is_no_duration_is_refused_in_a_sentence(take: Callable[[Any], object], wrong: Any) -> None:
    """It is no TypeError from somewhere within."""
    with pytest.raises(InvalidOption, match="expected"):
        take(wrong)


def test_a_handler_that_snoozes_by_a_timedelta_snoozes() -> None:
    """A refusal would use up an attempt, and the last one buries the job."""
    with isolated_registry(), fake() as kit:

        @job(max_attempts=1, backoff=timedelta(minutes=1))
        def patient(context: JobContext) -> str:
            if context.remaining() and len(kit.all_dispatched()) == 1 and kit.clock.now() < until:
                raise Snooze(timedelta(hours=1))
            return "rested"

        until = kit.clock.now() + 3_600_000
        job_id = kit.relayq.dispatch(patient.job()).job_id
        kit.drain(delayed=True)
        record = get(job_id)
        assert record is not None
        assert (record.result, record.attempt) == ("rested", 1)
