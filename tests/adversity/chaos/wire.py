"""The wire: a proxy before the emulator, through which the functions and the dispatcher make their calls.

It forwards what it gets, byte for byte, and now and then it does not: requests and answers are lost, refused, held up,
delivered twice or late. A seed decides; whose turn it is when, the machine decides.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: The invocations of runners that went wrong, and how often (of a thousand).
_INVOKE_FAULTS = {"dropped": 70, "doubled": 70, "late": 30, "refused": 20, "answer lost": 20}
_READ_FAULTS = {"throttled": 8, "broken": 4, "answer lost": 8}
_WRITE_FAULTS = {"throttled": 8, "broken": 4, "broken after": 4, "not sent": 8, "answer lost": 14}
#: A held-up dispatch would arrive when its job has long ended: a documented limit, and no fault to look for.
_UPDATE_FAULTS = _WRITE_FAULTS | {"conflict": 6, "held up": 6}
_TRANSACTION_FAULTS = _WRITE_FAULTS | {"conflict": 20}
_FAULTS = {
    "Invoke": _INVOKE_FAULTS,
    "GetItem": _READ_FAULTS,
    "Query": _READ_FAULTS,
    "PutItem": _WRITE_FAULTS,
    "UpdateItem": _UPDATE_FAULTS,
    "TransactWriteItems": _TRANSACTION_FAULTS,
}
#: Longer than the client waits for an answer (3 s).
_HELD = (3.5, 6.0)
_LATE = (3.0, 20.0)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and what can be seen of it on its way."""

    operation: str
    #: the job it is about, where it is about one
    job_id: str | None
    #: it ends the job
    ends: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What this side said."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to a request."""

    mono: float
    name: str
    call: Call


@dataclass
class Wire:
    """Where requests go, and what happens to them on their way."""

    seed: int
    #: host and port of the emulator
    target: tuple[str, int] = ("127.0.0.1", 0)
    faulty: bool = False
    #: called with a write that ends a job, before it is delivered; True if its sender was stopped by then
    on_end: Callable[[str], bool] = lambda job_id: False
    faults: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    endpoint: str = ""
    #: of the wire itself
    defects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._luck = random.Random(f"{self.seed}/wire")
        self._lock = threading.Lock()
        self._cut: dict[str, str] = {}
        self._late: set[threading.Timer] = set()

    # --- what the run asks of it ---

    @contextmanager
    def cut_off(self, job_id: str, what: str) -> Iterator[None]:
        """Until this ends, the job is cut off: its "requests" do not arrive, or their "answers" do not."""
        with self._lock:
            self._cut[job_id] = what
        try:
            yield
        finally:
            with self._lock:
                del self._cut[job_id]

    @property
    def under_way(self) -> int:
        """Invocations that are late, and still to come."""
        with self._lock:
            return len(self._late)

    def counted(self) -> Counter[tuple[str, str]]:
        """How often which fault met which operation."""
        return Counter((fault.call.operation, fault.name) for fault in self.faults)

    # --- one request ---

    def carry(self, request: Request) -> Answer | None:
        """The answer, or None where the connection breaks."""
        call = described(request)
        self.calls[call.operation] += 1
        name = self._fault(call)
        if name is not None:
            self.faults.append(Fault(time.monotonic(), name, call))
        match name:
            case None:
                return self.deliver(request)
            case "dropped":
                return _accepted()
            case "doubled":
                self._deliver_late(request, self._drawn((0.0, 2.0)))
                return self.deliver(request)
            case "late":
                self._deliver_late(request, self._drawn(_LATE))
                return _accepted()
            case "held up":
                time.sleep(self._drawn(_HELD))
                self.deliver(request)
                return None
            case "refused":
                return _error(429, "TooManyRequestsException")
            case "throttled":
                return _error(400, "ThrottlingException")
            case "conflict":
                return _conflict(request, call)
            case "broken":
                return _error(500, "InternalServerError")
            case "broken after":
                self.deliver(request)
                return _error(500, "InternalServerError")
            case "not sent" | "requests cut" | "stopped before its end was written":
                return None
            case "answer lost" | "answers cut" | "stopped after its end was written":
                self.deliver(request)
                return None
        raise AssertionError(name)

    def _fault(self, call: Call) -> str | None:
        with self._lock:
            cut = self._cut.get(call.job_id or "") if call.operation != "Invoke" else None
            faulty, number, coin = self.faulty, self._luck.uniform(0, 1000), self._luck.random()
        if cut is not None:
            return f"{cut} cut"
        if not faulty:
            return None
        if call.ends and call.job_id and coin < 0.15 and self.on_end(call.job_id):
            return f"stopped {'before' if coin < 0.11 else 'after'} its end was written"
        for name, often in _FAULTS.get(call.operation, {}).items():
            number -= often
            if number < 0:
                return name
        return None

    def _drawn(self, limits: tuple[float, float]) -> float:
        with self._lock:
            return self._luck.uniform(*limits)

    def _deliver_late(self, request: Request, seconds: float) -> None:
        def deliver() -> None:
            try:
                self.deliver(request)
            finally:
                with self._lock:
                    self._late.discard(timer)

        timer = threading.Timer(seconds, deliver)
        timer.daemon = True
        with self._lock:
            self._late.add(timer)
        timer.start()

    def deliver(self, request: Request) -> Answer | None:
        """Forward a request; None if the emulator did not answer."""
        connection = http.client.HTTPConnection(*self.target, timeout=300)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(request.body)
            with connection.getresponse() as response:
                return Answer(response.status, response.getheaders(), response.read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


# --- requests ---


def described(request: Request) -> Call:
    """What a request asks for."""
    headers = {name.lower(): value for name, value in request.headers}
    if request.path.endswith("/invocations"):
        return Call("Invoke", _json(request.body).get("job_id"), ends=False)
    operation = headers.get("x-amz-target", "").rpartition(".")[2] or "other"
    body = _json(request.body)
    if operation == "TransactWriteItems":
        # in the order in which RelayQ writes them: the job's row is the first
        action, of_job = next(iter(body["TransactItems"][0].items()))
        return Call(operation, _job_of(of_job), ends=action == "Delete" or _ends(of_job))
    return Call(operation, _job_of(body), ends=operation == "UpdateItem" and _ends(body))


def _job_of(action: Mapping[str, Any]) -> str | None:
    named = (action.get("Key") or action.get("Item") or {}).get("pk", {}).get("S", "")
    return named.removeprefix("job#") if named.startswith("job#") else None


def _ends(action: Mapping[str, Any]) -> bool:
    return {"S": "completed"} in action.get("ExpressionAttributeValues", {}).values()


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- answers that the other side never gave ---


def _accepted() -> Answer:
    return Answer(202, [], b"")


def _error(status: int, code: str, **more: Any) -> Answer:
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "by the chaos run", **more}
    headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-errortype", code)]
    return Answer(status, headers, json.dumps(body).encode())


def _conflict(request: Request, call: Call) -> Answer:
    if call.operation != "TransactWriteItems":
        return _error(400, "TransactionConflictException")
    others = [{"Code": "None"}] * (len(_json(request.body)["TransactItems"]) - 1)
    reasons = [*others, {"Code": "TransactionConflict", "Message": "by the chaos run"}]
    return _error(400, "TransactionCanceledException", CancellationReasons=reasons)


# --- the server ---


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # all of them are waited for when the wire is taken down
    request_queue_size = 256

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed process does not close its connections politely. Anything else is a defect of the wire."""
        if not isinstance(sys.exception(), OSError):
            self.wire.defects.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def _carry(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(self.command, self.path, list(self.headers.items()), self.rfile.read(length))
        answer = self.server.wire.carry(request)
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _carry

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def wire(seed: int) -> Iterator[Wire]:
    """A wire on a free port of the loopback interface. Its target is set once there is one."""
    made = Wire(seed)
    server = _Server(made)
    host, port = server.server_address[:2]
    made.endpoint = f"http://{host!s}:{port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="wire")
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        for connection in list(server.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # gone already
        server.server_close()


def address(endpoint: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(endpoint)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
