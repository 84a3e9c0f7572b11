"""The event bus hears what happens to jobs, when nothing waits for it; and whatever it does, jobs do not notice."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from relayq_core import Snooze, dispatch, job, on
from relayq_core.engine.sweeper import Scope
from relayq_core.events.listeners import KINDS, Events, JobEvent
from relayq_core.events.publisher import TITLES, Publisher, build_detail
from relayq_core.model.record import JobRecord
from relayq_core.ports import Announcement
from relayq_core.testing import Bench, ManualClock, isolated_registry
from tests.support.factories import NOW, a_job

SECRET = "hunter2-must-not-be-told"


class Bus:
    """Remembers each call; `answer` may say that an entry is refused, take its time, or raise."""

    def __init__(self) -> None:
        self.calls: list[list[Announcement]] = []
        self.answer: Callable[[Announcement], str | None] = lambda _: None

    def put(self, announcements: Sequence[Announcement]) -> list[str | None]:
        self.calls.append(list(announcements))
        return [self.answer(announcement) for announcement in announcements]

    @property
    def told(self) -> list[dict[str, Any]]:
        """Everything published, in order."""
        return [json.loads(announcement.detail_json) for call in self.calls for announcement in call]

    @property
    def kinds(self) -> list[str]:
        return [told["event"] for told in self.told]


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def bench(bus: Bus) -> Bench:
    """RelayQ with an event bus."""
    return Bench(event_bus=bus)


@pytest.fixture
def lost() -> Iterator[list[str]]:
    """The jobs of which something was not published."""
    jobs: list[str] = []
    with isolated_registry():
        on("publish_failed")(lambda event: jobs.append(event.job.id))
        yield jobs


def down(_: Announcement) -> None:
    raise ConnectionError("no route to the bus")


# --- what is published ---


def test_a_job_is_published_from_dispatch_to_its_end(bench: Bench, bus: Bus) -> None:
    """One announcement for each thing that happened, with what a rule may ask for."""

    @job(queue="emails", max_attempts=2, backoff=30)
    def send(to: str) -> str:
        raise ValueError("no such mailbox")

    job_id = bench.relayq.dispatch("send", {"to": SECRET}).job_id
    bench.run(job_id)
    bench.clock.advance(seconds=30)
    bench.run(job_id)
    assert bus.kinds == ["dispatched", "started", "failed", "started", "failed"]
    retried, given_up = (told for told in bus.told if told["event"] == "failed")
    assert (retried["will_retry"], retried["status"], retried["attempt"]) == (True, "retrying", 1)
    assert (given_up["will_retry"], given_up["status"], given_up["attempt"]) == (False, "failed", 2)
    assert given_up["error"] == "ValueError: no such mailbox"
    assert "available_at" in retried
    assert "available_at" not in given_up
    assert {(told["id"], told["name"], told["queue"], told["table"]) for told in bus.told} == {
        (job_id, "send", "emails", "jobs")
    }
    assert SECRET not in json.dumps(bus.told)


def test_neither_payload_nor_result_is_ever_published(bench: Bench, bus: Bus) -> None:
    """Rules send events to places that no job's data should come to."""

    @job
    def answer(to: str) -> dict[str, str]:
        return {"result": SECRET}

    bench.run(bench.relayq.dispatch("answer", {"to": SECRET}).job_id)
    assert bus.kinds == ["dispatched", "started", "processed"]
    assert SECRET not in json.dumps(bus.told)


def test_an_error_is_published_in_its_first_words_only() -> None:
    """An event has a size, and an error may have any."""
    event = JobEvent(kind="failed", job=a_job(), error=ValueError("x" * 100_000), will_retry=False)
    assert len(build_detail(event, NOW, "jobs")["error"]) <= 300


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_is_published_or_decidedly_not(kind: str) -> None:
    """What concerns RelayQ itself is a metric: a rule is about jobs."""
    assert (kind in TITLES) != (kind in {"handoff_failed", "hint_failed", "publish_failed"})


def test_a_crash_that_the_sweeper_finds_is_published(bench: Bench, bus: Bus, crash: Callable[[str], JobRecord]) -> None:
    """Its runner cannot publish it any more."""
    job_id = bench.relayq.dispatch("anything", {}, max_attempts=1).job_id
    crash(job_id)
    bench.clock.advance(seconds=3600)
    bench.sweep(Scope())
    bench.sweep(Scope())
    assert bus.kinds == ["dispatched", "failed"]
    assert bus.told[1]["error"].startswith("JobCrashed: ")


def test_a_cancelled_job_is_published(bench: Bench, bus: Bus) -> None:
    """The process that cancels it publishes it."""
    bench.relayq.cancel(bench.relayq.dispatch("anything", {}, delay=60).job_id)
    assert bus.kinds == ["dispatched", "cancelled"]


# --- when it is published ---


def test_a_dispatch_is_published_after_the_handoff(bench: Bench, bus: Bus) -> None:
    """The job does not wait for its listeners."""
    offered: list[int] = []
    bus.answer = lambda _: offered.append(len(bench.handoff.offers))
    bench.relayq.dispatch("anything", {})
    assert offered == [1]


def test_a_start_is_published_once_the_job_is_settled(bench: Bench, bus: Bus) -> None:
    """Nothing stands between a claim and its handler, nor between the handler and the settle."""
    statuses: list[str] = []

    @job
    def work() -> None:
        statuses.append(f"{len(bus.calls)} calls")

    job_id = bench.relayq.dispatch("work", {}).job_id
    bus.answer = lambda _: statuses.append(bench.store.jobs[job_id].status.value)
    bench.run(job_id)
    assert statuses == ["1 calls", "completed", "completed"]
    assert [len(call) for call in bus.calls] == [1, 2]


def test_a_handler_that_dispatches_does_not_wait_for_the_bus(bench: Bench, bus: Bus) -> None:
    """Its children are published with its own end, ten in a call."""

    @job
    def parent() -> None:
        for _ in range(15):
            dispatch("child", {})
        assert len(bus.calls) == 1

    bench.run(bench.relayq.dispatch("parent", {}).job_id)
    assert [len(call) for call in bus.calls] == [1, 10, 7]
    assert Counter(bus.kinds) == {"dispatched": 16, "started": 1, "processed": 1}
    assert {told.get("parent_id") for told in bus.told if told["name"] == "child"} == {bus.told[0]["id"]}


def test_an_invocation_publishes_all_at_its_end_in_one_call(bench: Bench, bus: Bus) -> None:
    """Also where several jobs were settled or cancelled in it, and where it raised."""

    def invocation() -> None:
        with bench.relayq.publishing():
            for _ in range(3):
                bench.relayq.cancel(bench.relayq.dispatch("anything", {}, delay=60).job_id)
            assert bus.calls == []
            raise KeyError

    with pytest.raises(KeyError):
        invocation()
    assert [len(call) for call in bus.calls] == [6]


def test_a_full_call_is_not_kept_back(bench: Bench, bus: Bus) -> None:
    """A caller who dispatches many without dispatch() must not lose their events."""
    for n in range(25):
        bench.relayq.events.emit(JobEvent(kind="dispatched", job=a_job(id=f"job-{n}")))
    assert [len(call) for call in bus.calls] == [10, 10]
    bench.relayq.dispatch("anything", {})
    assert [len(call) for call in bus.calls] == [10, 10, 6]


def test_without_a_bus_nothing_is_kept(bus: Bus) -> None:
    """Off is the default."""
    bench = Bench()
    with bench.relayq.publishing():
        bench.relayq.dispatch("anything", {})
    assert bench.relayq._publisher is None


def test_two_pairs_of_tables_publish_each_to_its_own_bus() -> None:
    """The listeners of a process hear of all jobs; a bus hears of those of its tables."""
    one, other = Bus(), Bus()
    Bench(event_bus=one).relayq.dispatch("anything", {}, queue="one")
    Bench(event_bus=other, jobs_table="others").relayq.dispatch("anything", {}, queue="other")
    assert [(told["queue"], told["table"]) for told in one.told] == [("one", "jobs")]
    assert [(told["queue"], told["table"]) for told in other.told] == [("other", "others")]


# --- what goes wrong ---


def test_a_bus_that_fails_changes_nothing_for_the_job(
    bench: Bench, bus: Bus, lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A line in the log, an event for each that was lost, and half a minute in which it is not asked again."""
    bus.answer = down

    @job
    def work() -> str:
        return "done"

    with caplog.at_level(logging.WARNING):
        job_id = bench.relayq.dispatch("work", {}).job_id
        bench.run(job_id)
    assert bench.store.jobs[job_id].status == "completed"
    assert len(bus.calls) == 1
    assert lost == [job_id] * 3
    assert caplog.messages == [
        "1 events were not published: ConnectionError: no route to the bus; nothing is published for 30 s",
        "2 events were not published: the bus failed a moment ago",
    ]
    bus.answer = lambda _: None
    bench.clock.advance(seconds=30)
    bench.relayq.dispatch("anything", {})
    assert len(bus.calls) == 2


def test_a_bus_that_answers_nonsense_has_failed(bench: Bench, bus: Bus, lost: list[str]) -> None:
    """It is unknown which events it took; the dispatch was accepted all the same."""
    bus.put = lambda announcements: []  # type: ignore[method-assign]
    job_id = bench.relayq.dispatch("anything", {}).job_id
    assert lost == [job_id]


def test_of_a_batch_only_what_was_refused_is_lost(bench: Bench, bus: Bus, lost: list[str]) -> None:
    """EventBridge judges each entry by itself, and goes on being asked."""
    bus.answer = lambda told: "ThrottlingException" if json.loads(told.detail_json)["event"] == "started" else None

    @job
    def nap() -> None:
        raise Snooze(5)

    job_id = bench.relayq.dispatch("nap", {}).job_id
    bench.run(job_id)
    bench.relayq.dispatch("anything", {})
    assert lost == [job_id]
    assert bus.kinds == ["dispatched", "started", "snoozed", "dispatched"]


def test_a_slow_bus_takes_two_seconds_and_the_call_it_is_in(bench: Bench, bus: Bus, lost: list[str]) -> None:
    """However many events there are."""

    def slow(_: Announcement) -> None:
        bench.clock.advance(seconds=0.1)  # ten in a call: a second each

    bus.answer = slow
    with bench.relayq.publishing():
        for _ in range(50):
            bench.relayq.dispatch("anything", {}, delay=60)
    assert len(bus.calls) == 2
    assert len(lost) == 30


def test_an_invocation_at_its_end_publishes_nothing(bench: Bench, bus: Bus, lost: list[str]) -> None:
    """Lambda would end it in the middle, and its logs and metrics with it."""
    with bench.relayq.publishing(lambda: 3_000):
        bench.relayq.dispatch("anything", {})
    assert bus.calls == []
    assert len(lost) == 1


def test_more_than_a_thousand_at_once_are_not_kept(
    bench: Bench, bus: Bus, lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A job that dispatches a hundred thousand must not fill its runner's memory with their events."""
    told = JobEvent(kind="dispatched", job=a_job())
    publisher = Publisher(bus, bench.relayq._publisher._listeners, bench.clock, "jobs")  # type: ignore[union-attr]
    with caplog.at_level(logging.WARNING), publisher.hold(None):
        for _ in range(1_200):
            publisher.keep(told)
    assert sum(map(len, bus.calls)) == 1_000
    assert len(lost) == 200
    assert caplog.messages == ["200 events were not published: more than 1000 at once"]


def test_an_event_that_cannot_be_written_is_lost_alone(bus: Bus, lost: list[str]) -> None:
    """A row edited by hand may hold what is no time."""
    from relayq_core.events.listeners import events

    publisher = Publisher(bus, events, ManualClock(), "jobs")
    publisher.keep(JobEvent(kind="cancelled", job=a_job(id="odd", created_at=10**18)))
    publisher.keep(JobEvent(kind="cancelled", job=a_job(id="even")))
    assert lost == ["odd"]
    assert [told["id"] for told in bus.told] == ["even"]


def test_losing_an_event_is_not_published(bus: Bus) -> None:
    """It would never come to an end."""
    bus.answer = down
    bench = Bench(event_bus=bus)
    bench.relayq.events.emit(JobEvent(kind="publish_failed", job=a_job()))
    bench.relayq.dispatch("anything", {})
    assert len(bus.calls) == 1
    assert isinstance(bench.relayq.events, Events)
