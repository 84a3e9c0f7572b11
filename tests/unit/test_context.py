"""What a handler knows about its job, and what it may report while it runs."""

import asyncio
import json
import logging
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from relayq_core import InvalidOption, JobContext
from relayq_core.jobs.context import enter_job, log_fields
from relayq_core.jobs.lineage import current_job
from tests.support.factories import NOW, a_job


class Desk:
    """A clock that is moved by hand, and what was reported."""

    def __init__(self) -> None:
        self.now = NOW
        self.reports: list[dict[str, Any]] = []
        self.lease_is_mine = True

    def report(self, progress_json: str) -> bool:
        """Keep it, as the store would."""
        self.reports.append(json.loads(progress_json))
        return self.lease_is_mine

    def context(self, **changes: Any) -> JobContext:
        """A context whose time and table are this desk."""
        values: dict[str, Any] = {
            "job_id": "job-1",
            "name": "send_email",
            "queue": "emails",
            "attempt": 2,
            "max_attempts": 3,
            "deadline_ms": NOW + 60_000,
            "_now": lambda: self.now,
            "_report": self.report,
        }
        return JobContext(**{**values, **changes})


@pytest.fixture
def desk() -> Desk:
    """A fresh one."""
    return Desk()


@pytest.mark.parametrize(("attempt", "last"), [(1, False), (2, False), (3, True), (4, True)])
def test_the_last_attempt_knows_that_it_is_the_last(desk: Desk, attempt: int, last: bool) -> None:
    """A handler may then give up in a better way than by failing."""
    assert desk.context(attempt=attempt).is_last_attempt is last


def test_time_left_counts_down_to_the_deadline_and_not_below(desk: Desk) -> None:
    """A handler divides its work by it, or gives it to a client as a timeout: never negative."""
    context = desk.context()
    assert context.remaining() == 60.0
    desk.now += 59_500
    assert context.remaining() == 0.5
    desk.now += 10_000
    assert context.remaining() == 0.0
    assert context.deadline == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def test_the_idempotency_key_is_the_same_for_every_attempt(desk: Desk) -> None:
    """It is what keeps a second attempt from charging a card twice."""
    assert {desk.context(attempt=n).idempotency_key for n in (1, 2, 3)} == {"job-1"}


def test_progress_is_written_at_most_once_in_two_seconds(desk: Desk) -> None:
    """A handler may report in a tight loop; each write costs money."""
    context = desk.context()
    written = []
    for step in range(10):
        written.append(context.progress(step / 10, f"step {step}"))
        desk.now += 500
    assert written == [True, False, False, False] * 2 + [True, False]
    assert desk.reports[1] == {"fraction": 0.4, "note": "step 4"}


def test_the_last_progress_is_always_written(desk: Desk) -> None:
    """Otherwise a finished job would stand at 97 % forever."""
    context = desk.context()
    assert [context.progress(0.97), context.progress(0.98), context.progress(1)] == [True, False, True]
    assert [report["fraction"] for report in desk.reports] == [0.97, 1.0]


def test_progress_says_when_the_lease_is_gone(desk: Desk) -> None:
    """A handler that goes on is working for nothing, and may want to stop."""
    desk.lease_is_mine = False
    assert desk.context().progress(0.5) is False


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, math.inf, "0.5", None, True])
def test_a_fraction_is_from_0_to_1(desk: Desk, fraction: Any) -> None:
    """50 for 50 % is the usual mistake."""
    with pytest.raises(InvalidOption, match="progress: expected a fraction from 0 to 1, got"):
        desk.context().progress(fraction)
    assert desk.reports == []


def test_a_note_is_bounded_and_printable(desk: Desk) -> None:
    """It is rewritten with the row, and printed to terminals."""
    desk.context().progress(0.5, "\x1b[2J" + "\N{SNOWMAN}" * 1000)
    (report,) = desk.reports
    assert len(report["note"].encode()) <= 200
    assert "\x1b" not in report["note"]


def test_log_lines_of_a_handler_name_its_job(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """One can then find all lines of a job, also those of the user's code."""
    with caplog.at_level(logging.INFO, "relayq"):
        desk.context().logger.info("sent %d", 3, extra={"user": 7, "attempt": "theirs"})
    (line,) = caplog.records
    fields = {name: getattr(line, name) for name in ("job_id", "job_name", "queue", "attempt", "user")}
    assert line.getMessage() == "sent 3"
    assert line.name == "relayq.job"
    assert fields == {
        "job_id": "job-1",
        "job_name": "send_email",
        "queue": "emails",
        "attempt": "theirs",
        "user": 7,
    }


def test_a_job_and_its_context_have_the_same_fields(desk: Desk) -> None:
    """Lines from before, during and after the handler must be found by one search."""
    assert log_fields(desk.context()) == log_fields(a_job(attempt=2))


def test_a_context_does_not_print_its_inner_works(desk: Desk) -> None:
    """Handlers log it."""
    assert "_now" not in repr(desk.context())
    assert "_report" not in repr(desk.context())


def test_a_dispatch_inside_a_handler_knows_its_parent() -> None:
    """Lineage: who dispatched whom is read from here."""
    outer, inner = a_job(id="outer"), a_job(id="inner")
    seen = [current_job.get()]
    with enter_job(outer):
        seen.append(current_job.get())
        with enter_job(inner):
            seen.append(current_job.get())
        seen.append(current_job.get())
    seen.append(current_job.get())
    assert seen == [None, outer, inner, outer, None]


def test_a_handler_that_raises_leaves_no_parent_behind() -> None:
    """The next job of this process must not become its child."""
    with pytest.raises(ValueError, match="no"), enter_job(a_job()):
        raise ValueError("no")
    assert current_job.get() is None


def test_an_async_handler_is_a_parent_in_its_tasks_too() -> None:
    """It may dispatch from any of them."""

    async def dispatching() -> object:
        return await asyncio.create_task(asyncio.sleep(0, current_job.get()))

    with enter_job(a_job()):
        assert asyncio.run(dispatching()) == a_job()


def in_another_thread(call: Callable[[], object]) -> object:
    """What the call answers there."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    return answers[0]


def test_handlers_in_other_threads_do_not_mix_their_parents() -> None:
    """`relayq work` runs several at once."""
    with enter_job(a_job()):
        assert in_another_thread(current_job.get) is None


@pytest.mark.parametrize(
    ("keywords", "fields"),
    [
        ({"extra": None}, {}),
        ({"extra": None, "exc_info": None, "stack_info": None, "stacklevel": None}, {}),
        ({"extra": {"name": "Ada", "message": "hi", "asctime": 1, "args": 2}}, {"_name": "Ada", "_message": "hi"}),
        ({"extra": {"job_id": "theirs", "queue": "theirs"}}, {"job_id": "theirs", "queue": "theirs"}),
        ({"extra": ["no", "mapping"]}, {"extra": ["no", "mapping"]}),
        ({"extra": "text"}, {"extra": "text"}),
        ({"extra": MappingProxyType({"user": 7})}, {"user": 7}),
        ({"extra": {1: "one"}}, {"1": "one"}),
        ({"user": 7, "name": "Ada"}, {"user": 7, "_name": "Ada"}),
        ({"exc_info": True, "stack_info": True, "stacklevel": 2, "extra": {"user": 7}}, {"user": 7}),
        ({"exc_info": ValueError("told"), "stacklevel": "2"}, {}),
        ({"merge_extra": True}, {"merge_extra": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["debug", "info", "warning", "error", "exception", "critical"])
def test_no_keyword_of_a_log_line_fails_its_attempt(
    method: str, keywords: dict[str, Any], fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What logging refuses, None for what was not given included, is taken as well as can be."""
    with caplog.at_level(logging.DEBUG, "relayq.job"):
        getattr(Desk().context().logger, method)("sent %d", 3, **keywords)
    (record,) = caplog.records
    assert record.getMessage() == "sent 3"
    assert vars(record).items() >= {"job_id": "job-1", **fields}.items()
