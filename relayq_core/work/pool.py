"""The worker's end of its processes: start them, give them jobs, hear from them, kill them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Protocol

from relayq_core.errors import RelayQError
from relayq_core.record import JobRecord
from relayq_core.work.child import NotReady, Ready, Report

#: Not by -m: what is sent over the connection must not be of a module called __main__.
_CHILD = "from relayq_core.work.child import main; main()"


class ProcessStartFailed(RelayQError):
    """The jobs cannot be imported, or a setting is wrong: nothing is claimed that could not be run."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"a worker's process cannot start: {problem}")


@dataclass(frozen=True, slots=True)
class Died:
    """A process that ended before its job had."""

    status: int


class Slot(Protocol):
    """One process at a time, and the job it has."""

    job: JobRecord | None

    def give(self, claimed: JobRecord) -> None:
        """Have a claimed job performed. Raises ProcessStartFailed."""
        ...

    def kill(self) -> None:
        """End the process, and wait until it is gone; its job is no longer worked on."""
        ...


class Slots(Protocol):
    """All of them."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Those with a job and those without."""
        ...

    def heard(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | Died]]:
        """Wait so long at most for a process to report or die; the jobs that these had, whose slots are free now."""
        ...


class ProcessSlot:
    """A slot whose process is started when it is needed, and again after it has died."""

    def __init__(self, environ: Mapping[str, str], *, quiet: bool) -> None:
        self.job: JobRecord | None = None
        self._environ = environ
        self._quiet = quiet
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lifeline: Connection | None = None
        self._ready = False

    @property
    def connection(self) -> Connection | None:
        """What it is heard on."""
        return self._connection

    def start(self) -> None:
        """Start the process if there is none; it imports the jobs meanwhile."""
        if self._process is not None:
            return
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
            )
        self._connection, self._lifeline, self._ready = ours, life, False

    def wait_until_ready(self) -> None:
        """Return once the jobs are imported. Raises ProcessStartFailed."""
        self.start()
        if self._ready:
            return
        assert self._connection is not None
        try:
            said = self._connection.recv()
        except EOFError:
            said = NotReady(f"it ended with status {self._gone()}")
        if not isinstance(said, Ready):
            self._gone()
            raise ProcessStartFailed(said.problem)
        self._ready = True

    def give(self, claimed: JobRecord) -> None:
        self.wait_until_ready()
        assert self._connection is not None
        self.job = claimed
        try:
            self._connection.send(claimed)
        except OSError:
            """It has died: that is heard, as any death is."""

    def hear(self) -> tuple[JobRecord, Report | Died] | None:
        """What it said: the job it had, and how that ended; None if it died having none."""
        assert self._connection is not None
        try:
            said: Report | Died = self._connection.recv()
        except (EOFError, OSError):
            said = Died(self._gone())
        had, self.job = self.job, None
        return None if had is None else (had, said)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._gone()

    def _gone(self) -> int:
        """Forget a process that has ended or is about to; its exit status."""
        process, self._process = self._process, None
        for end in (self._connection, self._lifeline):
            if end is not None:
                end.close()
        self._connection = self._lifeline = None
        return 0 if process is None else process.wait()


class ProcessSlots:
    """So many processes. A context manager: at its end they are gone.

    `environ` is added to the environment; `quiet`: what jobs print goes to stderr.
    """

    def __init__(self, count: int, environ: Mapping[str, str], *, quiet: bool = False) -> None:
        self.slots: Sequence[ProcessSlot] = [ProcessSlot(environ, quiet=quiet) for _ in range(count)]

    def __enter__(self) -> ProcessSlots:
        try:
            for slot in self.slots:
                slot.start()
            for slot in self.slots:
                slot.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for slot in self.slots:
            slot.kill()

    def heard(self, seconds: float) -> Iterable[tuple[Slot, JobRecord, Report | Died]]:
        by_connection = {slot.connection: slot for slot in self.slots if slot.connection is not None}
        for connection in wait([*by_connection], seconds):
            slot = by_connection[connection]  # type: ignore[index]
            if (said := slot.hear()) is not None:
                yield slot, *said
