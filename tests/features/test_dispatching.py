"""Rows 1 to 25: what a caller says of a job, and what becomes of it until it is handed off."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from relayq_core import (
    Dispatched,
    Exponential,
    Fixed,
    InvalidOption,
    InvalidPayload,
    Job,
    Linear,
    RelayQ,
    Settings,
    SettingsError,
    Status,
    UnknownJob,
    job,
)
from relayq_core.adapters.aws_lambda import LambdaInvoke, NoHandoff
from relayq_core.adapters.http_handoff import HttpHandoff
from relayq_core.engine.sweeper import Scope
from relayq_core.jobs.registry import registry
from relayq_core.testing import Bench, MemoryStore, Offer
from tests.support.fake_lambda import FakeLambda
from tests.support.rows import read_row

MINUTE = 60_000


def test_row_01_dispatch_answers_before_the_job_has_run(bench: Bench) -> None:
    """One write, one handoff; the dispatcher does not run the handler."""
    ran: list[str] = []

    @job
    def greet() -> None:
        ran.append("greet")

    dispatched = bench.relayq.dispatch(greet)
    assert (ran, dispatched.handed_off) == ([], True)
    bench.run(dispatched.job_id)
    assert ran == ["greet"]


def test_row_02_a_handoff_runs_one_job(bench: Bench) -> None:
    """No loop, no polling: the other one waits for its own."""
    ran: list[int] = []

    @job
    def greet(n: int) -> None:
        ran.append(n)

    first, second = (bench.relayq.dispatch(greet.job(n=n)).job_id for n in (1, 2))
    bench.run(second)
    assert ran == [2]
    assert read_row(bench, first).status is Status.PENDING


def test_row_03_the_row_is_written_before_the_handoff(bench: Bench) -> None:
    """A handoff is a hint: without it the sweeper finds the row."""
    bench.handoff.error = OSError("no runner")
    dispatched = bench.relayq.dispatch("greet")
    assert dispatched.handed_off is False
    bench.handoff.error = None
    bench.clock.advance(seconds=31)
    bench.sweep(Scope())
    assert [offer.job_id for offer in bench.handoff.offers] == [dispatched.job_id]


def test_row_04_a_runner_is_invoked_in_the_background() -> None:
    """An asynchronous invocation with the job's id and its moment, and no more."""
    client = FakeLambda()
    LambdaInvoke(lambda: client, "the-runner", {}).offer("job-1", "emails", 1_000, name="send_email")
    assert client.requests[0]["InvocationType"] == "Event"
    assert client.invoked == [
        ("the-runner", {"job_id": "job-1", "run_at": 1_000, "queue": "emails", "name": "send_email"})
    ]


def test_row_06_how_to_hand_off_is_a_setting_and_a_port() -> None:
    """lambda, http or none by name, anything else by a port of one's own; a wrong name fails at once."""
    named = {
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_RUNNER_FUNCTION": "runner",
        "RELAYQ_HTTP_ENDPOINT": "https://example.com/_relayq/run",
        "RELAYQ_HTTP_TOKEN": "a-token-of-some-length",
    }
    made = [
        RelayQ(Settings.from_environ({**named, "RELAYQ_HANDOFF": how}), store=MemoryStore()).handoff
        for how in ("lambda", "http", "none")
    ]
    assert [type(handoff) for handoff in made] == [LambdaInvoke, HttpHandoff, NoHandoff]
    with pytest.raises(SettingsError, match="RELAYQ_HANDOFF"):
        Settings.from_environ({"RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_HANDOFF": "redis"})


def test_row_07_a_short_delay_is_waited_for_by_the_runner(bench: Bench) -> None:
    """Handed off at once, and never early."""
    began = bench.clock.now()

    @job
    def greet() -> int:
        return bench.clock.now() - began

    job_id = bench.relayq.dispatch(greet, delay=30).job_id
    assert bench.handoff.offers == [Offer(job_id, "default", began + 30_000)]
    bench.run(job_id, began + 30_000)
    assert read_row(bench, job_id).result == 30_000


def test_row_08_a_long_delay_is_the_sweepers(bench: Bench) -> None:
    """No runner is started until its time has come."""
    job_id = bench.relayq.dispatch("greet", delay=600).job_id
    assert bench.handoff.offers == []
    bench.clock.advance(seconds=599)
    bench.sweep(Scope())
    assert bench.handoff.offers == []
    bench.clock.advance(seconds=1)
    bench.sweep(Scope())
    assert [offer.job_id for offer in bench.handoff.offers] == [job_id]


def test_row_09_a_delay_is_seconds_a_timedelta_or_a_moment(bench: Bench) -> None:
    """All three say the same; a delay into the past is an error."""
    from datetime import UTC, datetime

    now = bench.clock.now()
    at = datetime.fromtimestamp(now / 1000, UTC) + timedelta(minutes=5)
    ids = [
        bench.relayq.dispatch("greet", delay=300).job_id,
        bench.relayq.dispatch("greet", delay=timedelta(minutes=5)).job_id,
        bench.relayq.dispatch("greet", at=at).job_id,
    ]
    assert {read_row(bench, job_id).available_at for job_id in ids} == {now + 5 * MINUTE}
    with pytest.raises(InvalidOption):
        bench.relayq.dispatch("greet", delay=-1)


@pytest.mark.parametrize(("said", "tries"), [(None, 3), (1, 1), (5, 5)])
def test_row_10_a_job_is_tried_max_attempts_times_in_all(bench: Bench, said: int | None, tries: int) -> None:
    """Three times, unless the call or the job says otherwise."""
    ran: list[int] = []

    @job(backoff=0)
    def stumble() -> None:
        ran.append(1)
        raise OSError

    job_id = bench.relayq.dispatch(stumble, max_attempts=said).job_id
    while not read_row(bench, job_id).status.is_ended:
        bench.run(job_id)
    assert (len(ran), read_row(bench, job_id).status) == (tries, Status.FAILED)


def test_row_11_backoff_is_fixed_linear_exponential_or_a_list() -> None:
    """n is the number of the retry: base, base*n, base*2**(n-1); a list repeats its last entry."""
    retries = (1, 2, 3)
    assert [Fixed(10).delay(n) for n in retries] == [10, 10, 10]
    assert [Linear(10).delay(n) for n in retries] == [10, 20, 30]
    assert [Exponential(10).delay(n) for n in retries] == [10, 20, 40]

    class Listed(Job, backoff=[10, 30], max_attempts=9):
        def handle(self) -> None: ...

    listed = registry["Listed"].options.backoff
    assert listed is not None
    assert [listed.delay(n) for n in retries] == [10, 30, 30]


def test_row_12_a_unique_key_lets_one_job_in_per_window(bench: Bench) -> None:
    """The second dispatch is answered with the first's id; after the window the key is free."""
    first = bench.relayq.dispatch("greet", unique="welcome:7", unique_for=300)
    assert bench.relayq.dispatch("greet", unique="welcome:7") == Dispatched(
        first.job_id, duplicate=True, handed_off=False
    )
    bench.clock.advance(seconds=301)
    assert not bench.relayq.dispatch("greet", unique="welcome:7").duplicate


def test_row_13_redis_is_a_hint_that_the_table_confirms() -> None:
    """A hint that is true saves a transaction, one that is not changes nothing."""

    class Hint:
        says: str | None = None

        def holder(self, unique_pk: str) -> str | None:
            return self.says

        def remember(self, unique_pk: str, job_id: str, ttl_ms: int) -> None:
            raise ConnectionError

    hint = Hint()
    bench = Bench(hint=hint)
    first = bench.relayq.dispatch("greet", unique="k", unique_for=300)
    hint.says = first.job_id
    assert bench.relayq.dispatch("greet", unique="k").job_id == first.job_id
    hint.says = "somebody-else"
    assert bench.relayq.dispatch("greet", unique="k").job_id == first.job_id
    assert not bench.relayq.dispatch("greet", unique="another").duplicate


def test_row_14_queues_have_names(bench: Bench) -> None:
    """Of the call, else of the job, else `default`."""

    @job(queue="emails")
    def greet() -> None: ...

    ids = [
        bench.relayq.dispatch(greet, queue="vip").job_id,
        bench.relayq.dispatch(greet).job_id,
        bench.relayq.dispatch("elsewhere").job_id,
    ]
    assert [read_row(bench, job_id).queue for job_id in ids] == ["vip", "emails", "default"]
    assert bench.store.list_queues() == ["default", "emails", "vip"]


def test_row_15_a_queue_that_matters_has_a_runner_of_its_own() -> None:
    """That runner has memory, timeout and concurrency of its own: that is how one queue goes before another."""
    client = FakeLambda()
    handoff = LambdaInvoke(lambda: client, "the-runner", {"high-priority": "the-fast-runner"})
    handoff.offer("job-1", "high-priority", 0)
    handoff.offer("job-2", "emails", 0)
    assert [name for name, _ in client.invoked] == ["the-fast-runner", "the-runner"]


def test_row_16_a_job_is_a_class_with_handle_or_a_function(bench: Bench) -> None:
    """Sync or async, with a context or without."""

    class Greet(Job):
        name: str

        def handle(self) -> str:
            return f"Hello, {self.name}!"

    @job
    async def part(name: str) -> str:
        return f"Bye, {name}!"

    ids = [bench.relayq.dispatch(Greet(name="Ada")).job_id, bench.relayq.dispatch(part.job(name="Ada")).job_id]
    for job_id in ids:
        bench.run(job_id)
    assert [read_row(bench, job_id).result for job_id in ids] == ["Hello, Ada!", "Bye, Ada!"]


def test_row_17_fields_are_serialised_by_themselves(bench: Bench) -> None:
    """Whatever JSON has, and what pydantic makes of it."""

    class Order(Job):
        number: int
        at: timedelta
        tags: list[str] = []  # noqa: RUF012 - pydantic copies defaults

        def handle(self) -> str:
            return f"{self.number} {self.at.total_seconds():g} {self.tags}"

    job_id = bench.relayq.dispatch(Order(number=7, at=timedelta(minutes=1), tags=["a"])).job_id
    bench.run(job_id)
    assert read_row(bench, job_id).result == "7 60 ['a']"


def test_row_18_a_job_may_write_and_read_its_own_payload(bench: Bench) -> None:
    """An object that is no JSON travels as its id, and is looked up again on the runner."""

    class User:
        def __init__(self, id: int) -> None:
            self.id = id

    class Welcome(Job, arbitrary_types_allowed=True):
        user: User

        def to_payload(self) -> dict[str, Any]:
            return {"user_id": self.user.id}

        @classmethod
        def from_payload(cls, data: dict[str, Any]) -> Welcome:
            return cls(user=User(data["user_id"]))

        def handle(self) -> int:
            return self.user.id

    job_id = bench.relayq.dispatch(Welcome(user=User(7))).job_id
    assert read_row(bench, job_id).payload == {"user_id": 7}
    bench.run(job_id)
    assert read_row(bench, job_id).result == 7


def test_row_19_what_a_job_needs_is_asked_for_at_dispatch(bench: Bench) -> None:
    """It does not fail minutes later on the runner: the error names the field, and nothing was written."""

    class Greet(Job):
        name: str

        def handle(self) -> None: ...

    with pytest.raises(ValidationError, match="name"):
        Greet()  # type: ignore[call-arg]
    with pytest.raises(InvalidPayload, match="name"):
        bench.relayq.dispatch(Greet, {})
    assert bench.store.jobs == {}


def test_row_20_an_action_is_named_and_looked_up_in_a_list(bench: Bench) -> None:
    """One job for many small actions: what is not on its list is refused at dispatch, and never built."""

    class Archive:
        def __init__(self, order: str) -> None:
            self.order = order

        def run(self) -> str:
            return f"archived {self.order}"

    actions = {"archive": Archive}

    class RunAction(Job):
        action: Literal["archive"]
        args: dict[str, str]

        def handle(self) -> str:
            return actions[self.action](**self.args).run()

    job_id = bench.relayq.dispatch(RunAction(action="archive", args={"order": "A-1"})).job_id
    bench.run(job_id)
    assert read_row(bench, job_id).result == "archived A-1"
    with pytest.raises(InvalidPayload, match="action"):
        bench.relayq.dispatch("RunAction", {"action": "os.system", "args": {}})


def test_row_21_a_job_may_have_no_arguments_at_all(bench: Bench) -> None:
    """Everything is in its handler."""

    class Tidy(Job):
        def handle(self) -> str:
            return "tidied"

    job_id = bench.relayq.dispatch(Tidy()).job_id
    assert read_row(bench, job_id).payload == {}
    bench.run(job_id)
    assert read_row(bench, job_id).result == "tidied"


def test_row_22_a_job_is_dispatched_by_its_class_or_name_and_data(bench: Bench) -> None:
    """By name the caller needs none of its code."""

    class Greet(Job):
        name: str

        def handle(self) -> str:
            return f"Hello, {self.name}!"

    ids = [
        bench.relayq.dispatch(Greet, {"name": "Ada"}).job_id,
        bench.relayq.dispatch("Greet", {"name": "Ada"}, queue="vip").job_id,
    ]
    assert {read_row(bench, job_id).payload_json for job_id in ids} == {'{"name":"Ada"}'}


@pytest.mark.parametrize("live", [lambda: None, object(), {1, 2}, b"bytes", float("nan")], ids=repr)
def test_row_23_only_data_is_dispatched(bench: Bench, live: object) -> None:
    """Never a closure or a live object: it crosses into another process."""
    with pytest.raises(InvalidPayload, match="thing"):
        bench.relayq.dispatch("greet", {"thing": live})
    assert bench.store.jobs == {}


def test_row_24_dispatch_answers_with_the_jobs_id(bench: Bench) -> None:
    """By which it is found from then on."""
    dispatched = bench.relayq.dispatch("greet")
    assert read_row(bench, dispatched.job_id).id == dispatched.job_id


def test_row_25_a_row_says_what_when_and_how_often(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Name, data, moment, tries: all that a runner needs."""
    with caplog.at_level(logging.WARNING):
        job_id = bench.relayq.dispatch("greet", {"n": 1}, delay=5, max_attempts=2, backoff=[3]).job_id
    record = read_row(bench, job_id)
    assert (record.name, record.payload, record.max_attempts, str(record.backoff)) == ("greet", {"n": 1}, 2, "3")
    assert record.available_at == record.created_at + 5_000
    assert caplog.text == ""


def test_row_50_nothing_is_built_that_is_not_registered(bench: Bench) -> None:
    """A name found in the table is looked up, never imported: `os.system` is just a name that no job has."""
    job_id = bench.relayq.dispatch("os.system", {"command": "true"}).job_id
    bench.run(job_id)
    bench.clock.advance(minutes=16)
    bench.run(job_id)
    failed = read_row(bench, job_id)
    assert (failed.status, (failed.error or "").partition(":")[0]) == (Status.FAILED, UnknownJob.__name__)
