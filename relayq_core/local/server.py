"""Serve one WSGI application on 127.0.0.1, with a thread for each connection, and refuse web pages.

Any page in a browser on this machine can send requests to 127.0.0.1. What is served here is for programs: a request
with headers that browsers add, or under a host name that is not this machine's, gets a 403.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: The names that always mean this machine.
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost"})
#: Headers that browsers add to the requests of pages, in WSGI's spelling.
_BROWSERS = (
    "HTTP_ORIGIN",
    "HTTP_REFERER",
    "HTTP_SEC_",
    "HTTP_ACCESS_CONTROL_REQUEST_",
    "HTTP_UPGRADE_INSECURE_REQUESTS",
)


class Server:
    """Serves from its creation until `close()`. Port 0 is any free one. Raises OSError if the port is taken."""

    def __init__(self, app: WSGIApplication, port: int = 0) -> None:
        check_free(port)
        self._server = make_server("127.0.0.1", port, _Guarded(app), threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. A request in progress may still be answered."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def check_free(port: int) -> None:
    """Raise OSError if the port is taken: werkzeug itself would print a message and end the process."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


class _Guarded:
    """An application that only programs on this machine can reach."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if problem := find_problem(environ):
            return refuse(start_response, "403 Forbidden", problem)
        return self._app(environ, start_response)


def find_problem(environ: WSGIEnvironment) -> str:
    """Return why a request is refused, because it may come from a web page; empty if it is a program's."""
    if environ["REQUEST_METHOD"] == "OPTIONS" or any(name.startswith(_BROWSERS) for name in environ):
        return "this is for programs on this machine, not for web pages"
    name, _, port = environ.get("HTTP_HOST", "").rpartition(":")
    if name not in LOOPBACK_NAMES or port != environ["SERVER_PORT"]:
        return "this is served only under http://127.0.0.1 and its port"
    if "HTTP_TRANSFER_ENCODING" in environ or not _is_length(environ.get("CONTENT_LENGTH") or "0"):
        return "expected a body with one Content-Length and no Transfer-Encoding"
    return ""


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def refuse(start_response: StartResponse, status: str, problem: str) -> Iterable[bytes]:
    """Answer with a sentence and close the connection, without reading what else was sent on it."""
    body = problem.encode() + b"\n"
    start_response(
        status,
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")],
    )
    return [body]


class _Quiet(WSGIRequestHandler):
    """Logs no requests, and passes on every Content-Length: a request with two of them is refused."""

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        if len(lengths := self.headers.get_all("Content-Length", [])) > 1:
            environ["CONTENT_LENGTH"] = ",".join(lengths)
        return environ

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        pass
