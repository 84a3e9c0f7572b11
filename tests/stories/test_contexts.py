"""What a handler sets around itself ends with it; what it starts knows whose it is."""

from __future__ import annotations

import contextvars
import decimal
import itertools
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

from relayq_core import Bury, Job, RetryAfter, Snooze, dispatch, job
from relayq_core.events.listeners import events
from relayq_core.jobs.context import find_parent_job
from relayq_core.jobs.lineage import current_job
from relayq_core.model.record import JobRecord
from relayq_core.testing import Kit, fake, isolated_registry, perform

tenant = contextvars.ContextVar("tenant", default="none")


@pytest.fixture
def kit() -> Iterator[Kit]:
    """A kit with jobs of its own."""
    with isolated_registry(), fake() as kit:
        yield kit


def run(kit: Kit, made: Any, **options: Any) -> JobRecord:
    """The job once it has been run."""
    record = kit.run(dispatch(made, **options).job_id)
    assert record is not None
    return record


# --- contexts ---


def set_everything() -> None:
    """Two things that code sets for what it calls."""
    tenant.set("acme")
    decimal.getcontext().prec = 4


def seen() -> str:
    """What is to be seen of it."""
    return f"{tenant.get()} {decimal.Decimal(1) / 3:.10f}"


UNTOUCHED = "none 0.3333333333"


def sets_in_its_handler() -> None:
    """A sync handler."""
    job(set_everything)


def sets_in_failed() -> None:
    """In the last word of a job."""

    class SetEverything(Job, name="set_everything"):
        def handle(self) -> None:
            raise Bury("now")

        def failed(self, error: BaseException) -> None:
            set_everything()


def sets_as_it_is_built() -> None:
    """While its payload is read."""

    class SetEverything(Job, name="set_everything"):
        def to_payload(self) -> dict[str, str]:
            return {}

        @classmethod
        def from_payload(cls, data: dict[str, str]) -> SetEverything:
            set_everything()
            return cls()

        def handle(self) -> None:
            pass


def sets_in_a_listener(kind: str) -> Callable[[], None]:
    """An application's own."""

    def define() -> None:
        @job(name="set_everything")
        def plain() -> None:
            if kind == "failed":
                raise ValueError

        events.on(kind)(lambda event: set_everything() if event.job.name == "set_everything" else None)

    define.__name__ = f"in a listener to {kind}"
    return define


@pytest.mark.parametrize(
    "define",
    [
        sets_in_its_handler,
        sets_in_failed,
        sets_as_it_is_built,
        *map(sets_in_a_listener, ("started", "processed", "failed", "dispatched")),
    ],
    ids=lambda define: define.__name__,
)
def test_what_code_of_a_job_sets_in_its_context_ends_with_it(kit: Kit, define: Callable[[], None]) -> None:
    """The next job of a warm runner, or the caller in a test, must not find another customer's name there."""
    decimal.getcontext().prec = 28  # there is a context to be changed in place
    define()

    @job
    def look() -> str:
        return seen()

    run(kit, "set_everything")
    assert seen() == UNTOUCHED
    assert run(kit, look.job()).result == UNTOUCHED


def test_perform_leaves_the_callers_context_alone(kit: Kit) -> None:
    """A test's own context."""
    perform(job(set_everything).job())
    assert seen() == UNTOUCHED


def test_what_a_listener_sets_as_a_job_is_started_its_handler_finds(kit: Kit) -> None:
    """A trace, or the fields of its log lines."""
    events.on("started")(lambda event: tenant.set(event.job.id))

    @job
    def look() -> str:
        return tenant.get()

    record = run(kit, look.job())
    assert record.result == record.id


# --- whose it is ---


def in_a_thread(work: Callable[[], Any]) -> None:
    """A thread of its own."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_a_timer(work: Callable[[], Any]) -> None:
    """One that waits first."""
    timer = threading.Timer(0.001, work)
    timer.start()
    timer.join()


def in_a_new_pool(work: Callable[[], Any]) -> None:
    """Threads that this handler starts."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: work(), range(1)))


def in_a_thread_of_a_thread(work: Callable[[], Any]) -> None:
    """Two steps away."""
    in_a_thread(lambda: in_a_new_pool(work))


def in_a_thread_pool_of_multiprocessing(work: Callable[[], Any]) -> None:
    """The older kind."""
    with ThreadPool(1) as pool:
        pool.apply(work)


_kept = ThreadPoolExecutor(1)


def in_a_pool_that_the_module_keeps(work: Callable[[], Any]) -> None:
    """Its threads were started by the first job that used it."""
    _kept.submit(work).result()


WAYS = [
    in_a_thread,
    in_a_timer,
    in_a_new_pool,
    in_a_thread_of_a_thread,
    in_a_thread_pool_of_multiprocessing,
    in_a_pool_that_the_module_keeps,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_is_dispatched_in_a_thread_of_a_handler_has_a_parent(
    kit: Kit, way: Callable[[Callable[[], Any]], None]
) -> None:
    """It has a root and a depth as well: from one job to the next."""
    ids = itertools.count(1)

    @job
    def spread() -> None:
        way(lambda: dispatch("child", job_id=f"child-{way.__name__}-{next(ids)}"))

    for number in (1, 2):
        parent = run(kit, spread.job())
        child = kit.get(f"child-{way.__name__}-{number}")
        assert (child.parent_id, child.root_id, child.depth) == (parent.id, parent.id, 1)


@pytest.mark.parametrize("way", WAYS)
def test_jobs_that_dispatch_each_other_in_threads_come_to_an_end(way: Callable[[Callable[[], Any]], None]) -> None:
    """A mistake must not go on until the bill shows it."""
    with isolated_registry(), fake(max_depth=3) as kit:

        @job(max_attempts=1)
        def spread() -> None:
            way(lambda: dispatch("spread"))

        dispatch("spread")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "excepthook", lambda args: None)  # a thread's own error ends nothing else
            kit.drain(limit=20)
        assert sorted(record.depth for record in kit.all_dispatched()) == [0, 1, 2, 3]


def test_what_outlives_its_handler_belongs_to_no_later_one(kit: Kit) -> None:
    """A thread that goes on in the background is the first job's, whatever runs by then."""
    goes_on, done = threading.Event(), threading.Event()
    ids: dict[str, str] = {}

    @job
    def begins() -> None:
        def later() -> None:
            goes_on.wait(100)
            ids["child"] = dispatch("child").job_id
            done.set()

        threading.Thread(target=later).start()

    @job
    def other() -> None:
        goes_on.set()
        assert done.wait(100)

    first = run(kit, begins.job())
    run(kit, other.job())
    assert kit.get(ids["child"]).parent_id == first.id


def test_work_that_no_handler_gave_belongs_to_none(kit: Kit) -> None:
    """That holds even if a handler started the pool's thread."""

    @job
    def begins() -> None:
        in_a_pool_that_the_module_keeps(int)

    run(kit, begins.job())
    assert _kept.submit(find_parent_job).result() is None
    assert find_parent_job() is None


def _parent_id() -> str | None:
    parent = find_parent_job()
    return None if parent is None else parent.id


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_a_pool_know_whose_work_they_do(kit: Kit, method: str) -> None:
    """Whichever job has started them."""
    pools: list[Executor] = []

    @job
    def asks() -> str | None:
        if not pools:
            pools.append(ProcessPoolExecutor(1, multiprocessing.get_context(method)))
        return pools[0].submit(_parent_id).result(100)

    try:
        for _ in range(2):
            record = run(kit, asks.job())
            assert record.result == record.id
        assert pools[0].submit(_parent_id).result(100) is None
    finally:
        pools[0].shutdown()


def test_a_stamp_keeps_none_of_the_jobs_data(kit: Kit) -> None:
    """A thread may live long, and a payload have 300 KB."""
    kept: list[JobRecord | None] = []

    @job
    def begins(data: str) -> None:
        in_a_thread(lambda: kept.append(find_parent_job()))
        assert current_job.get() is not None

    run(kit, begins.job(data="x" * 100))
    assert kept[0] is not None
    assert kept[0].payload_json == "{}"


# --- groups ---


def grouped(*members: BaseException) -> BaseException:
    """As a TaskGroup raises them."""
    return BaseExceptionGroup("unhandled errors in a TaskGroup", members)


@pytest.mark.parametrize(
    ("error", "status", "attempt", "wait"),
    [
        (grouped(Snooze(60)), "retrying", 0, 60),
        (grouped(grouped(Snooze(60))), "retrying", 0, 60),
        (grouped(Snooze(60), grouped(Snooze(90))), "retrying", 0, 90),
        (grouped(RetryAfter(60)), "retrying", 1, 60),
        (grouped(RetryAfter(60), RetryAfter(90)), "retrying", 1, 90),
        (grouped(Snooze(90), RetryAfter(60)), "retrying", 1, 60),
        (grouped(ValueError(), RetryAfter(60)), "retrying", 1, 60),
        (grouped(ValueError(), Snooze(60)), "retrying", 1, 10),
        (grouped(ValueError()), "retrying", 1, 10),
        (grouped(SystemExit(), KeyboardInterrupt()), "retrying", 1, 10),
        (grouped(Bury("no")), "failed", 1, None),
        (grouped(Snooze(60), RetryAfter(60), ValueError(), grouped(Bury("no"))), "failed", 1, None),
    ],
)
def test_what_is_raised_in_a_group_means_what_it_means_alone(
    kit: Kit, error: BaseException, status: str, attempt: int, wait: int | None
) -> None:
    """An async handler's tasks raise them so. What is final goes first, then what failed, then what snoozes."""

    @job(max_attempts=3, backoff=10)
    def fails() -> None:
        raise error

    record = run(kit, fails.job())
    assert (record.status, record.attempt) == (status, attempt)
    if wait is not None:
        assert record.available_at - kit.clock.now() == wait * 1000


def test_one_in_a_group_that_says_what_to_do_is_shown_as_itself(kit: Kit) -> None:
    """ "unhandled errors in a TaskGroup" says nothing."""
    told: list[BaseException] = []

    class Fails(Job):
        def handle(self) -> None:
            raise grouped(grouped(Bury("no such customer")))

        def failed(self, error: BaseException) -> None:
            told.append(error)

    assert (run(kit, Fails()).error or "").startswith("Bury: no such customer")
    assert [type(error) for error in told] == [Bury]


def test_a_snooze_in_a_task_group_is_a_snooze(kit: Kit) -> None:
    """The others of the group are cancelled: that is no failure."""
    import asyncio

    @job(max_attempts=1)
    async def asks() -> None:
        async def ask() -> None:
            raise Snooze(3600)

        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            group.create_task(ask())

    record = run(kit, asks.job())
    assert (record.status, record.attempt) == ("retrying", 0)
