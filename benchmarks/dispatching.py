"""Dispatch, against the two calls it consists of: made by a tuned client, and as they are usually written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.aws import Stand, environment, relayq, sent_by, stand, tuned, untuned
from benchmarks.measuring import CONTROL, Ratio, paired
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


def rows(scale: Scale) -> Iterator[Row]:
    """Over HTTP and TLS, and the connections that are opened."""
    with stand() as plain, environment(plain.environ):
        yield from _against_tuned(scale)
        yield from _many(scale)
        yield from _against_usual(scale, "HTTP", cpu_goal=0.85, wall_goal=0.80)
        yield from _connections(plain, scale)
    with stand(tls=True) as secure, environment(secure.environ):
        yield from _against_usual(scale, "TLS", cpu_goal=0.60, wall_goal=0.50)


def by_name(made: RelayQ) -> Callable[[], object]:
    """Dispatch as one does who has none of the job's code."""
    return lambda: made.dispatch("send_welcome_email", PAYLOAD, queue="emails")


def raw(dynamodb: Any, functions: Any, *, read: bool, **options: Any) -> Callable[[], None]:
    """The very calls that a dispatch makes, with nothing around them."""
    made = relayq()
    made.dispatch("send_welcome_email", PAYLOAD, queue="emails")  # makes the queue known; not part of any later one
    with sent_by(made, "dynamodb", "lambda") as seen:
        made.dispatch("send_welcome_email", PAYLOAD, queue="emails", **options)
    (write, written), (_, invoked) = seen
    put = getattr(dynamodb, write)

    def send() -> None:
        put(**written)
        answer = functions.invoke(**invoked)
        if read:
            answer["Payload"].read()

    return send


def _row(name: str, against: str, found: dict[str, Ratio], key: str, goal: float | None, note: str = "") -> Row:
    ratio = found[key]
    return Row(
        GROUP,
        name,
        against,
        ratio.cpu,
        goal,
        unit="× CPU",
        spread=(ratio.cpu_from, ratio.cpu_to),
        control=found[CONTROL].cpu,
        note=note,
    )


def _against_tuned(scale: Scale) -> Iterator[Row]:
    made = relayq()
    dynamodb, functions = tuned("dynamodb"), tuned("lambda")
    found = paired(
        raw(dynamodb, functions, read=True),
        {
            "name": by_name(made),
            "object": lambda: made.dispatch(SendWelcome(to="ada@example.com", subject="Welcome", user_id=12345)),
        },
        rounds=scale.rounds,
        batch=scale.batch,
    )
    yield _row("dispatch by name", TUNED, found, "name", 1.10, "a payload of three fields")
    yield _row("dispatch of a Job object, built and checked", TUNED, found, "object", 1.10, "pydantic checks it twice")
    keyed = paired(
        raw(dynamodb, functions, read=True, unique="welcome:7", unique_for=60),
        {
            "unique": lambda: made.dispatch(
                "send_welcome_email", PAYLOAD, queue="emails", unique="welcome:7", unique_for=60
            )
        },
        rounds=scale.rounds,
        batch=scale.batch,
    )
    yield _row(
        "dispatch with a unique key", "transact_write_items and invoke, tuned, the body read", keyed, "unique", 1.10
    )


def _many(scale: Scale) -> Iterator[Row]:
    """Many jobs, and nobody is told of them: what telling takes is another row's."""
    settings = Settings(jobs_table="jobs", failed_table="failed", handoff="none")
    silent, alone = RelayQ(settings), RelayQ(settings, spreading=spread_serially)
    with sent_by(silent, "dynamodb") as seen:
        silent.dispatch("send_welcome_email", PAYLOAD, queue="emails")
    put, written = tuned("dynamodb").put_item, seen[-1][1]

    def puts() -> None:
        for _ in range(_MANY):
            put(**written)

    jobs = [JobRequest("send_welcome_email", json.dumps(PAYLOAD))] * _MANY
    found = paired(
        puts,
        {"alone": lambda: alone.dispatch_many(jobs), "threads": lambda: silent.dispatch_many(jobs)},
        rounds=max(5, scale.rounds // 2),
        batch=1,
    )
    name = f"a job of dispatch_many ({_MANY}, no handoff)"
    yield _row(
        f"{name}, one call after another", "put_item, tuned", found, "alone", 0.12, "checks and records included"
    )
    yield _row(
        f"{name}, in eight threads", "put_item, tuned", found, "threads", None, "which contend for Python's lock"
    )


def _against_usual(scale: Scale, wire: str, *, cpu_goal: float, wall_goal: float) -> Iterator[Row]:
    found = paired(
        raw(untuned("dynamodb"), untuned("lambda"), read=False),
        {"name": by_name(relayq())},
        rounds=scale.rounds,
        batch=scale.batch,
    )
    yield _row(f"dispatch by name, over {wire}", USUAL, found, "name", cpu_goal)
    yield Row(
        GROUP,
        f"dispatch by name, over {wire}",
        USUAL,
        found["name"].wall,
        wall_goal,
        unit="× wall",
        control=found[CONTROL].cpu,
        note="on one machine; a network's round trips are not in it",
    )


def _connections(plain: Stand, scale: Scale) -> Iterator[Row]:
    made = relayq()
    before = plain.connections()
    for _ in range(scale.dispatches):
        by_name(made)()
    # each look at the counter is a connection too, which it leaves out itself
    yield Row(
        GROUP,
        f"connections opened by {scale.dispatches:,} dispatches",
        "one for each client",
        plain.connections() - before - 1,
        2,
        exact=True,
        unit="",
    )
    threaded = relayq()
    before = plain.connections()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: by_name(threaded)(), range(scale.dispatches)))
    yield Row(
        GROUP,
        f"connections opened by {scale.dispatches:,} dispatches from 8 threads",
        "one for each client and thread",
        plain.connections() - before - 1,
        16,
        unit="",
    )
    naive = raw(untuned("dynamodb"), untuned("lambda"), read=False)
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
