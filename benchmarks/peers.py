"""Dispatch the same job with other systems: `python -m benchmarks.peers` in .venv-bench, where they are installed.

Prints JSON: for each, CPU and wall time relative to RelayQ's dispatch in the same run. No worker runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dramatiq
import procrastinate
import rq
from celery import Celery
from dramatiq.brokers.redis import RedisBroker
from huey import RedisHuey, SqliteHuey
from redis import Redis

from benchmarks.aws import REGION, build_relayq, make_default_client, set_environment, start_stand
from benchmarks.dispatching import PAYLOAD, make_dispatch, make_raw_calls
from benchmarks.measuring import compare

Enqueue = Callable[[], object]


def send_email(to: str, subject: str, user_id: int) -> None:
    """Do nothing: no worker runs this job."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_ready(port: int) -> bool:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


@contextmanager
def run_redis() -> Iterator[str | None]:
    """Run a Redis without persistence for the block; None if this machine has none."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        yield None
        return
    port = _free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process,
    ):
        try:
            yield f"redis://127.0.0.1:{port}" if _is_ready(port) else None
        finally:
            process.terminate()


@contextmanager
def run_postgres() -> Iterator[str | None]:
    """Run a fresh PostgreSQL with its defaults for the block; None if this machine has none."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not binaries:
        yield None
        return
    programs, port = binaries[-1].parent, _free_port()
    # it refuses to run as root, and Debian has a user for it
    user: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        data = f"{folder}/data"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        subprocess.run([programs / "initdb", "-D", data, "-A", "trust", "-U", "bench"], check=True, **quiet, **user)
        command = [str(programs / "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder]
        with subprocess.Popen(command, **quiet, **user) as process:
            try:
                yield f"host=127.0.0.1 port={port} user=bench dbname=postgres" if _is_ready(port) else None
            finally:
                process.send_signal(signal.SIGINT)  # a fast shutdown: it does not wait for clients


def prepare_aws() -> dict[str, Enqueue]:
    """Return calls to AWS with default clients, and Celery on SQS."""
    queue, functions = make_default_client("sqs"), make_default_client("lambda")
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    url = f"{endpoint}/000000000000/queue"
    body = json.dumps(PAYLOAD)

    def invoke() -> None:
        functions.invoke(FunctionName="runner", InvocationType="Event", Payload=body)["Payload"].read()

    celery = Celery("bench", broker=f"sqs://key:secret@{endpoint.removeprefix('http://')}")
    queues = {"celery": {"url": url, "access_key_id": "key", "secret_access_key": "secret"}}
    celery.conf.broker_transport_options = {"region": REGION, "is_secure": False, "predefined_queues": queues}
    on_celery = celery.task(name="send_email", ignore_result=True)(send_email)
    return {
        "Celery + SQS": lambda: on_celery.delay(**PAYLOAD),
        "SQS SendMessage, boto3": lambda: queue.send_message(QueueUrl=url, MessageBody=body),
        "Lambda invoke(Event), boto3, the body read": invoke,
        "put_item and invoke, boto3, the body unread": make_raw_calls(
            make_default_client("dynamodb"), functions, read=False
        ),
    }


def prepare_redis(url: str, folder: str) -> dict[str, Enqueue]:
    """Return calls for each system on Redis, with its defaults and without results."""

    celery = Celery("bench", broker=f"{url}/1")
    on_celery = celery.task(name="send_email", ignore_result=True)(send_email)
    broker: Any = RedisBroker(url=f"{url}/2")
    dramatiq.set_broker(broker)
    on_dramatiq = dramatiq.actor(actor_name="send_email")(send_email)
    on_huey = RedisHuey("bench", url=f"{url}/3", results=False).task()(send_email)
    on_sqlite = SqliteHuey("bench", filename=f"{folder}/huey.db", results=False).task()(send_email)
    queue = rq.Queue("bench", connection=Redis.from_url(f"{url}/4"))
    return {
        "Celery + Redis": lambda: on_celery.delay(**PAYLOAD),
        "RQ": lambda: queue.enqueue("jobs.send_email", **PAYLOAD),
        "dramatiq + Redis": lambda: on_dramatiq.send(**PAYLOAD),
        "Huey + Redis": lambda: on_huey(**PAYLOAD),
        "Huey + SQLite": lambda: on_sqlite(**PAYLOAD),
    }


def prepare_postgres(conninfo: str, stack: ExitStack) -> dict[str, Enqueue]:
    """Create procrastinate's tables, and return a call that defers a task."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=conninfo))
    stack.enter_context(app.open())
    app.schema_manager.apply_schema()

    task = app.task(name="send_email")(send_email)
    return {"procrastinate + PostgreSQL": lambda: task.defer(**PAYLOAD)}


def main() -> None:
    """Measure every system whose server is on this machine, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=10)
    options = parser.parse_args()
    with ExitStack() as stack:
        aws = stack.enter_context(start_stand())
        stack.enter_context(set_environment(aws.environ))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        peers = prepare_aws()
        if (url := stack.enter_context(run_redis())) is not None:
            peers |= prepare_redis(url, folder)
        if (conninfo := stack.enter_context(run_postgres())) is not None:
            peers |= prepare_postgres(conninfo, stack)
        ratios = compare(make_dispatch(build_relayq()), peers, rounds=options.rounds, batch=options.batch)
    print(json.dumps({name: asdict(ratio) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
