"""A running `relayq dev`, and a second process that dispatches to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relayq_core.local.environ import isolate

JOB = """
from relayq_core import JobContext, job


@job(queue="greetings", timeout=10, backoff=1)
def greet(context: JobContext, name: str) -> str:
    print("printed")
    context.logger.info("greeting %s", name, extra={"duration_ms": "long"})
    if name == "Nobody" and not context.is_last_attempt:
        raise LookupError("nobody is here")
    return f"Hello, {name}!"
"""


#: The second process: it knows the environment that was printed, and no more.
CLIENT = """
import sys, time
from relayq_core import dispatch, get
job_id = dispatch("greet", {"name": sys.argv[1]}).job_id
while not (job := get(job_id)).status.is_ended:
    time.sleep(0.05)
print(job.status, job.result)
"""


class Dev:
    """A running `relayq dev --json`, and the lines that it has printed."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.told: list[dict[str, Any]] = []
        self._output = (folder / "output").open("wb+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relayq_core.cli", "dev", "--json", "--port", "0", "--tick", "1", *options],
            cwd=folder,
            env=isolate({}, os.environ),
            stdout=self._output,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, came: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a line that must come."""
        seen = 0
        for _ in range(1200):
            lines = (self.folder / "output").read_text().splitlines()
            self.told = [json.loads(line) for line in lines if line.endswith("}")]
            for line in self.told[seen:]:
                if came(line):
                    return line
            seen = len(self.told)
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.05)
        pytest.fail(f"it did not come within a minute; told was {self.told}")

    def completed(self) -> set[str]:
        """The names of jobs that have."""
        return {line["job_name"] for line in self.told if line["event"] == "completed"}

    def end(self) -> str:
        """Ctrl-C; its stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=30)[1]

    def close(self) -> None:
        """Whatever became of it, it is gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self._output.close()
