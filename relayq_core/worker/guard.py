"""Guard: a small process that ends the worker's processes once the leases of their jobs are no longer renewed.

The worker sends the guard the time until which each process may run. The guard then depends on neither: the worker
may be stopped or blocked, and C code may hold Python's lock in the process. When the worker ends, the guard ends them
all.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

#: Not by -m, and with the least that Python can start with: it lives as long as the worker.
_GUARD = "from relayq_core.worker.guard import main; main()"
_READ_BYTES = 65_536


class Guard:
    """The worker's end of the guard. A guard that has ended, or does not read, is replaced by another."""

    def __init__(self) -> None:
        self._watched: dict[int, float] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int, until: float = math.inf) -> None:
        """Have this process group killed at this moment of the monotonic clock, in place of any earlier one."""
        self._watched[group] = until
        self._send(f"{group} {until}\n")

    def forget(self, group: int) -> None:
        """Stop watching a group that has ended: its number may become another's."""
        if self._watched.pop(group, None) is not None:
            self._send(f"{group} nan\n")

    def close(self) -> None:
        """End the guard, and with it what it still watches, unless it was killed."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            process.wait()

    def _send(self, line: str) -> None:
        try:
            self._write(line)
        except OSError:
            if self._process is not None:
                self._process.kill()
            self.close()
            self._write("".join(f"{group} {until}\n" for group, until in self._watched.items()))

    def _write(self, lines: str) -> None:
        if self._process is None:
            self._process = self._start_process()
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), lines.encode())

    def _start_process(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _GUARD],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is the worker's alone
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process


def main() -> None:
    """Read times from stdin, and kill each group at its time; at the end of stdin kill all."""
    watched: dict[int, float] = {}
    rest = b""
    while True:
        soonest = min(watched.values(), default=math.inf)
        wait = None if math.isinf(soonest) else max(0.0, soonest - time.monotonic())
        if select.select([0], [], [], wait)[0]:
            read = os.read(0, _READ_BYTES)
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                number, until = line.split()
                watched[int(number)] = float(until)
        watched = {group: ends for group, ends in watched.items() if not math.isnan(ends)}
        for group in [group for group, ends in watched.items() if ends <= time.monotonic()]:
            _kill(group)
            del watched[group]
    for group in watched:
        _kill(group)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
