"""The other end of worker.py: start a warm parent, get workers from it, give them events, kill them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import relayq_core
from relayq_core.errors import RelayQError
from relayq_core.local.environ import isolated
from relayq_core.local.private import opened

_START_SECONDS = 60


class WorkerStartFailed(RelayQError):
    """A handler could not be imported: a job module that fails, or a setting that is wrong."""

    def __init__(self, handler: str, problem: str) -> None:
        super().__init__(f"{handler} cannot start: {problem}")


class WorkerDied(RelayQError):
    """A worker ended before it had answered; its event is lost, as it would be on Lambda."""

    def __init__(self, pid: int, why: str) -> None:
        super().__init__(f"worker {pid} {why}")


class WarmParent:
    """A process that has imported a handler, and forks workers."""

    def __init__(self, handler: str, environ: Mapping[str, str], path: list[Path], log: Path) -> None:
        self._handler = handler
        self._ready = False
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_START_SECONDS)
        with theirs, opened(log, "ab") as output:
            self._process = subprocess.Popen(
                # -P: no module of the current folder may stand in for one of ours
                [sys.executable, "-P", "-u", "-m", "relayq_core.local.worker", str(theirs.fileno()), handler],
                env={**isolated(environ, os.environ), "PYTHONPATH": _python_path(path)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for whoever started this, and the group is killed as one
            )
        self._lines = self._control.makefile("rb")

    def wait(self) -> None:
        """Return once the handler is imported. Raises WorkerStartFailed."""
        with self._lock:
            self._wait()

    def _wait(self) -> None:
        if self._ready:
            return
        said = self._hear()
        if "ready" not in said:
            raise WorkerStartFailed(self._handler, said.get("failed", "its process ended without a word"))
        self._ready = True

    def fork(self) -> Worker:
        """A new worker. Raises WorkerStartFailed."""
        with self._lock:
            self._wait()
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(self._control, [b"f"], [theirs.fileno()])
                return Worker(self._hear()["pid"], ours)
            except (OSError, KeyError) as error:
                ours.close()
                raise WorkerStartFailed(self._handler, "its warm parent has ended") from error

    def close(self) -> None:
        """Kill the parent and all its workers."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._lines.close()
        self._control.close()

    def _hear(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise WorkerStartFailed(self._handler, f"no answer within {_START_SECONDS} s") from None
        said: dict[str, Any] = json.loads(line) if line else {}
        return said


class Worker:
    """A process that runs one event at a time."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._lines = channel.makefile("rb")

    def run(self, event: bytes, timeout: float) -> dict[str, Any]:
        """The handler's answer, `{"answer": ...}` or `{"error": text}`. Raises WorkerDied; it is of no use then.

        A worker that takes longer than `timeout` seconds is killed.
        """
        asked = {
            "event": event.decode(),
            "request_id": str(uuid.uuid4()),
            "deadline": time.time() + timeout,
        }
        try:
            self._channel.settimeout(timeout)
            self._channel.sendall(json.dumps(asked).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            self.kill()
            raise WorkerDied(self.pid, f"was killed: its event took longer than {timeout:g} s") from None
        except OSError:
            line = b""
        if not line:
            raise WorkerDied(self.pid, "ended in the middle of its event")
        said: dict[str, Any] = json.loads(line)
        return said

    def kill(self) -> None:
        """SIGKILL. Its pid is no other process's: the warm parent never waits for it."""
        with suppress(ProcessLookupError):  # only once the warm parent is gone
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let it end: it sees that nobody will ask it anything more."""
        self._lines.close()
        self._channel.close()


def _python_path(path: list[Path]) -> str:
    """`path`, then what the user set, and the folder that holds relayq_core, which need not be installed."""
    home = Path(relayq_core.__file__).resolve().parents[1]
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.pathsep.join([*map(str, path), *given, str(home)])
