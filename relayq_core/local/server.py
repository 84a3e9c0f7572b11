"""An HTTP server for one WSGI application: on 127.0.0.1, a thread for each connection."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


class Server:
    """Serves from the moment it is made until `close()`. Port 0 is a free one; raises OSError where it is taken."""

    def __init__(self, app: WSGIApplication, port: int = 0) -> None:
        check_free(port)
        self._server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. A request that is being answered may still be."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def check_free(port: int) -> None:
    """Raise OSError where the port is taken: werkzeug itself would print something and end the process."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


class _Quiet(WSGIRequestHandler):
    """Prints no line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        pass
