"""A local HTTP server in the place of AWS: it answers at once, and counts what it is asked and over how many wires."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request: "PutItem" or "Invoke", and its body."""

    operation: str
    body: dict[str, Any]


Answer = Callable[[Request], tuple[int, bytes]]


def at_once(request: Request) -> tuple[int, bytes]:
    """What DynamoDB answers to a write that succeeded, and Lambda to an event it has taken."""
    return (202, b"a body that has to be read") if request.operation == "Invoke" else (200, b"{}")


@dataclass
class Stub:
    """What came in so far. `answer` may be replaced."""

    url: str
    answer: Answer = at_once
    requests: list[Request] = field(default_factory=list)
    #: accepted TCP connections
    connections: int = 0

    def operations(self) -> list[str]:
        """Return the names of the operations that were asked, in order; and begin an empty list."""
        told, self.requests = [request.operation for request in self.requests], []
        return told


@contextmanager
def aws_stub() -> Iterator[Stub]:
    """The server, as long as the block lasts. HTTP/1.1: connections are kept as long as the client keeps them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            request = Request(target or "Invoke", body)
            stub.requests.append(request)
            status, answer = stub.answer(request)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def get_request(self) -> tuple[socket.socket, Any]:
            stub.connections += 1
            return super().get_request()

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
