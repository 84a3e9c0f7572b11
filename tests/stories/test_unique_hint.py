"""The unique hint: what it says saves a transaction if the row agrees, and whatever it does changes no answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from relayq_core import Dispatched, InvalidOption, JobEvent, JobTimeout, RelayQ, Settings, SettingsError, on
from relayq_core.engine.unique_hint import REST_MS, UNTIL_DONE_MS, compute_lifetime, is_resting
from relayq_core.errors import StoreUnavailable
from relayq_core.model.record import JobRecord
from relayq_core.ports import Added
from relayq_core.testing import Bench, ManualClock, MemoryStore, RecordingHandoff, isolated_registry
from tests.support.factories import NOW, a_job

KEY = "unique#greet#ada"
WINDOW = 300


class CountingStore(MemoryStore):
    """Notes what dispatching asks of it; `broken` makes the read of a key's item fail."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.calls: list[str] = []
        self.broken = False

    def add(self, record: JobRecord) -> Added:
        self.calls.append("add")
        return super().add(record)

    def find_holder(self, unique_pk: str) -> str | None:
        self.calls.append("find_holder")
        if self.broken:
            raise StoreUnavailable("GetItem", "a test")
        return super().find_holder(unique_pk)


class FakeHint:
    """A hint that a test scripts: `error` is raised; else it answers by key."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.ttls: dict[str, int] = {}
        self.error: BaseException | None = None
        self.asked = 0

    def holder(self, unique_pk: str) -> str | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.said.get(unique_pk)

    def remember(self, unique_pk: str, job_id: str, ttl_ms: int) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.said[unique_pk], self.ttls[unique_pk] = job_id, ttl_ms


class Stage:
    """A dispatcher with a hint, on a store that counts."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.hint = FakeHint()
        self.store = CountingStore(self.clock)
        self.bench = Bench(clock=self.clock, hint=self.hint, through=lambda _: self.store)

    def dispatch(self, key: str | None = "ada", window: float | None = WINDOW, **options: Any) -> Dispatched:
        """One dispatch; `calls` holds only what it asked of the store."""
        self.store.calls.clear()
        return self.bench.relayq.dispatch("greet", unique=key, unique_for=window, **options)

    @property
    def calls(self) -> list[str]:
        """What the last dispatch asked of the store."""
        return self.store.calls


@pytest.fixture
def stage() -> Stage:
    """A hint that works, and knows nothing yet."""
    return Stage()


@pytest.fixture
def failures() -> Iterator[list[JobEvent]]:
    """The hint_failed events."""
    told: list[JobEvent] = []
    with isolated_registry():
        on("hint_failed")(told.append)
        yield told


# --- hits ---


def test_a_duplicate_that_the_row_confirms_needs_no_transaction(stage: Stage) -> None:
    """That is what the hint is for."""
    first = stage.dispatch()
    assert stage.calls == ["add"]
    assert stage.dispatch() == Dispatched(first.job_id, duplicate=True, handed_off=False)
    assert stage.calls == ["find_holder"]
    assert set(stage.store.jobs) == {first.job_id}


def test_a_stale_hit_is_ignored(stage: Stage) -> None:
    """The key was released, and Redis does not know it: the dispatch is a new job, and the hint learns of it."""
    first = stage.dispatch(window=None)
    stage.bench.relayq.cancel(first.job_id)
    second = stage.dispatch(window=None)
    assert (second.duplicate, second.handed_off) == (False, True)
    assert stage.calls == ["find_holder", "add"]
    assert stage.hint.said == {KEY: second.job_id}


def test_a_hit_on_a_window_that_is_over_is_ignored(stage: Stage) -> None:
    """Its item still stands, and counts as absent."""
    stage.dispatch()
    stage.clock.advance(seconds=WINDOW)
    assert not stage.dispatch().duplicate
    assert stage.calls == ["find_holder", "add"]


@pytest.mark.parametrize(
    "said", ["another-job", "", "\N{REPLACEMENT CHARACTER}" * 1000, "ada", 7, b"x", ["y"], object()]
)
def test_a_wrong_hit_is_ignored(stage: Stage, said: object) -> None:
    """Whatever stands there, the row says whose key it is; and what stood there is put right."""
    stage.hint.said[KEY] = said
    first = stage.dispatch()
    assert not first.duplicate
    stage.hint.said[KEY] = said
    assert stage.dispatch() == Dispatched(first.job_id, duplicate=True, handed_off=False)
    assert stage.calls == ["find_holder", "add"]
    assert stage.hint.said == {KEY: first.job_id}
    assert set(stage.store.jobs) == {first.job_id}


def test_a_hit_that_cannot_be_verified_is_ignored(stage: Stage) -> None:
    """The transaction says what is wrong, if anything is."""
    first = stage.dispatch()
    stage.store.broken = True
    assert stage.dispatch() == Dispatched(first.job_id, duplicate=True, handed_off=False)
    assert stage.calls == ["find_holder", "add"]


def test_a_duplicate_that_the_hint_did_not_know_is_remembered(stage: Stage) -> None:
    """After Redis has lost its memory, or the hour of a long job is over, it serves again."""
    first = stage.dispatch(window=None)
    stage.hint.said.clear()
    assert stage.dispatch(window=None).duplicate
    assert stage.hint.said == {KEY: first.job_id}


def test_an_id_of_the_callers_own_is_judged_by_the_transaction(stage: Stage) -> None:
    """The first try was accepted; its window is over and the key is another job's: it is accepted still."""
    mine = stage.dispatch(job_id="mine")
    stage.clock.advance(seconds=WINDOW)
    other = stage.dispatch()
    assert stage.hint.said == {KEY: other.job_id}
    assert stage.dispatch(job_id="mine") == mine
    with pytest.raises(InvalidOption, match="belongs to another job"):
        stage.bench.relayq.dispatch("depart", unique="ada", job_id="mine")


def test_a_dispatch_without_a_key_does_not_ask_the_hint(stage: Stage) -> None:
    """A hint is about unique keys."""
    stage.dispatch(key=None, window=None)
    assert stage.hint.asked == 0


# --- how long ---


def test_a_window_is_remembered_for_what_is_left_of_it() -> None:
    """Redis forgets no later than the row does."""
    job = a_job(unique_pk=KEY, unique_for_ms=5_000)
    assert compute_lifetime(job, NOW) == 5_000
    assert compute_lifetime(job, NOW + 1_200) == 3_800
    assert compute_lifetime(job, NOW + 5_000) == 0


def test_a_key_until_the_job_is_done_is_remembered_for_an_hour() -> None:
    """How long it will hold is unknown, and a stale hint costs one read."""
    assert compute_lifetime(a_job(unique_pk=KEY), NOW + 10**9) == UNTIL_DONE_MS == 3_600_000


def test_a_window_that_ended_during_its_dispatch_is_not_remembered(stage: Stage) -> None:
    """Redis takes no lifetime of nothing."""
    offer = stage.bench.handoff.offer

    def slowly(job_id: str, queue: str | None, run_at: int, **hints: Any) -> None:
        stage.clock.advance(seconds=2)
        offer(job_id, queue, run_at, **hints)

    stage.bench.handoff.offer = slowly  # type: ignore[method-assign]
    stage.dispatch(window=1)
    assert stage.hint.asked == 1
    stage.dispatch(window=10)
    assert stage.hint.ttls == {KEY: 8_000}


# --- failures ---

ERRORS = [ConnectionError("refused"), TimeoutError(), OSError(), ValueError("garbage"), RuntimeError("x" * 10**6)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_hint_that_fails_changes_no_answer(stage: Stage, failures: list[JobEvent], error: Exception) -> None:
    """Down, slow or out of its mind: the first is accepted, the second is its duplicate."""
    stage.hint.error = error
    first = stage.dispatch()
    assert (first.duplicate, first.handed_off) == (False, True)
    assert stage.dispatch() == Dispatched(first.job_id, duplicate=True, handed_off=False)
    assert [event.error for event in failures] == [error]
    assert failures[0].job.id == first.job_id


def test_a_hint_that_failed_is_left_alone_for_half_a_minute(stage: Stage, failures: list[JobEvent]) -> None:
    """A dispatch waits for it once in that time; then it is asked again, and if it fails it rests again."""
    stage.hint.error = ConnectionError("refused")
    stage.dispatch()
    stage.clock.advance(milliseconds=REST_MS - 1)
    stage.dispatch()
    assert stage.hint.asked == len(failures) == 1
    stage.clock.advance(milliseconds=1)
    stage.dispatch()
    assert stage.hint.asked == len(failures) == 2
    stage.hint.error = None
    stage.clock.advance(milliseconds=REST_MS)
    stage.dispatch()
    stage.dispatch()
    assert stage.calls == ["find_holder"]
    assert len(failures) == 2


def test_a_hint_that_fails_after_the_commit_does_not_fail_the_dispatch(stage: Stage, failures: list[JobEvent]) -> None:
    """Killed between the look and the note: the job is accepted and handed off."""
    add = stage.store.add

    def dies(record: JobRecord) -> Added:
        stage.hint.error = ConnectionError("killed")
        return add(record)

    stage.store.add = dies  # type: ignore[method-assign]
    first = stage.dispatch()
    assert (first.duplicate, first.handed_off) == (False, True)
    assert [offer.job_id for offer in stage.bench.handoff.offers] == [first.job_id]
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("failed_at", "now", "resting"),
    [
        (None, NOW, False),
        (NOW, NOW, True),
        (NOW, NOW + REST_MS - 1, True),
        (NOW, NOW + REST_MS, False),
        # a clock that was set back must not silence the hint for as long as it was ahead
        (NOW, NOW - 1, False),
    ],
)
def test_the_rest_is_decided_by_the_clock(failed_at: int | None, now: int, resting: bool) -> None:
    """One decision in one place, with the time as an argument."""
    assert is_resting(failed_at, now) is resting


def test_the_log_says_what_failed_and_for_how_long(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """One line, with the job's fields; not the megabyte that the error may hold."""
    stage.hint.error = ConnectionError("refused " + "x" * 10**6)
    with caplog.at_level(logging.WARNING, "relayq"):
        first = stage.dispatch()
    (line,) = caplog.records
    assert line.getMessage().startswith("the unique hint failed (ConnectionError: refused x")
    assert line.getMessage().endswith("; for 30 s DynamoDB is asked alone")
    assert len(line.getMessage()) < 1_000
    assert line.job_id == first.job_id  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error", [SettingsError("RELAYQ_REDIS_URL", "no redis-py"), JobTimeout(5), KeyboardInterrupt()]
)
def test_what_is_not_the_hints_own_failure_is_raised(stage: Stage, error: BaseException) -> None:
    """A mistake in the environment is raised before anything is written; a handler's deadline ends its dispatch too."""
    stage.hint.error = error
    with pytest.raises(type(error)):
        stage.dispatch()
    assert stage.store.jobs == {}
    assert stage.calls == []


def test_a_mistake_in_the_environment_never_fails_what_was_accepted(stage: Stage, failures: list[JobEvent]) -> None:
    """An id of the caller's own needs no look: then the note after the commit is the first to find out."""
    stage.hint.error = SettingsError("RELAYQ_REDIS_URL", "no redis-py")
    assert stage.dispatch(job_id="mine") == Dispatched("mine", duplicate=False, handed_off=True)
    assert [event.error for event in failures] == [stage.hint.error]


# --- races ---


def _always(said: str | None) -> Callable[[str], str | None]:
    return lambda key: said


@pytest.mark.parametrize(
    "lie",
    [_always("nobody"), _always(None), str.upper, lambda key: f"job#{key}"],
    ids=["other", "none", "upper", "echo"],
)
def test_two_dispatchers_with_one_key_and_a_lying_hint_make_one_job(lie: Callable[[str], str | None]) -> None:
    """The row decides between them, whatever the hint says to either."""

    class LyingHint(FakeHint):
        def holder(self, unique_pk: str) -> str | None:
            return lie(unique_pk)

    clock = ManualClock()
    store = MemoryStore(clock)
    settings = Settings(jobs_table="jobs", runner_function="runner")
    hint = LyingHint()
    dispatchers = [RelayQ(settings, store=store, handoff=RecordingHandoff(), hint=hint, clock=clock) for _ in range(2)]
    start = threading.Barrier(2)

    def dispatch(relayq: RelayQ, key: str) -> Dispatched:
        start.wait(10)
        return relayq.dispatch("greet", unique=key, unique_for=WINDOW)

    with ThreadPoolExecutor(2) as threads:
        for number in range(50):
            store.jobs.clear()
            one, two = threads.map(dispatch, dispatchers, [f"key-{number}"] * 2)
            assert one.job_id == two.job_id
            assert {one.duplicate, two.duplicate} == {True, False}
            assert set(store.jobs) == {one.job_id}


def test_a_hint_that_names_the_loser_of_a_race_is_ignored(stage: Stage) -> None:
    """The late note of a dispatcher whose job has ended long ago: the key is another's by now."""
    old = stage.dispatch(window=None)
    stage.bench.relayq.cancel(old.job_id)
    new = stage.dispatch(window=None)
    stage.hint.remember(KEY, old.job_id, 1_000)
    assert stage.dispatch(window=None).job_id == new.job_id
    assert stage.hint.said == {KEY: new.job_id}
