"""What a job costs: calls, connections, modules and bytes. Counted, never timed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from moto import mock_aws

from relayq_core import JobContext, RelayQ, Settings, Status, job
from relayq_core.adapters.dynamodb.items import encode_job
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.engine.ids import generate_id
from relayq_core.model import leases, settling
from relayq_core.model.record import JobRecord
from relayq_core.model.settling import Failed, Succeeded
from relayq_core.testing import isolated_registry
from tests.support.aws_stub import Request, Stub, at_once, aws_stub
from tests.support.factories import LIMITS, NOW, POLICY, a_job, a_lease
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """No real AWS is near: Lambda is a stub that takes every event, and so is DynamoDB where moto is not."""
    with aws_stub() as stub, isolated_registry():
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(key, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
        yield stub


SETTINGS = Settings(jobs_table="jobs-table", failed_table="failed-table", runner_function="the-runner")


def a_relayq(**changes: Any) -> RelayQ:
    """RelayQ as an application uses it."""
    return RelayQ(SETTINGS, validate_parameters=True, **changes)


# --- calls ---


class Bill:
    """Every call that boto3 sends, by name."""

    def __init__(self, session: boto3.Session) -> None:
        self._calls: list[str] = []
        session.events.register("before-call", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self._calls.append(model.name)

    def due(self) -> list[str]:
        """What was called since the last look."""
        calls, self._calls = self._calls, []
        return calls


@pytest.fixture
def bill(monkeypatch: pytest.MonkeyPatch, aws: Stub) -> Iterator[tuple[RelayQ, Bill]]:
    """RelayQ on moto's tables, and its bill."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", aws.url)
    with mock_aws(config={"core": {"passthrough": {"services": ["lambda"], "urls": []}}}):
        dynamodb = boto3.client("dynamodb")
        dynamodb.create_table(**jobs_table("jobs-table"))
        dynamodb.create_table(**failed_table("failed-table"))
        session = boto3.Session()
        yield a_relayq(session=session), Bill(session)


def plenty() -> int:
    """The time left in an invocation."""
    return 300_000


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_happy_path_costs_one_put_one_invoke_two_updates_and_no_reads(bill: tuple[RelayQ, Bill]) -> None:
    """That is the price of a job; anything more is paid a million times."""
    relayq, calls = bill

    @job
    def send(to: str) -> str:
        return to

    relayq.dispatch(send.job("first"))
    assert calls.due() == ["GetItem", "UpdateItem", "PutItem", "Invoke"], (
        "the first to a queue also tells the sweeper of the queue"
    )
    done = relayq.dispatch(send.job("a@b.c"))
    assert calls.due() == ["PutItem", "Invoke"]
    assert relayq.runner.run(done.job_id, None, plenty).ended == "completed"
    assert calls.due() == ["UpdateItem", "UpdateItem"]


def test_every_other_path_costs_what_this_table_says(bill: tuple[RelayQ, Bill]) -> None:
    """One line for each, so that a change of price is a change of this table."""
    relayq, calls = bill

    @job(max_attempts=2, backoff=0)
    def fail() -> None:
        raise ValueError

    @job
    def work(context: JobContext) -> None:
        context.progress(0.5)

    @job
    def nothing() -> None: ...

    relayq.dispatch("nothing")
    calls.due()
    prices: dict[str, list[str]] = {}

    def pay(what: str) -> None:
        prices[what] = calls.due()

    failing = relayq.dispatch(fail.job()).job_id
    calls.due()
    relayq.runner.run(failing, None, plenty)
    pay("a retry")
    relayq.runner.run(failing, None, plenty)
    pay("the last failure")
    relayq.runner.run(failing, None, plenty)
    pay("a doubled handoff")
    relayq.redrive(failing)
    pay("a redrive")
    relayq.dispatch(nothing.job(), delay=3600)
    pay("a long delay")
    unique = relayq.dispatch(nothing.job(), unique="k")
    pay("a unique key")
    assert relayq.dispatch(nothing.job(), unique="k").job_id == unique.job_id
    pay("a duplicate")
    relayq.runner.run(unique.job_id, None, plenty)
    pay("the end of a job with a key")
    windowed = relayq.dispatch(nothing.job(), unique="w", unique_for=60)
    calls.due()
    relayq.runner.run(windowed.job_id, None, plenty)
    pay("the end of a job with a window")
    working = relayq.dispatch(work.job()).job_id
    calls.due()
    relayq.runner.run(working, None, plenty)
    pay("progress")
    relayq.get(working)
    pay("get")
    waiting = relayq.dispatch(nothing.job(), delay=60).job_id
    calls.due()
    relayq.cancel(waiting)
    pay("cancel")
    assert prices == {
        "a retry": ["UpdateItem", "UpdateItem", "Invoke"],
        "the last failure": ["UpdateItem", "GetItem", "TransactWriteItems"],
        "a doubled handoff": ["UpdateItem"],
        # one more GetItem where the process has not yet dispatched to the queue
        "a redrive": ["GetItem", "TransactWriteItems", "Invoke"],
        "a long delay": ["PutItem"],
        "a unique key": ["TransactWriteItems", "Invoke"],
        "a duplicate": ["TransactWriteItems", "GetItem"],
        "the end of a job with a key": ["UpdateItem", "TransactWriteItems"],
        "the end of a job with a window": ["UpdateItem", "UpdateItem"],
        "progress": ["UpdateItem", "UpdateItem", "UpdateItem"],
        "get": ["GetItem"],
        "cancel": ["GetItem", "UpdateItem"],
    }


def test_a_client_is_made_when_it_is_needed(bill: tuple[RelayQ, Bill]) -> None:
    """Each costs a tenth of a second of a cold start: a status page needs no Lambda client."""
    relayq, _ = bill
    assert sorted(relayq.clients.by_service) == []
    relayq.get("nobody")
    assert sorted(relayq.clients.by_service) == ["dynamodb"]
    relayq.dispatch("nothing", delay=3600)
    assert sorted(relayq.clients.by_service) == ["dynamodb"]
    relayq.dispatch("nothing")
    assert sorted(relayq.clients.by_service) == ["dynamodb", "lambda"]


# --- connections ---


def test_a_thousand_dispatches_open_two_connections(aws: Stub) -> None:
    """An answer of Lambda's whose body is not read keeps its connection: a new one, with TLS, for every call."""
    relayq = a_relayq()
    for n in range(1000):
        relayq.dispatch("send_email", {"to": "a@b.c", "n": n})
    assert aws.operations() == ["GetItem", "UpdateItem"] + ["PutItem", "Invoke"] * 1000
    assert aws.connections == 2


def test_eight_threads_open_no_more_than_sixteen(aws: Stub) -> None:
    """One per thread and service, and none is thrown away for want of room in the pool."""
    relayq = a_relayq()
    relayq.dispatch("send_email")

    def dispatch() -> None:
        for n in range(50):
            relayq.dispatch("send_email", {"n": n})

    threads = [threading.Thread(target=dispatch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(aws.operations()) == ["GetItem"] + ["Invoke"] * 401 + ["PutItem"] * 401 + ["UpdateItem"]
    assert aws.connections <= 16


def test_a_hundred_runs_open_one_connection(aws: Stub) -> None:
    """A warm runner keeps the one it has."""

    @job
    def nothing() -> None: ...

    def claimed(request: Request) -> tuple[int, bytes]:
        if "available_at" not in request.body.get("ConditionExpression", ""):
            return at_once(request)
        record = leases.claim(a_job(name="nothing"), a_lease(now=NOW)).evolve(
            lease_id=request.body["ExpressionAttributeValues"][":lease"]["S"], lease_until=10**13
        )
        return 200, json.dumps({"Attributes": encode_job(record)}).encode()

    aws.answer = claimed
    relayq = a_relayq()
    assert {relayq.runner.run("job-1", None, plenty).ended for _ in range(100)} == {"completed"}
    assert aws.operations() == ["UpdateItem"] * 200
    assert aws.connections == 1


# --- modules ---


def modules_after(code: str, **environment: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after this code."""
    script = textwrap.dedent(code) + "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "RELAYQ_JOBS_TABLE": "jobs-table",
            "RELAYQ_FAILED_TABLE": "failed-table",
            "RELAYQ_RUNNER_FUNCTION": "the-runner",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"boto3", "botocore", "pydantic", "pydantic_core", "aws_lambda_powertools"}
PYDANTIC_AND_POWERTOOLS = {"pydantic", "pydantic_core", "aws_lambda_powertools"}


def test_importing_relayq_loads_nothing_heavy() -> None:
    """A process that imports it at the top of a module that seldom dispatches should not pay for it."""
    assert modules_after("import relayq_core") & HEAVY == set()


def test_importing_every_name_but_the_job_ones_loads_no_boto3() -> None:
    """boto3 waits for the first call, whatever was imported."""
    names = "RelayQ, Settings, dispatch, get, cancel, on, JobContext, JobRecord, Exponential, RelayQError, relayq"
    assert modules_after(f"from relayq_core import {names}") & HEAVY == set()


def test_importing_dispatch_loads_nothing_that_only_some_need() -> None:
    """Errors suggest a spelling, long keys are hashed, runners look for jobs: all that can wait."""
    some = {"difflib", "hashlib", "random", "pkgutil", "asyncio", "ctypes"}
    assert modules_after("from relayq_core import dispatch, get, cancel") & some == set()


def test_a_runner_starts_without_what_only_async_handlers_and_threads_need(aws: Stub) -> None:
    """It starts whenever there is more to do: each of these takes its time then."""
    start = "import relayq_core.handlers.runner, sys; assert 'relayq_core.engine.runner' in sys.modules"
    loaded = modules_after(start, AWS_ENDPOINT_URL=aws.url, RELAYQ_JOB_MODULES="benchmarks.one_job")
    assert "asyncio" not in loaded


def test_jobs_load_pydantic_and_nothing_else() -> None:
    """A job module can be imported, and tested, without AWS."""
    assert modules_after("from relayq_core import Job, job") & HEAVY == {"pydantic", "pydantic_core"}


def test_dispatch_by_name_get_and_cancel_load_neither_boto3_nor_pydantic_nor_powertools(aws: Stub) -> None:
    """So they work on any Python from 3.11 on and any architecture, and start fast."""
    row = encode_job(a_job(id="the-job"))

    def answer(request: Request) -> tuple[int, bytes]:
        if request.operation == "GetItem":
            return 200, json.dumps({"Item": row}).encode()
        return at_once(request)

    aws.answer = answer
    loaded = modules_after(
        """
        from relayq_core import cancel, dispatch, get
        assert dispatch("send_email", {"to": "a@b.c"}, job_id="the-job", delay=5).handed_off
        assert dispatch("send_email", unique="k", unique_for=60, queue="vip").job_id
        assert get("the-job").name == "send_email"
        assert cancel("the-job").status == "cancelled"
        """,
        AWS_ENDPOINT_URL=aws.url,
    )
    assert loaded & HEAVY == {"botocore"}
    assert set(aws.operations()) == {"UpdateItem", "PutItem", "Invoke", "TransactWriteItems", "GetItem"}


def test_the_sweeper_function_loads_no_pydantic(aws: Stub) -> None:
    """It knows no jobs; its cold start comes every minute it was idle."""
    assert "pydantic" not in modules_after("import relayq_core.handlers.sweeper", AWS_ENDPOINT_URL=aws.url)


# --- bytes ---


def size_of(item: Mapping[str, Mapping[str, str]]) -> int:
    """The bytes DynamoDB counts: names and texts in UTF-8; a number takes a byte for two digits, and one or two more.

    Rounded up where its documentation says "approximately".
    """
    return sum(
        len(name.encode()) + (len(value["S"].encode()) if "S" in value else len(value["N"]) // 2 + 2)
        for name, value in item.items()
    )


def life_of(dispatched: JobRecord) -> dict[str, JobRecord]:
    """The row at each of its writes."""
    claimed = leases.claim(dispatched, a_lease("0123456789abcdef"))
    failure = Failed(
        "ValueError: no such mailbox\n  at /var/task/jobs/email.py:31 in send", "ValueError: no such mailbox"
    )
    retrying = settling.settle(claimed, failure, LIMITS, POLICY, now=NOW, draw=0.5).after
    again = leases.claim(retrying, a_lease("0123456789abcdef"))
    return {
        "dispatched": dispatched,
        "claimed": claimed,
        "completed": settling.settle(claimed, Succeeded('{"sent":1}'), LIMITS, POLICY, now=NOW, draw=0.5).after,
        "retrying": retrying,
        "claimed again": again,
        "completed after all": settling.settle(again, Succeeded(), LIMITS, POLICY, now=NOW, draw=0.5).after,
    }


def test_the_plain_row_stays_under_a_kilobyte_all_its_life() -> None:
    """Each begun kilobyte is a write unit, three times."""
    plain = a_job(
        id=generate_id(NOW),
        name="SendWelcomeNotification",
        queue="notifications",
        max_attempts=3,
        backoff=POLICY.backoff,
        timeout_ms=60_000,
        payload_json=json.dumps({"user_id": 123456789, "title": "Welcome to the shop!", "body": "x" * 200}),
        parent_id=generate_id(NOW),
        root_id=generate_id(NOW),
        depth=2,
        trace_id="1-67891233-abcdef012345678912345678",
    )
    sizes = {when: size_of(encode_job(row)) for when, row in life_of(plain).items()}
    assert {when: size for when, size in sizes.items() if size > 1024} == {}


def test_what_a_row_is_beside_its_payload_is_small() -> None:
    """So that there is room for the payload in the first kilobyte."""
    bare = a_job(id=generate_id(NOW), payload_json="")
    sizes = {when: size_of(encode_job(row)) for when, row in life_of(bare).items()}
    assert sizes["dispatched"] < 300
    assert sizes["completed"] < 400


def test_nothing_is_stored_that_says_nothing() -> None:
    """None, 0 and False have no attribute."""
    assert sorted(encode_job(a_job())) == [
        "attempt",
        "available_at",
        "created_at",
        "due_at",
        "due_shard",
        "name",
        "payload",
        "pk",
        "queue",
        "status",
        "updated_at",
    ]
    assert a_job().status is Status.PENDING
