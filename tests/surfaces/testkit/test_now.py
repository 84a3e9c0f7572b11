"""The kit's clock: it stands at the real present until it is moved, so that moments made of the real time come."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest

from relayq_core import JobContext, dispatch, get, job
from relayq_core.testing import Kit, fake, inline, isolated_registry, on_moto


def _status(job_id: str) -> str:
    record = get(job_id)
    assert record is not None
    return record.status


@pytest.mark.parametrize("kit", [fake, inline, on_moto])
def test_a_moment_of_the_real_time_comes(
    kit: Callable[[], AbstractContextManager[Kit]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an hour is in an hour; the deadline lies ahead; and the time stands still until then."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with isolated_registry(), kit() as tools:

        @job(timeout=600)
        def remind(context: JobContext) -> bool:
            return context.deadline > datetime.now(UTC)

        before = tools.clock.now()
        job_id = dispatch(remind.job(), at=datetime.now(UTC) + timedelta(hours=1)).job_id
        tools.drain()
        assert (_status(job_id), tools.clock.now()) == ("pending", before)
        tools.time_travel(hours=2)
        tools.drain()
        record = tools.get(job_id)
        assert (record.status, record.result) == ("completed", True)


def test_a_moment_that_is_past_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`at=datetime.now(UTC)`, in a test whose time a library has frozen too."""
    frozen = datetime(2031, 5, 6, tzinfo=UTC)
    monkeypatch.setattr(time, "time_ns", lambda: round(frozen.timestamp() * 1e9))
    with isolated_registry(), inline() as kit:

        @job
        def remind() -> None: ...

        assert kit.clock.now() == round(frozen.timestamp() * 1000)
        assert _status(dispatch(remind.job(), at=frozen).job_id) == "completed"


def test_a_moment_that_was_the_present_is_past() -> None:
    """`at=datetime.now(UTC)`, some time after the kit began; a delay goes by the kit's own clock all the same."""
    with isolated_registry(), inline():

        @job
        def remind() -> None: ...

        for job_id in (None, "own"):
            time.sleep(0.002)
            assert _status(dispatch(remind.job(), at=datetime.now(UTC), job_id=job_id).job_id) == "completed"
        time.sleep(0.002)
        assert _status(dispatch(remind.job().with_options(at=datetime.now(UTC))).job_id) == "completed"
        delayed = dispatch(remind.job(), delay=0.001).job_id
        time.sleep(0.002)
        dispatch(remind.job(), at=datetime.now(UTC) + timedelta(hours=1))
        assert _status(delayed) == "pending"
