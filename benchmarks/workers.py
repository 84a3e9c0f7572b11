"""Systems with a worker that is really there: how each is told of a job, and how its worker is run.

The job says to the port in BENCH_PORT that it has begun.
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
    """Dispatch job number so and so; and be the worker, until this process is ended."""

    enqueue: Callable[[int], object]
    work: Callable[[], object]


def begun(number: int) -> None:
    """The job: say that it has begun."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(str(number).encode(), ("127.0.0.1", int(os.environ["BENCH_PORT"])))


@job(queue="default", timeout=30)
def relayq_job(number: int) -> None:
    """The same for RelayQ."""
    begun(number)


class ToPipe:
    """The handoff to a runner that reads from a pipe."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """A line for each job."""
        self._pipe.write(f"{json.dumps([job_id, run_at, name])}\n")
        self._pipe.flush()


def relayq_runner(url: str, pipe: IO[str]) -> System:
    """A warm runner, told through a pipe."""
    relayq = RelayQ(handoff=ToPipe(pipe))

    def work() -> None:
        for line in sys.stdin:
            job_id, run_at, name = json.loads(line)
            relayq.runner.run(job_id, run_at, lambda: 900_000, name)

    return System(lambda number: relayq.dispatch("relayq_job", {"number": number}), work)


def relayq_worker(url: str, pipe: IO[str]) -> System:
    """`relayq work`, without its terminal."""
    relayq = RelayQ(replace(Settings.from_environ(), handoff="none"))

    def work() -> None:
        relayq.connect()
        with ProcessSlots(1, {}, quiet=True) as slots:
            Worker(
                relayq,
                slots,
                stopping=lambda: 0,
                tell=lambda news: None,
            ).work(["default"], most=None, once=False)

    return System(lambda number: relayq.dispatch("relayq_job", {"number": number}), work)


def celery(url: str, pipe: IO[str]) -> System:
    app = Celery("bench", broker=f"{url}/1")
    task = app.task(name="begun", ignore_result=True)(begun)
    quiet = ["--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return System(task.delay, lambda: app.worker_main(["worker", *quiet]))


def rq_(url: str, pipe: IO[str]) -> System:
    connection = Redis.from_url(f"{url}/4")
    queue = rq.Queue("bench", connection=connection)
    return System(
        lambda number: queue.enqueue("benchmarks.workers.begun", number),
        lambda: rq.Worker([queue], connection=connection).work(logging_level="ERROR"),
    )


def dramatiq_(url: str, pipe: IO[str]) -> System:
    broker: Any = RedisBroker(url=f"{url}/2")
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(actor_name="begun")(begun)

    def work() -> None:
        dramatiq.Worker(broker, worker_threads=1).start()
        time.sleep(3600)

    return System(actor.send, work)


def huey(url: str, pipe: IO[str]) -> System:
    app = RedisHuey("bench", url=f"{url}/3", results=False)
    task = app.task()(begun)
    return System(task, lambda: app.create_consumer(workers=1).run())


def prepare_postgres(conninfo: str) -> None:
    """Make procrastinate's tables."""
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=conninfo)).open() as app:
        app.schema_manager.apply_schema()


def procrastinate_(url: str, pipe: IO[str]) -> System:
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    there = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
    there.open()
    task = there.task(name="begun")(begun)

    async def run() -> None:
        here = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        here.task(name="begun")(begun)
        async with here.open_async():
            await here.run_worker_async(concurrency=1)

    return System(lambda number: task.defer(number=number), lambda: asyncio.run(run()))


#: What each needs, and how it is made of the server's address and the pipe to its worker.
SYSTEMS: dict[str, tuple[str, Callable[[str, IO[str]], System]]] = {
    "RelayQ, a warm runner": ("DynamoDB Local", relayq_runner),
    "RelayQ, relayq work": ("DynamoDB Local", relayq_worker),
    "Celery + Redis": ("Redis", celery),
    "RQ": ("Redis", rq_),
    "dramatiq + Redis": ("Redis", dramatiq_),
    "Huey + Redis": ("Redis", huey),
    "procrastinate + PostgreSQL": ("PostgreSQL", procrastinate_),
}


def work(name: str, url: str) -> None:
    """Be the worker of this system."""
    SYSTEMS[name][1](url, sys.stdout).work()
