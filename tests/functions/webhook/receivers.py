"""Receivers of webhooks on real sockets, a DNS that a test fills, and the context of an attempt."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from jobs.webhook import parse_target, post_webhook

from relayq_core import JobContext

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
HOOK = parse_target("https://hooks.example/in")


def a_context(**changes: Any) -> JobContext:
    """The context of a first attempt with a minute left."""
    fields: dict[str, Any] = {
        "job_id": "job-1",
        "name": "post_webhook",
        "queue": "webhooks",
        "attempt": 1,
        "max_attempts": 5,
        "deadline_ms": 60_000,
        "_now": lambda: 0,
        "_report": lambda note: True,
    }
    return JobContext(**{**fields, **changes})


post = partial(post_webhook, a_context())


# -- receivers -----------------------------------------------------------------------------------------------


@dataclass
class Received:
    """A request as the receiver saw it."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Receiver:
    """A web server on loopback that keeps what it is sent, and answers with the test's status, else with 200."""

    port: int
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    server_names: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    def answers(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(port=0, scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests.append(Received(self.command, self.path, self.headers, body))
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(receiver.body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET = answer

        def log_message(self, *_: Any) -> None:
            """Keep the test's output to the test."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        if tls is not None:
            tls.set_servername_callback(lambda _sock, name, _context: receiver.server_names.append(name))
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that treats its one visitor as `talk` says, and HTTP as it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError), closing(server.accept()[0]) as visitor:
                talk(visitor)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        finally:
            thread.join()


@pytest.fixture
def private_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers of these tests are on loopback."""
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", "true")


@pytest.fixture
def receiver(private_allowed: None) -> Iterator[Receiver]:
    """A receiver that may be posted to."""
    with receiving() as receiver:
        yield receiver


@dataclass
class Dns:
    """Names and the addresses they lead to, one list per lookup; the last one stays."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    def lookup(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.lookups.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        turns = self.names[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [_found(address, port) for address in addresses]


def _found(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    """A name service that says what the test wants it to."""
    dns = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", dns.lookup)
    return dns


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that a connection was opened to; none of them answers."""
    tried: list[Any] = []

    def connect(_sock: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried
