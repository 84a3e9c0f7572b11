"""Emulate Lambda: functions, each with a pool of worker processes and a queue of events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relayq_core.errors import RelayQError
from relayq_core.local.private import open_private
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
    #: for what its workers print, and how their processes ended
    log: Path


class Functions:
    """The functions, by name. As with Lambda, an event may run more than once or be lost; none is retried."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    def begin(self, functions: Iterable[Function]) -> None:
        """Start all of these at once; events can be queued from now on."""
        self._pools |= {function.name: _Pool(function) for function in functions}

    def wait(self) -> None:
        """Wait until every function can run events. Raises WorkerStartFailed."""
        for pool in self._pools.values():
            pool.wait()

    def replace(self, function: Function) -> None:
        """Restart a function with its current code. Raises WorkerStartFailed; then the old one stays."""
        pool = _Pool(function)
        try:
            pool.wait()
        except RelayQError:
            pool.close()
            raise
        old, self._pools[function.name] = self._pools.get(function.name), pool
        if old is not None:
            old.retire()

    def invoke(self, name: str, event: bytes) -> bool:
        """Queue an event; False if there is no such function."""
        pool = self._pools.get(name)
        if pool is None:
            return False
        pool.submit(event)
        return True

    def kill(self, name: str, **event: Any) -> int | None:
        """Kill the worker that runs an event with these members; return its process id, or None if there is none."""
        return self._pools[name].kill(event)

    def close(self) -> None:
        """Kill all workers at once."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


class _Pool:
    """One function's workers: started when they are needed, reused when they are free."""

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
        """Close in the background, once the queued events have run."""

        def run_out() -> None:
            self._threads.shutdown()
            self.close()

        threading.Thread(target=run_out, name="retiring", daemon=True).start()

    def _run(self, event: bytes) -> None:
        try:
            worker = self._take_worker(event)
        except RelayQError as error:
            self._log(f"{error}; the event is lost", event)
            return
        alive = False
        try:
            answer = worker.run(event, self._function.timeout)
            alive = True
            if "error" in answer:
                self._log(f"the handler raised: {answer['error']}", event)
        except RelayQError as error:
            self._log(f"{error}; the event is lost", event)
        finally:
            self._put_back(worker, alive=alive)

    def _log(self, message: str, event: bytes) -> None:
        """Write a line of the platform into the function's log, as Lambda does, with the id of the job, if any."""
        if self._closed:
            return
        payload = json.loads(event)
        job = {"job_id": payload["job_id"]} if isinstance(payload, dict) and "job_id" in payload else {}
        line = {"type": "platform", "level": "WARNING", "message": message, **job}
        with open_private(self._function.log, "a") as file:
            file.write(json.dumps(line) + "\n")

    def _take_worker(self, event: bytes) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or self._parent.fork()
        with self._lock:
            self._busy[worker] = event
        return worker

    def _put_back(self, worker: Worker, *, alive: bool) -> None:
        with self._lock:
            del self._busy[worker]
            if alive:
                self._idle.append(worker)
        if not alive:
            worker.close()
