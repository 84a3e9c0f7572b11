"""Serve the dashboard on this machine: an HTTP server on 127.0.0.1 that calls the handler as a Function URL does."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from relayq_core.client import RelayQ
from relayq_core.dashboard.session import Sessions
from relayq_core.handlers.dashboard.app import Dashboard
from relayq_core.handlers.dashboard.responses import ROOT
from relayq_core.jobs.registry import JobType
from relayq_core.local.server import LOOPBACK_NAMES
from relayq_core.ports import History
from relayq_core.process.loggers import logger

#: More than the largest form; a longer body is not read.
_MOST_BYTES = 2 * 1024 * 1024
_MOST_DIGITS = 10
#: A connection that sends nothing is closed after this.
_IDLE_SECONDS = 30


class DashboardServer:
    """Serves the dashboard from its creation until `close()`.

    `url` opens it once, for the first browser; `token` is what others enter at `address`. Port 0 is any free one.
    """

    def __init__(
        self,
        relayq: RelayQ,
        port: int = 0,
        *,
        may_change: bool = True,
        history: History | None = None,
        jobs: Mapping[str, JobType] | None = None,
        command: str = "relayq",
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        key = secrets.token_urlsafe(24)
        self._server = _Server(("127.0.0.1", port))
        self.port = self._server.server_address[1]
        self._server.dashboard = Dashboard(
            relayq=relayq,
            sessions=Sessions(lambda: (self.token,), relayq.clock),
            may_change=may_change,
            history=history,
            jobs=jobs or {},
            is_secure=False,
            one_time_key=key,
            command=command,
            # cookies are shared between ports: two dashboards on one machine would end each other's sessions
            cookie_suffix=f"-{self.port}",
        )
        self.address = f"http://127.0.0.1:{self.port}{ROOT}"
        self.url = f"{self.address}/enter?key={key}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="relayq-dashboard", daemon=True
        )
        self._thread.start()

    def set_jobs(self, jobs: Mapping[str, JobType]) -> None:
        """Offer forms for these job types from now on."""
        with self._server.lock:
            self._server.dashboard.show_jobs(jobs)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def serve(
    relayq: RelayQ,
    port: int = 0,
    *,
    may_change: bool = True,
    history: History | None = None,
    jobs: Mapping[str, JobType] | None = None,
    command: str = "relayq",
) -> DashboardServer:
    """Serve the dashboard on 127.0.0.1 and return the server; open its `url`, and `close()` it in the end.

    Raises OSError if the port is taken.
    """
    return DashboardServer(relayq, port, may_change=may_change, history=history, jobs=jobs, command=command)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    dashboard: Dashboard

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Request)
        #: one request at a time: the resolver keeps the current one
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a browser closed its connection; that is normal."""
        logger.debug("a request to the dashboard was cut off", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = self._read_length()
        if isinstance(length, HTTPStatus):
            self.close_connection = True
            self.send_error(length)
            return
        event = self._build_event(self.rfile.read(length))
        if urlsplit(self.path).path == "/":
            self._send({"statusCode": 303, "headers": {"Location": ROOT}, "body": ""})
            return
        with self.server.lock:
            answer = self.server.dashboard.answer(event)
        self._send(answer)

    def _read_length(self) -> int | HTTPStatus:
        """Return the length of the body, or the status that refuses the request; then the rest is not read."""
        hosts = self.headers.get_all("Host", [])
        # another host name that resolves to this machine (DNS rebinding) is refused
        if len(hosts) != 1 or hosts[0].rpartition(":")[0] not in LOOPBACK_NAMES:
            return HTTPStatus.MISDIRECTED_REQUEST
        if (
            self.command not in {"GET", "HEAD"}
            and self.headers.get("Origin", f"http://{hosts[0]}") != f"http://{hosts[0]}"
        ):
            return HTTPStatus.FORBIDDEN
        lengths = self.headers.get_all("Content-Length", ["0"])
        # with two lengths, a proxy could see two requests where we see one
        if "Transfer-Encoding" in self.headers or len(lengths) > 1:
            return HTTPStatus.BAD_REQUEST
        text = lengths[0]
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) <= _MOST_BYTES):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return int(text)

    def _build_event(self, body: bytes) -> dict[str, Any]:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        http = {"method": self.command, "path": url.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
        return {
            "version": "2.0",
            "rawPath": url.path,
            "rawQueryString": url.query,
            "queryStringParameters": dict(parse_qsl(url.query)),
            "headers": headers,
            "cookies": [pair.strip() for pair in headers.get("cookie", "").split(";") if pair.strip()],
            "requestContext": {"http": http, "stage": "$default", "domainName": headers.get("host", "")},
            "body": base64.b64encode(body).decode() if body else None,
            "isBase64Encoded": bool(body),
        }

    def _send(self, answer: Mapping[str, Any]) -> None:
        body = str(answer.get("body") or "").encode()
        self.send_response_only(answer["statusCode"])
        for name, value in answer.get("headers", {}).items():
            self.send_header(name, value)
        for cookie in answer.get("cookies", ()):
            self.send_header("Set-Cookie", cookie)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass
