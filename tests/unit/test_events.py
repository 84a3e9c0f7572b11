"""Listeners: functions that are called when something happens to a job."""

import logging
from dataclasses import FrozenInstanceError

import pytest

from relayq_core import InvalidOption, JobEvent, on
from relayq_core.events.listeners import KINDS, Events, events
from tests.support.factories import a_job


def test_a_listener_hears_its_kind_of_event_and_no_other() -> None:
    """A listener to failures must not page an operator for a success."""
    told: list[JobEvent] = []
    channel = Events()
    channel.on("failed")(told.append)
    for kind in KINDS:
        channel.emit(JobEvent(kind=kind, job=a_job()))
    assert told == [JobEvent(kind="failed", job=a_job())]


def test_every_kind_of_event_can_be_listened_to() -> None:
    """The list in the docs is this list."""
    told: list[str] = []
    channel = Events()
    for kind in KINDS:
        channel.on(kind)(lambda event: told.append(event.kind))
        channel.emit(JobEvent(kind=kind, job=a_job()))
    assert told == list(KINDS)


def test_all_listeners_of_a_kind_hear_it_in_the_order_they_came() -> None:
    """Metrics and a user's own listener stand side by side."""
    told: list[str] = []
    channel = Events()
    channel.on("started")(lambda _: told.append("first"))
    channel.on("started")(lambda _: told.append("second"))
    channel.emit(JobEvent(kind="started", job=a_job()))
    assert told == ["first", "second"]


def test_a_listener_that_raises_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A job must not fail because a listener does; nor may the listeners after it."""
    told: list[JobEvent] = []
    channel = Events()

    @channel.on("processed")
    def broken(event: JobEvent) -> None:
        raise RuntimeError("statistics are down")

    channel.on("processed")(told.append)
    with caplog.at_level(logging.ERROR, "relayq"):
        channel.emit(JobEvent(kind="processed", job=a_job()))
    assert len(told) == 1
    (line,) = caplog.records
    told_of = "a listener raised; the job goes on: RuntimeError: statistics are down, at "
    assert line.getMessage().startswith(told_of)
    assert line.exc_info is None  # a traceback quotes every cause, and what it may contain
    assert (line.job_id, line.job_name, line.queue, line.attempt) == (  # type: ignore[attr-defined]
        a_job().id,
        "send_email",
        "emails",
        0,
    )


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    """A misspelt listener would wait forever."""
    with pytest.raises(InvalidOption) as raised:
        on("fialed")
    assert "there is no 'fialed'. Did you mean \"failed\"? Known: dispatched, started" in str(raised.value)


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    """So that it can be called and tested like any other."""

    def listener(event: JobEvent) -> None: ...

    assert on("failed")(listener) is listener
    events.off(listener)


def test_a_listener_can_be_forgotten() -> None:
    """Tests, and programs that come and go, take theirs away again."""
    told: list[JobEvent] = []
    channel = Events()
    channel.on("started")(told.append)
    channel.on("failed")(told.append)
    channel.off(told.append)
    channel.off(print)
    for kind in KINDS:
        channel.emit(JobEvent(kind=kind, job=a_job()))
    assert told == []


def test_a_listener_may_forget_itself_while_it_listens() -> None:
    """To hear of the next event only is a common wish; the others must still be called."""
    told: list[str] = []
    channel = Events()

    @channel.on("started")
    def once(event: JobEvent) -> None:
        told.append("once")
        channel.off(once)

    channel.on("started")(lambda _: told.append("always"))
    for _ in range(2):
        channel.emit(JobEvent(kind="started", job=a_job()))
    assert told == ["once", "always", "always"]


def test_an_event_cannot_be_changed() -> None:
    """What one listener does to it, the next would believe."""
    with pytest.raises(FrozenInstanceError):
        JobEvent(kind="failed", job=a_job()).kind = "processed"  # type: ignore[misc]
