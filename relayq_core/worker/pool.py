"""The worker's end of its processes: start them, assign jobs to them, collect their reports, kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Protocol

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.errors import RelayQError
from relayq_core.model.record import JobRecord
from relayq_core.ports import Clock
from relayq_core.process.deadline import STUBBORN_EXIT
from relayq_core.process.fuse import has_overrun
from relayq_core.worker.child import NotReady, Ready, Report
from relayq_core.worker.guard import Guard

#: Not by -m: the classes of what is sent over the connection must not belong to a module called __main__.
_CHILD = "from relayq_core.worker.child import main; main()"

#: Check for processes that have ended at least this often.
_LOOK_SECONDS = 0.5


class ProcessStartFailed(RelayQError):
    """The jobs cannot be imported, or a setting is wrong. Nothing has been claimed."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"a worker's process cannot start: {problem}")


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """A process that ended before its job did. `status` is as in subprocess: negative for a signal."""

    status: int

    def describe(self) -> str:
        """Say how it ended, as the end of a sentence about the runner of an attempt."""
        if self.status == STUBBORN_EXIT or has_overrun(self.status):
            return "was ended: its handler overran its time and did not stop"
        if self.status >= 0:
            return f"ended without settling (its process ended with status {self.status})"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:
            name = f"signal {-self.status}"
        return f"ended without settling (its process was ended by {name})"


class Slot(Protocol):
    """One process at a time, and the job that it runs."""

    job: JobRecord | None

    @property
    def is_free(self) -> bool:
        """Whether its process is ready and has no job."""
        ...

    def assign(self, claimed: JobRecord) -> None:
        """Have the process run a claimed job. Never waits or raises: `collect` reports a process that is gone."""
        ...

    def allow_until(self, until: int) -> None:
        """End the process and all that it has started at this moment (epoch milliseconds), unless called again before.

        That holds whatever delays the worker and whatever the process does.
        """
        ...

    def kill(self) -> None:
        """End the process and all that it has started, wait until it is gone, and start another."""
        ...


class Slots(Protocol):
    """All slots of a worker."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The slots, with a job and without."""
        ...

    def collect(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | ProcessExit]]:
        """Wait at most this long for a process to report or to exit; yield each such slot with the job that it had.

        Raises ProcessStartFailed if a process cannot import the jobs.
        """
        ...


class ProcessSlot:
    """A slot and its process, which is started again whenever it has ended."""

    def __init__(self, environ: Mapping[str, str], guard: Guard, now: Callable[[], int], *, quiet: bool) -> None:
        self.job: JobRecord | None = None
        self._guard = guard
        self._now = now
        self._environ = environ
        self._quiet = quiet
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lifeline: Connection | None = None
        self._ready = False

    @property
    def is_free(self) -> bool:
        return self._ready and self.job is None

    @property
    def is_ready(self) -> bool:
        """Whether its process has imported the jobs."""
        return self._ready

    @property
    def connection(self) -> Connection | None:
        """The connection that reports arrive on."""
        return self._connection

    def start(self) -> None:
        """Start the process; it imports the jobs and then reports that it is ready."""
        ours, theirs = Pipe()
        life, lifeline = Pipe()
        with theirs, lifeline:
            numbers = [theirs.fileno(), lifeline.fileno()]
            self._process = subprocess.Popen(
                # -P: no module of the current folder may stand in for one of ours
                [sys.executable, "-P", "-u", "-c", _CHILD, *map(str, numbers)],
                env={**os.environ, **self._environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if self._quiet else None,
                # a group of its own: Ctrl-C reaches the worker alone, and all that a handler starts is ended with it
                start_new_session=True,
            )
        self._guard.watch(self._process.pid)
        self._connection, self._lifeline, self._ready = ours, life, False

    def allow_until(self, until: int) -> None:
        if self._process is not None:
            began = time.monotonic()  # read first: a worker that is stopped in between allows less time, not more
            self._guard.watch(self._process.pid, began + (until - self._now()) / 1000)

    def assign(self, claimed: JobRecord) -> None:
        self.job = claimed
        try:
            if self._connection is not None:
                self._connection.send(claimed)
        except OSError:
            """The process has ended: `read_report` finds that, as always."""

    def read_report(self) -> tuple[JobRecord, Report | ProcessExit] | None:
        """Return the job and how it ended, if it has. Raises ProcessStartFailed."""
        message: Ready | NotReady | Report | ProcessExit | None = None
        try:
            if self._connection is not None and self._connection.poll():
                message = self._connection.recv()
        except (EOFError, OSError):
            message = ProcessExit(self._end())
        if message is None and self._has_ended():
            # its end of the pipe may live on in a process that its handler has forked
            message = ProcessExit(self._end())
        match message:
            case Ready():
                self._ready = True
            case NotReady(problem):
                self._end()
                raise ProcessStartFailed(problem)
            case ProcessExit(status) if not self._ready:
                raise ProcessStartFailed(f"it ended with status {status} while it imported the jobs")
            case ProcessExit():
                self.start()
        job = self.job
        if job is None or not isinstance(message, Report | ProcessExit):
            return None
        self.job = None
        if isinstance(message, Report) and self._process is not None:
            self._guard.watch(self._process.pid)
        return job, message

    def kill(self) -> None:
        if self._process is not None:
            self._end()
            self.start()

    def close(self) -> None:
        """End the process for good."""
        if self._process is not None:
            self._end()

    def _has_ended(self) -> bool:
        """Check without taking its exit status: until that is taken no other process can get its number."""
        if self._process is None:
            return False
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _end(self) -> int:
        """Kill the process and all that it has started, forget it, and return its exit status."""
        process, self._process = self._process, None
        for end in (self._connection, self._lifeline):
            if end is not None:
                end.close()
        self._connection = self._lifeline = None
        if process is None:
            return 0
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        self._guard.forget(process.pid)  # before its number is free
        return process.wait()


class ProcessSlots:
    """`count` processes. A context manager: at its end they are gone.

    `environ` is added to the environment; with `quiet`, what jobs print goes to stderr.
    """

    def __init__(
        self,
        count: int,
        environ: Mapping[str, str],
        *,
        quiet: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._guard = Guard()
        now = (clock or SystemClock()).now
        self.slots: Sequence[ProcessSlot] = [ProcessSlot(environ, self._guard, now, quiet=quiet) for _ in range(count)]

    def __enter__(self) -> ProcessSlots:
        """Wait until all processes are ready. Raises ProcessStartFailed: nothing is claimed that could not be run."""
        try:
            for slot in self.slots:
                slot.start()
            while not all(slot.is_ready for slot in self.slots):
                list(self.collect(_LOOK_SECONDS))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for slot in self.slots:
            slot.close()
        self._guard.close()

    def collect(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | ProcessExit]]:
        wait([slot.connection for slot in self.slots if slot.connection is not None], min(seconds, _LOOK_SECONDS))
        for slot in self.slots:
            if (report := slot.read_report()) is not None:
                yield slot, *report
