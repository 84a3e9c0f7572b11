"""Systems with a running worker: how each dispatches a job, and how its worker runs.

The job reports to the port in BENCH_PORT that it has begun.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any, NamedTuple

import dramatiq
import procrastinate
import rq
from celery import Celery
from dramatiq.brokers.redis import RedisBroker
from huey import RedisHuey
from redis import Redis

from relayq_core import RelayQ, Settings, job
from relayq_core.worker.pool import ProcessSlots
from relayq_core.worker.worker import Worker


class System(NamedTuple):
    """`enqueue` dispatches a job by its number; `work` runs the worker until this process ends."""

    enqueue: Callable[[int], object]
    work: Callable[[], object]


def report_start(number: int) -> None:
    """Report that this job has begun."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(str(number).encode(), ("127.0.0.1", int(os.environ["BENCH_PORT"])))


@job(queue="default", timeout=30)
def relayq_job(number: int) -> None:
    """Report that this job of RelayQ has begun."""
    report_start(number)


class ToPipe:
    """The handoff to a runner that reads from a pipe."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Write a line for the job."""
        self._pipe.write(f"{json.dumps([job_id, run_at, name])}\n")
        self._pipe.flush()


def build_runner(url: str, pipe: IO[str]) -> System:
    """Return RelayQ with a warm runner that is notified through a pipe."""
    relayq = RelayQ(handoff=ToPipe(pipe))

    def work() -> None:
        for line in sys.stdin:
            job_id, run_at, name = json.loads(line)
            relayq.runner.run(job_id, run_at, lambda: 900_000, name)

    return System(lambda number: relayq.dispatch("relayq_job", {"number": number}), work)


def build_worker(url: str, pipe: IO[str]) -> System:
    """Return RelayQ with `relayq work`, without its terminal."""
    relayq = RelayQ(replace(Settings.from_environ(), handoff="none"))

    def work() -> None:
        relayq.connect()
        with ProcessSlots(1, {}, quiet=True) as slots:
            Worker(
                relayq,
                slots,
                stopping=lambda: 0,
                notify=lambda news: None,
            ).work(["default"], most=None, once=False)

    return System(lambda number: relayq.dispatch("relayq_job", {"number": number}), work)


def build_celery(url: str, pipe: IO[str]) -> System:
    app = Celery("bench", broker=f"{url}/1")
    task = app.task(name="report_start", ignore_result=True)(report_start)
    quiet = ["--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return System(task.delay, lambda: app.worker_main(["worker", *quiet]))


def build_rq(url: str, pipe: IO[str]) -> System:
    connection = Redis.from_url(f"{url}/4")
    queue = rq.Queue("bench", connection=connection)
    return System(
        lambda number: queue.enqueue("benchmarks.workers.report_start", number),
        lambda: rq.Worker([queue], connection=connection).work(logging_level="ERROR"),
    )


def build_dramatiq(url: str, pipe: IO[str]) -> System:
    broker: Any = RedisBroker(url=f"{url}/2")
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(actor_name="report_start")(report_start)

    def work() -> None:
        dramatiq.Worker(broker, worker_threads=1).start()
        time.sleep(3600)

    return System(actor.send, work)


def build_huey(url: str, pipe: IO[str]) -> System:
    app = RedisHuey("bench", url=f"{url}/3", results=False)
    task = app.task()(report_start)
    return System(task, lambda: app.create_consumer(workers=1).run())


def prepare_postgres(conninfo: str) -> None:
    """Create procrastinate's tables."""
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=conninfo)).open() as app:
        app.schema_manager.apply_schema()


def build_procrastinate(url: str, pipe: IO[str]) -> System:
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    there = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
    there.open()
    task = there.task(name="report_start")(report_start)

    async def run() -> None:
        here = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        here.task(name="report_start")(report_start)
        async with here.open_async():
            await here.run_worker_async(concurrency=1)

    return System(lambda number: task.defer(number=number), lambda: asyncio.run(run()))


#: The server that each system needs, and how it is built from the server's address and the pipe to its worker.
SYSTEMS: dict[str, tuple[str, Callable[[str, IO[str]], System]]] = {
    "RelayQ, a warm runner": ("DynamoDB Local", build_runner),
    "RelayQ, relayq work": ("DynamoDB Local", build_worker),
    "Celery + Redis": ("Redis", build_celery),
    "RQ": ("Redis", build_rq),
    "dramatiq + Redis": ("Redis", build_dramatiq),
    "Huey + Redis": ("Redis", build_huey),
    "procrastinate + PostgreSQL": ("PostgreSQL", build_procrastinate),
}


def work(name: str, url: str) -> None:
    """Run the worker of this system."""
    SYSTEMS[name][1](url, sys.stdout).work()
