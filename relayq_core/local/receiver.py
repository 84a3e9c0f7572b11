"""A receiver of webhooks that fails at first: it answers 503 twice, and from then on 200."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from relayq_core.local.server import Server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

TROUBLES = 2


class Receiver:
    """Listens at `url` until `close()`; `calls` has each call's idempotency key and the status it got."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: list[tuple[str, int]] = []
        self._server = Server(self._answer)
        self.url = f"{self._server.url}/orders"

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with self._lock:
            status = 503 if len(self.calls) < TROUBLES else 200
            self.calls.append((environ.get("HTTP_IDEMPOTENCY_KEY", ""), status))
        body = b"come back later" if status == 503 else b"thank you"
        start_response(
            f"{status} {'Service Unavailable' if status == 503 else 'OK'}",
            [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
        )
        return [body]
