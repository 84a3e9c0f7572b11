"""The other end of worker.py: start a warm parent, fork workers from it, send them events, kill them."""

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
from relayq_core.local.environ import isolate
from relayq_core.local.private import open_private

_START_SECONDS = 60


class WorkerStartFailed(RelayQError):
    """A handler could not be imported, because a job module fails or a setting is wrong."""

    def __init__(self, handler: str, problem: str) -> None:
        super().__init__(f"{handler} cannot start: {problem}")


class WorkerDied(RelayQError):
    """A worker ended before it answered; its event is lost, as on Lambda."""

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
        with theirs, open_private(log, "ab") as output:
            self._process = subprocess.Popen(
                # -P: a module in the current folder must not replace one of ours
                [sys.executable, "-P", "-u", "-m", "relayq_core.local.worker", str(theirs.fileno()), handler],
                env={**isolate(environ, os.environ), "PYTHONPATH": _build_python_path(path)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to the process that started this; the group is killed as one
            )
        self._lines = self._control.makefile("rb")

    def wait(self) -> None:
        """Wait until the handler is imported. Raises WorkerStartFailed."""
        with self._lock:
            self._wait()

    def _wait(self) -> None:
        if self._ready:
            return
        message = self._receive()
        if "ready" not in message:
            raise WorkerStartFailed(self._handler, message.get("failed", "its process ended without a message"))
        self._ready = True

    def fork(self) -> Worker:
        """Return a new worker. Raises WorkerStartFailed."""
        with self._lock:
            self._wait()
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(self._control, [b"f"], [theirs.fileno()])
                return Worker(self._receive()["pid"], ours)
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

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise WorkerStartFailed(self._handler, f"no answer within {_START_SECONDS} s") from None
        message: dict[str, Any] = json.loads(line) if line else {}
        return message


class Worker:
    """A process that runs one event at a time."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._lines = channel.makefile("rb")

    def run(self, event: bytes, timeout: float) -> dict[str, Any]:
        """Run the handler and return `{"answer": ...}` or `{"error": text}`.

        A worker that takes longer than `timeout` seconds is killed. Raises WorkerDied; the worker cannot be used then.
        """
        request = {
            "event": event.decode(),
            "request_id": str(uuid.uuid4()),
            "deadline": time.time() + timeout,
        }
        try:
            self._channel.settimeout(timeout)
            self._channel.sendall(json.dumps(request).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            self.kill()
            raise WorkerDied(self.pid, f"was killed: its event took longer than {timeout:g} s") from None
        except OSError:
            line = b""
        if not line:
            raise WorkerDied(self.pid, "ended in the middle of its event")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """Kill the process. Its pid cannot be another's: the warm parent never waits for it."""
        with suppress(ProcessLookupError):  # only once the warm parent is gone
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the channel, which lets the worker end."""
        self._lines.close()
        self._channel.close()


def _build_python_path(path: list[Path]) -> str:
    """Return PYTHONPATH: `path`, the user's own, and the folder of relayq_core, which may not be installed."""
    home = Path(relayq_core.__file__).resolve().parents[1]
    own = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.pathsep.join([*map(str, path), *own, str(home)])
