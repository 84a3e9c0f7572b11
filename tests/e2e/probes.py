"""Jobs for the end-to-end tests. This file is copied into functions/runner/jobs/ of the project that is deployed.

A Lambda of the emulator is a process of this machine, so a job leaves its traces in a file that its payload names.
"""

import os
import signal
import time
from pathlib import Path

from relayq_core import Job, JobContext, dispatch, job


def note(log: str, line: str) -> None:
    """Leave a trace."""
    with Path(log).open("a") as file:
        file.write(f"{line}\n")


class Greet(Job, queue="probes"):
    """Completes at once."""

    name: str

    def handle(self, context: JobContext) -> dict[str, str]:
        """The result says who ran it."""
        return {"greeting": f"hello {self.name}", "by": os.environ["AWS_LAMBDA_FUNCTION_NAME"]}


@job(queue="probes", max_attempts=3, backoff=[1])
def falter(context: JobContext, log: str) -> int:
    """Fails twice, then completes."""
    note(log, f"attempt {context.attempt}")
    if context.attempt < 3:
        raise RuntimeError(f"attempt {context.attempt} faltered")
    return context.attempt


class Doomed(Job, queue="probes", max_attempts=2, backoff=[1]):
    """Fails for good."""

    log: str

    def handle(self, context: JobContext) -> None:
        """Fail."""
        note(self.log, f"attempt {context.attempt}")
        raise ValueError("this cannot work")

    def failed(self, error: BaseException) -> None:
        """Say so, once."""
        note(self.log, f"failed: {error}")


@job(queue="probes", max_attempts=2, backoff=[1])
def linger(context: JobContext, log: str) -> str:
    """The first attempt writes down its process and stays until it is killed."""
    note(log, str(os.getpid()))
    if context.attempt == 1:
        time.sleep(60)
    return f"attempt {context.attempt}"


@job(queue="probes", max_attempts=2, backoff=[1], timeout=2)
def dawdle(context: JobContext) -> str:
    """The first attempt takes longer than its own timeout."""
    if context.attempt == 1:
        time.sleep(60)
    return f"attempt {context.attempt}"


@job(queue="probes")
def spawn(name: str) -> str:
    """Dispatches another job; the result is its id."""
    return dispatch("Greet", {"name": name}, queue="probes").job_id


@job(queue="reports", max_attempts=2, backoff=[1])
def freeze(context: JobContext, log: str) -> str:
    """The first attempt hangs where no Python code runs any more, until Lambda's own timeout ends its process."""
    note(log, str(os.getpid()))
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return f"attempt {context.attempt}"
