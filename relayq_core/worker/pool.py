"""The worker's end of its processes: start them, give them jobs, hear from them, kill them."""

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

#: Not by -m: what is sent over the connection must not be of a module called __main__.
_CHILD = "from relayq_core.worker.child import main; main()"


#: So often at least it is looked whether a process has ended.
_LOOK_SECONDS = 0.5


class ProcessStartFailed(RelayQError):
    """The jobs cannot be imported, or a setting is wrong: nothing is claimed that could not be run."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"a worker's process cannot start: {problem}")


@dataclass(frozen=True, slots=True)
class Died:
    """A process that ended before its job had. `status` as subprocess tells it: negative for a signal."""

    status: int

    @property
    def how(self) -> str:
        """In words, as the end of a sentence about the runner of an attempt."""
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
    """One process at a time, and the job it has."""

    job: JobRecord | None

    @property
    def is_free(self) -> bool:
        """Its process is ready, and has no job."""
        ...

    def give(self, claimed: JobRecord) -> None:
        """Have a claimed job performed. Never waits, never raises: a process that is gone is heard of."""
        ...

    def keep(self, until: int) -> None:
        """End the process and all that it has started at this moment (epoch milliseconds), unless this is said again.

        Whatever holds up who says it, and whatever the process does.
        """
        ...

    def kill(self) -> None:
        """End the process and all that it has started, and wait until it is gone; another is started."""
        ...


class Slots(Protocol):
    """All of them."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Those with a job and those without."""
        ...

    def heard(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | Died]]:
        """Wait so long at most for a process to report or die; the jobs that these had.

        Raises ProcessStartFailed where a process cannot import the jobs.
        """
        ...


class ProcessSlot:
    """A slot and its process, which is started anew whenever it has ended."""

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
        """Its process has imported the jobs."""
        return self._ready

    @property
    def connection(self) -> Connection | None:
        """What it is heard on."""
        return self._connection

    def start(self) -> None:
        """Start the process; it imports the jobs, and then says so."""
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
                # a group of its own: Ctrl-C is the worker's alone, and whatever a handler starts is ended with it
                start_new_session=True,
            )
        self._guard.watch(self._process.pid)
        self._connection, self._lifeline, self._ready = ours, life, False

    def keep(self, until: int) -> None:
        if self._process is not None:
            begins = time.monotonic()  # read first: whoever is stopped in between has less time, not more
            self._guard.watch(self._process.pid, begins + (until - self._now()) / 1000)

    def give(self, claimed: JobRecord) -> None:
        self.job = claimed
        try:
            if self._connection is not None:
                self._connection.send(claimed)
        except OSError:
            """It has died: that is heard, as any death is."""

    def hear(self) -> tuple[JobRecord, Report | Died] | None:
        """What became of its job, if anything did. Raises ProcessStartFailed."""
        said: Ready | NotReady | Report | Died | None = None
        try:
            if self._connection is not None and self._connection.poll():
                said = self._connection.recv()
        except (EOFError, OSError):
            said = Died(self._end())
        if said is None and self._has_ended():
            # its end of the pipe may live on in a process that its handler has forked
            said = Died(self._end())
        match said:
            case Ready():
                self._ready = True
            case NotReady(problem):
                self._end()
                raise ProcessStartFailed(problem)
            case Died(status) if not self._ready:
                raise ProcessStartFailed(f"it ended with status {status} while it imported the jobs")
            case Died():
                self.start()
        had = self.job
        if had is None or not isinstance(said, Report | Died):
            return None
        self.job = None
        if isinstance(said, Report) and self._process is not None:
            self._guard.watch(self._process.pid)
        return had, said

    def kill(self) -> None:
        if self._process is not None:
            self._end()
            self.start()

    def close(self) -> None:
        """End the process for good."""
        if self._process is not None:
            self._end()

    def _has_ended(self) -> bool:
        """Asked without taking its exit status: until then no other process can have its number."""
        if self._process is None:
            return False
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _end(self) -> int:
        """Kill the process and all it has started, and forget it; its exit status."""
        process, self._process = self._process, None
        for end in (self._connection, self._lifeline):
            if end is not None:
                end.close()
        self._connection = self._lifeline = None
        if process is None:
            return 0
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        self._guard.let_be(process.pid)  # before its number is free
        return process.wait()


class ProcessSlots:
    """So many processes. A context manager: at its end they are gone.

    `environ` is added to the environment; `quiet`: what jobs print goes to stderr.
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
        """Raises ProcessStartFailed: nothing is to be claimed that could not be run."""
        try:
            for slot in self.slots:
                slot.start()
            while not all(slot.is_ready for slot in self.slots):
                list(self.heard(_LOOK_SECONDS))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for slot in self.slots:
            slot.close()
        self._guard.close()

    def heard(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | Died]]:
        wait([slot.connection for slot in self.slots if slot.connection is not None], min(seconds, _LOOK_SECONDS))
        for slot in self.slots:
            if (said := slot.hear()) is not None:
                yield slot, *said
