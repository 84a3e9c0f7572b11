"""The dashboard on this machine: an HTTP server on 127.0.0.1 that asks the handler as a Function URL would."""

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

#: More than the largest form; what is longer is not even read.
_MOST_BYTES = 2 * 1024 * 1024
_MOST_DIGITS = 10
#: Whoever connects and says nothing is not waited for.
_PATIENCE_SECONDS = 30


class DashboardServer:
    """Serves the dashboard from the moment it is made until `close()`.

    `url` lets in whoever opens it first, once; `token` lets in whoever types it. Port 0 is a free one.
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
            # cookies know no port: two dashboards on one machine would end each other's sessions
            cookie_suffix=f"-{self.port}",
        )
        self.address = f"http://127.0.0.1:{self.port}{ROOT}"
        self.url = f"{self.address}/enter?key={key}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="relayq-dashboard", daemon=True
        )
        self._thread.start()

    def know(self, jobs: Mapping[str, JobType]) -> None:
        """Show these jobs from now on."""
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
    """Serve the dashboard of these jobs on 127.0.0.1; open the answer's `url`, and `close()` it in the end.

    Raises OSError where the port is taken.
    """
    return DashboardServer(relayq, port, may_change=may_change, history=history, jobs=jobs, command=command)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    dashboard: Dashboard

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Request)
        #: the resolver keeps the request it is at
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no news."""
        logger.debug("a request of the dashboard was cut off", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = self._body_length()
        if isinstance(length, HTTPStatus):
            self.close_connection = True
            self.send_error(length)
            return
        event = self._event(self.rfile.read(length))
        if urlsplit(self.path).path == "/":
            self._send({"statusCode": 303, "headers": {"Location": ROOT}, "body": ""})
            return
        with self.server.lock:
            answer = self.server.dashboard.answer(event)
        self._send(answer)

    def _body_length(self) -> int | HTTPStatus:
        """How many bytes follow; or the status that refuses the request, and nothing more of its connection is read."""
        hosts = self.headers.get_all("Host", [])
        # a name that leads here from elsewhere (DNS rebinding) is not ours
        if len(hosts) != 1 or hosts[0].rpartition(":")[0] not in LOOPBACK_NAMES:
            return HTTPStatus.MISDIRECTED_REQUEST
        if (
            self.command not in {"GET", "HEAD"}
            and self.headers.get("Origin", f"http://{hosts[0]}") != f"http://{hosts[0]}"
        ):
            return HTTPStatus.FORBIDDEN
        lengths = self.headers.get_all("Content-Length", ["0"])
        # two ways to say where the body ends are two requests for some proxy
        if "Transfer-Encoding" in self.headers or len(lengths) > 1:
            return HTTPStatus.BAD_REQUEST
        text = lengths[0]
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) <= _MOST_BYTES):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return int(text)

    def _event(self, body: bytes) -> dict[str, Any]:
        asked = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        http = {"method": self.command, "path": asked.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
        return {
            "version": "2.0",
            "rawPath": asked.path,
            "rawQueryString": asked.query,
            "queryStringParameters": dict(parse_qsl(asked.query)),
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
