"""Measure a dispatch against the two calls it consists of: by a tuned client, and as they are usually written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.aws import (
    Stand,
    build_relayq,
    make_default_client,
    make_tuned_client,
    record_calls,
    set_environment,
    start_stand,
)
from benchmarks.measuring import CONTROL, Ratio, compare
from benchmarks.rows import Row
from benchmarks.scale import Scale
from relayq_core import Job, RelayQ, Settings
from relayq_core.jobs.request import JobRequest
from relayq_core.process.concurrency import spread_serially

GROUP = "Dispatch"
PAYLOAD = {"to": "ada@example.com", "subject": "Welcome", "user_id": 12345}
_MANY = 500
TUNED = "put_item and invoke, tuned, the body read"
USUAL = "put_item and invoke, default clients, the body unread"


class SendWelcome(Job, queue="emails", timeout=30):
    """A job as applications have them."""

    to: str
    subject: str
    user_id: int

    def handle(self) -> None:
        """Do nothing."""


def measure(scale: Scale) -> Iterator[Row]:
    """Yield dispatches over HTTP and over TLS, and the connections that are opened."""
    with start_stand() as plain, set_environment(plain.environ):
        yield from _compare_tuned(scale)
        yield from _compare_many(scale)
        yield from _compare_usual(scale, "HTTP", cpu_goal=0.85, wall_goal=0.80)
        yield from _count_connections(plain, scale)
    with start_stand(tls=True) as secure, set_environment(secure.environ):
        yield from _compare_usual(scale, "TLS", cpu_goal=0.60, wall_goal=0.50)


def make_dispatch(relayq: RelayQ) -> Callable[[], object]:
    """Return a call that dispatches by name, without the job's code."""
    return lambda: relayq.dispatch("send_welcome_email", PAYLOAD, queue="emails")


def make_raw_calls(dynamodb: Any, functions: Any, *, read: bool, **options: Any) -> Callable[[], None]:
    """Return the same calls that a dispatch makes, with nothing around them."""
    relayq = build_relayq()
    relayq.dispatch("send_welcome_email", PAYLOAD, queue="emails")  # registers the queue, which no later dispatch does
    with record_calls(relayq, "dynamodb", "lambda") as calls:
        relayq.dispatch("send_welcome_email", PAYLOAD, queue="emails", **options)
    (write, written), (_, invoked) = calls
    put = getattr(dynamodb, write)

    def send() -> None:
        put(**written)
        answer = functions.invoke(**invoked)
        if read:
            answer["Payload"].read()

    return send


def _build_row(name: str, against: str, ratios: dict[str, Ratio], key: str, goal: float | None, note: str = "") -> Row:
    ratio = ratios[key]
    return Row(
        GROUP,
        name,
        against,
        ratio.cpu,
        goal,
        unit="× CPU",
        spread=(ratio.cpu_from, ratio.cpu_to),
        control=ratios[CONTROL].cpu,
        note=note,
    )


def _compare_tuned(scale: Scale) -> Iterator[Row]:
    relayq = build_relayq()
    dynamodb, functions = make_tuned_client("dynamodb"), make_tuned_client("lambda")
    ratios = compare(
        make_raw_calls(dynamodb, functions, read=True),
        {
            "name": make_dispatch(relayq),
            "object": lambda: relayq.dispatch(SendWelcome(to="ada@example.com", subject="Welcome", user_id=12345)),
        },
        rounds=scale.rounds,
        batch=scale.batch,
    )
    yield _build_row("dispatch by name", TUNED, ratios, "name", 1.10, "a payload of three fields")
    yield _build_row(
        "dispatch of a Job object, built and checked", TUNED, ratios, "object", 1.10, "pydantic checks it twice"
    )
    keyed = compare(
        make_raw_calls(dynamodb, functions, read=True, unique="welcome:7", unique_for=60),
        {
            "unique": lambda: relayq.dispatch(
                "send_welcome_email", PAYLOAD, queue="emails", unique="welcome:7", unique_for=60
            )
        },
        rounds=scale.rounds,
        batch=scale.batch,
    )
    yield _build_row(
        "dispatch with a unique key", "transact_write_items and invoke, tuned, the body read", keyed, "unique", 1.10
    )


def _compare_many(scale: Scale) -> Iterator[Row]:
    """Yield dispatches of many jobs without a handoff: other rows measure the handoff."""
    settings = Settings(jobs_table="jobs", failed_table="failed", handoff="none")
    silent, alone = RelayQ(settings), RelayQ(settings, spreading=spread_serially)
    with record_calls(silent, "dynamodb") as seen:
        silent.dispatch("send_welcome_email", PAYLOAD, queue="emails")
    put, written = make_tuned_client("dynamodb").put_item, seen[-1][1]

    def puts() -> None:
        for _ in range(_MANY):
            put(**written)

    jobs = [JobRequest("send_welcome_email", json.dumps(PAYLOAD))] * _MANY
    ratios = compare(
        puts,
        {"alone": lambda: alone.dispatch_many(jobs), "threads": lambda: silent.dispatch_many(jobs)},
        rounds=max(5, scale.rounds // 2),
        batch=1,
    )
    name = f"a job of dispatch_many ({_MANY}, no handoff)"
    yield _build_row(
        f"{name}, one call after another", "put_item, tuned", ratios, "alone", 0.12, "checks and records included"
    )
    yield _build_row(
        f"{name}, in eight threads", "put_item, tuned", ratios, "threads", None, "which contend for Python's lock"
    )


def _compare_usual(scale: Scale, wire: str, *, cpu_goal: float, wall_goal: float) -> Iterator[Row]:
    ratios = compare(
        make_raw_calls(make_default_client("dynamodb"), make_default_client("lambda"), read=False),
        {"name": make_dispatch(build_relayq())},
        rounds=scale.rounds,
        batch=scale.batch,
    )
    yield _build_row(f"dispatch by name, over {wire}", USUAL, ratios, "name", cpu_goal)
    yield Row(
        GROUP,
        f"dispatch by name, over {wire}",
        USUAL,
        ratios["name"].wall,
        wall_goal,
        unit="× wall",
        control=ratios[CONTROL].cpu,
        note="on one machine; a network's round trips are not in it",
    )


def _count_connections(plain: Stand, scale: Scale) -> Iterator[Row]:
    relayq = build_relayq()
    before = plain.connections()
    for _ in range(scale.dispatches):
        make_dispatch(relayq)()
    # reading the counter is a connection too, which connections() leaves out
    yield Row(
        GROUP,
        f"connections opened by {scale.dispatches:,} dispatches",
        "one for each client",
        plain.connections() - before - 1,
        2,
        exact=True,
        unit="",
    )
    threaded = build_relayq()
    before = plain.connections()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: make_dispatch(threaded)(), range(scale.dispatches)))
    yield Row(
        GROUP,
        f"connections opened by {scale.dispatches:,} dispatches from 8 threads",
        "one for each client and thread",
        plain.connections() - before - 1,
        16,
        unit="",
    )
    naive = make_raw_calls(make_default_client("dynamodb"), make_default_client("lambda"), read=False)
    before = plain.connections()
    for _ in range(scale.dispatches):
        naive()
    yield Row(
        GROUP,
        f"connections opened by {scale.dispatches:,} of the calls as usually written",
        USUAL,
        plain.connections() - before - 1,
        unit="",
        note="urllib3 never gets them back",
    )
