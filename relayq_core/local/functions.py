"""Lambda, played: functions with a pool of worker processes each, and their queue of events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relayq_core.errors import RelayQError
from relayq_core.local.private import opened
from relayq_core.local.workers import WarmParent, Worker


@dataclass(frozen=True, kw_only=True)
class Function:
    """A Lambda function. `timeout` in seconds; at most `concurrency` events run at once, the others wait."""

    name: str
    handler: str
    environ: Mapping[str, str] = field(default_factory=dict)
    #: folders its modules are imported from
    path: list[Path] = field(default_factory=list)
    timeout: float = 60
    concurrency: int = 8
    #: what its workers print, and what became of their processes
    log: Path


class Functions:
    """The functions, by name. Like Lambda: an event runs at least once or is lost, and nothing is tried again."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    def begin(self, functions: Iterable[Function]) -> None:
        """Start them all at once; events may be queued from now on."""
        self._pools |= {function.name: _Pool(function) for function in functions}

    def wait(self) -> None:
        """Return when every function can run events. Raises WorkerStartFailed."""
        for pool in self._pools.values():
            pool.wait()

    def replace(self, function: Function) -> None:
        """Start a function anew, with its code as it now is. Raises WorkerStartFailed; then the former one stays."""
        pool = _Pool(function)
        try:
            pool.wait()
        except RelayQError:
            pool.close()
            raise
        former, self._pools[function.name] = self._pools.get(function.name), pool
        if former is not None:
            former.retire()

    def invoke(self, name: str, event: bytes) -> bool:
        """Queue an event; False if there is no such function."""
        pool = self._pools.get(name)
        if pool is None:
            return False
        pool.submit(event)
        return True

    def kill(self, name: str, **event: Any) -> int | None:
        """SIGKILL the worker that runs an event with these members; its process id, or None if there is none."""
        return self._pools[name].kill(event)

    def close(self) -> None:
        """End everything, at once and without mercy."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


class _Pool:
    """One function's workers: made when they are needed, used again when they are free."""

    def __init__(self, function: Function) -> None:
        self._function = function
        environ = {**function.environ, "AWS_LAMBDA_FUNCTION_NAME": function.name}
        self._parent = WarmParent(function.handler, environ, function.path, function.log)
        self._threads = ThreadPoolExecutor(function.concurrency, thread_name_prefix=function.name)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: dict[Worker, bytes] = {}
        self._closed = False

    def wait(self) -> None:
        self._parent.wait()

    def submit(self, event: bytes) -> None:
        with self._lock:
            if not self._closed:
                self._threads.submit(self._run, event)

    def kill(self, event: Mapping[str, Any]) -> int | None:
        with self._lock:
            for worker, running in self._busy.items():
                if event.items() <= json.loads(running).items():
                    worker.kill()
                    return worker.pid
        return None

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._parent.close()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._idle:
            worker.close()

    def retire(self) -> None:
        """End when what was given has been run; nobody waits for it."""

        def run_out() -> None:
            self._threads.shutdown()
            self.close()

        threading.Thread(target=run_out, name="retiring", daemon=True).start()

    def _run(self, event: bytes) -> None:
        try:
            worker = self._taken(event)
        except RelayQError as error:
            self._log(f"{error}; the event is lost", event)
            return
        alive = False
        try:
            said = worker.run(event, self._function.timeout)
            alive = True
            if "error" in said:
                self._log(f"the handler raised: {said['error']}", event)
        except RelayQError as error:
            self._log(f"{error}; the event is lost", event)
        finally:
            self._returned(worker, alive=alive)

    def _log(self, message: str, event: bytes) -> None:
        """A line of the platform's own among the function's, as in Lambda's log group; which job it was, if any."""
        if self._closed:
            return
        given = json.loads(event)
        job = {"job_id": given["job_id"]} if isinstance(given, dict) and "job_id" in given else {}
        line = {"type": "platform", "level": "WARNING", "message": message, **job}
        with opened(self._function.log, "a") as file:
            file.write(json.dumps(line) + "\n")

    def _taken(self, event: bytes) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or self._parent.fork()
        with self._lock:
            self._busy[worker] = event
        return worker

    def _returned(self, worker: Worker, *, alive: bool) -> None:
        with self._lock:
            del self._busy[worker]
            if alive:
                self._idle.append(worker)
        if not alive:
            worker.close()
