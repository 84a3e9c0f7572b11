"""From dispatch to the first line of the handler: `python -m benchmarks.starts` in .venv-bench, where the peers are.

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

from benchmarks.aws import CREDENTIALS, REGION, ROOT, environment
from benchmarks.peers import postgres, redis
from benchmarks.workers import SYSTEMS, prepare_postgres
from tests.support import dynamo, engines

#: A worker that has not begun a job by then is not there.
_PATIENCE = 30.0


def main() -> None:
    """Measure all that can be had here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=25)
    asked = parser.parse_args()
    found: dict[str, list[float]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard, ExitStack() as stack:
        heard.bind(("127.0.0.1", 0))
        heard.settimeout(_PATIENCE)
        stack.enter_context(environment({"BENCH_PORT": str(heard.getsockname()[1])}))
        servers = _servers(stack)
        for name, (needs, make) in SYSTEMS.items():
            if (url := servers[needs]) is not None:
                with _worker(name, url) as pipe:
                    enqueue = make(url, pipe).enqueue
                    _started(enqueue, -1, heard)  # once it is there
                    found[name] = [_started(enqueue, number, heard) for number in range(asked.jobs)]
    print(json.dumps(found))


def _servers(stack: ExitStack) -> dict[str, str | None]:
    """Where each server listens; None where it is not on this machine."""
    conninfo = stack.enter_context(postgres())
    if conninfo is not None:
        prepare_postgres(conninfo)
    there = engines.missing() is None
    return {
        "DynamoDB Local": stack.enter_context(_tables()) if there else None,
        "Redis": stack.enter_context(redis()),
        "PostgreSQL": conninfo,
    }


@contextmanager
def _tables() -> Iterator[str]:
    """Two tables, which the environment names to this process and its children."""
    with engines.dynamodb_local() as endpoint, dynamo.clients(endpoint, 1) as (client,), dynamo.tables(client) as made:
        settings = {
            **CREDENTIALS,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
            "RELAYQ_JOBS_TABLE": made.jobs,
            "RELAYQ_FAILED_TABLE": made.failed,
            "RELAYQ_RUNNER_FUNCTION": "pipe",
            "RELAYQ_JOB_MODULES": "benchmarks.workers",
        }
        with environment(settings):
            yield endpoint


@contextmanager
def _worker(name: str, url: str) -> Iterator[IO[str]]:
    """Its worker's process, and the pipe to it."""
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
            os.killpg(process.pid, signal.SIGKILL)  # some would wait for their next job, and some have children


def _started(enqueue: Callable[[int], object], number: int, heard: socket.socket) -> float:
    """Milliseconds until the handler of one job has begun, after a pause in which the worker falls idle."""
    time.sleep(random.uniform(0.1, 0.4))
    began = time.perf_counter()
    enqueue(number)
    while int(heard.recv(16)) != number:
        pass
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
