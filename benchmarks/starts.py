"""Measure the time from dispatch to the handler's first line: `python -m benchmarks.starts` in .venv-bench.

Prints JSON: for each system, milliseconds of one job after another, each dispatched to an idle worker.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from benchmarks.aws import CREDENTIALS, REGION, ROOT, set_environment
from benchmarks.peers import run_postgres, run_redis
from benchmarks.workers import SYSTEMS, prepare_postgres
from tests.support import dynamo, engines

#: Seconds in which a worker has to begin a job.
_PATIENCE = 30.0


def main() -> None:
    """Measure every system whose server is on this machine, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=25)
    options = parser.parse_args()
    times: dict[str, list[float]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, ExitStack() as stack:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(_PATIENCE)
        stack.enter_context(set_environment({"BENCH_PORT": str(receiver.getsockname()[1])}))
        servers = _start_servers(stack)
        for name, (needs, make) in SYSTEMS.items():
            if (url := servers[needs]) is not None:
                with _run_worker(name, url) as pipe:
                    enqueue = make(url, pipe).enqueue
                    _time_start(enqueue, -1, receiver)  # waits until the worker is up
                    times[name] = [_time_start(enqueue, number, receiver) for number in range(options.jobs)]
    print(json.dumps(times))


def _start_servers(stack: ExitStack) -> dict[str, str | None]:
    """Start the servers and return where each listens; None if it is not on this machine."""
    conninfo = stack.enter_context(run_postgres())
    if conninfo is not None:
        prepare_postgres(conninfo)
    has_engine = engines.missing() is None
    return {
        "DynamoDB Local": stack.enter_context(_create_tables()) if has_engine else None,
        "Redis": stack.enter_context(run_redis()),
        "PostgreSQL": conninfo,
    }


@contextmanager
def _create_tables() -> Iterator[str]:
    """Create two tables for the block, and name them in the environment of this process and its children."""
    with (
        engines.dynamodb_local() as endpoint,
        dynamo.clients(endpoint, 1) as (client,),
        dynamo.tables(client) as tables,
    ):
        settings = {
            **CREDENTIALS,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
            "RELAYQ_JOBS_TABLE": tables.jobs,
            "RELAYQ_FAILED_TABLE": tables.failed,
            "RELAYQ_RUNNER_FUNCTION": "pipe",
            "RELAYQ_JOB_MODULES": "benchmarks.workers",
        }
        with set_environment(settings):
            yield endpoint


@contextmanager
def _run_worker(name: str, url: str) -> Iterator[IO[str]]:
    """Run a system's worker for the block, and yield the pipe to it."""
    command = [sys.executable, "-c", f"from benchmarks import workers; workers.work({name!r}, {url!r})"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        try:
            yield process.stdin
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # some wait for their next job, and some have children


def _time_start(enqueue: Callable[[int], object], number: int, receiver: socket.socket) -> float:
    """Return the milliseconds until one job's handler has begun, after a pause in which the worker falls idle."""
    time.sleep(random.uniform(0.1, 0.4))
    began = time.perf_counter()
    enqueue(number)
    while int(receiver.recv(16)) != number:
        pass
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
