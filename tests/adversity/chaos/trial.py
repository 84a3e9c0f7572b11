"""Jobs for the chaos runs. This file is copied into functions/runner/jobs/ of the project that is deployed.

A Lambda of the emulator is a process of this machine. Each start of a handler leaves lines in one append-only file,
and each line is on the disk before the handler goes on: what a killed process did is known all the same.
"""

import asyncio
import json
import os
import secrets
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from relayq_core import Bury, Job, JobContext, JobTimeout, RetryAfter, Snooze, dispatch

#: A handler that stays says so this often (seconds): its last line shows when it was last seen alive.
BEAT = 0.25
#: What RetryAfter and Snooze ask for (seconds).
LATER = 1.5
SNOOZE = 2.0


def note(log: str, kind: str, number: str, **said: Any) -> None:
    """One line, written at once and synced."""
    line = {"kind": kind, "number": number, "pid": os.getpid(), **said}
    line |= {"mono": time.monotonic(), "wall": time.time_ns() // 1_000_000}
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # a line begins with an end of line too: one that a kill tore is then a line of its own, and spoils no other
        os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


@dataclass
class Start:
    """One start of a handler, and what it leaves in the log."""

    log: str
    number: str
    job_id: str
    attempt: int
    nonce: str = field(default_factory=lambda: secrets.token_hex(6))

    def say(self, kind: str, **said: Any) -> None:
        """Leave a line."""
        note(self.log, kind, self.number, job=self.job_id, attempt=self.attempt, nonce=self.nonce, **said)

    def stay(self, seconds: float) -> None:
        """Take this long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(BEAT, left))
            self.say("alive")

    async def stay_async(self, seconds: float) -> None:
        """Take this long, and let others run until then."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(BEAT, left))
            self.say("alive")

    def stay_for_ever(self) -> NoReturn:
        """Run until something ends it."""
        while True:
            self.stay(60)

    def ignore_the_timeout(self) -> NoReturn:
        """Go on after JobTimeout, until the process is ended."""
        try:
            self.stay_for_ever()
        except JobTimeout:
            self.say("dies", how="ignored its timeout")
            self.stay_for_ever()

    def die(self, how: str) -> NoReturn:
        """End the process, or stop it for good, where no Python code runs any more."""
        self.say("dies", how=how)
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        self.stay_for_ever()


class _Trial(Job, abstract=True):
    """What each attempt does is said by the payload."""

    log: str
    #: of the dispatch, and different for each job
    number: str
    #: one for each attempt; the last holds for all that follow
    steps: list[str]
    #: how long an attempt takes before its step (seconds)
    hold: float
    snoozes: int = 0

    def begin(self, context: JobContext) -> Start:
        """The first line of an attempt."""
        start = Start(self.log, self.number, context.job_id, context.attempt)
        start.say("start", group=os.getpgrp(), queue=context.queue)
        return start

    def act(self, start: Start) -> dict[str, Any]:
        """What the payload says of this attempt."""
        for number in range(self.snoozes):
            mark = Path(f"{self.log}.snoozed-{start.job_id}-{number}")
            if not mark.exists():
                mark.touch()
                raise Snooze(SNOOZE)
        match self.steps[min(start.attempt, len(self.steps)) - 1]:
            case "raise":
                raise RuntimeError(f"attempt {start.attempt} was to fail")
            case "later":
                raise RetryAfter(LATER)
            case "bury":
                raise Bury("it was to be buried")
            case "overrun":
                start.stay_for_ever()
            case "ignore":
                start.ignore_the_timeout()
            case "kill" | "exit" | "freeze" as how:
                start.die(how)
            case "child":
                self._dispatch_a_child(start)
        return {"nonce": start.nonce, "attempt": start.attempt}

    def _dispatch_a_child(self, start: Start) -> None:
        """With an id of its own, so that a second attempt dispatches the same child."""
        payload = {"log": self.log, "number": f"{self.number}-child", "steps": ["return"], "hold": 0.1}
        child = dispatch("Trial", payload, job_id=f"{start.job_id}-child", queue="children", max_attempts=20)
        start.say("accepted", child=child.job_id)

    def failed(self, error: BaseException) -> None:
        """Leave a line."""
        note(self.log, "failed", self.number, error=f"{type(error).__name__}: {error}")


class Trial(_Trial, queue="trials", max_attempts=3, backoff=[1], timeout=4):
    """Does what its payload says."""

    def handle(self, context: JobContext) -> dict[str, Any]:
        """Leave a line, take a while, and act."""
        start = self.begin(context)
        try:
            start.stay(self.hold)
            result = self.act(start)
        except BaseException as error:
            start.say("end", how=type(error).__name__)
            raise
        start.say("end", how="return")
        return result


class AsyncTrial(_Trial, queue="trials", max_attempts=3, backoff=[1], timeout=4):
    """The same, written async."""

    async def handle(self, context: JobContext) -> dict[str, Any]:
        """Leave a line, take a while, and act."""
        start = self.begin(context)
        try:
            await start.stay_async(self.hold)
            result = self.act(start)
        except BaseException as error:
            start.say("end", how=type(error).__name__)
            raise
        start.say("end", how="return")
        return result
