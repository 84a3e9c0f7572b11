"""The unique hint in Redis or Valkey: who has a key, by name, until it runs out. Nothing in it needs to be true."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from relayq_core.errors import SettingsError
from relayq_core.process.forks import leave_to_parent, reset_in_children

if TYPE_CHECKING:
    from redis import Redis

#: How long a call may keep its caller, in seconds. A dispatch makes two: a look, and a note.
PATIENCE = 0.025
#: How long the connection itself may take, behind the caller's back: a first TLS handshake outlasts PATIENCE.
_SOCKET_TIMEOUT = 1.0
_VARIABLE = "RELAYQ_REDIS_URL"

T = TypeVar("T")


class RedisHint:
    """UniqueHint on a Redis or Valkey server: one connection, made at the first call; no call is tried again."""

    def __init__(self, url: str, prefix: str = "relayq:", *, patience: float = PATIENCE) -> None:
        self._url = url
        self._prefix = prefix
        self._patience = patience
        self._lock = threading.Lock()
        self._made: Redis | None = None
        self._line = _Line()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Leave the connection and the thread to the parent, in a child of a fork."""
        leave_to_parent((self._made, self._line))
        self._lock = threading.Lock()
        self._made = None
        self._line = _Line()

    def holder(self, unique_pk: str) -> str | None:
        """See the port. Raises SettingsError if redis-py is missing or the URL is wrong, TimeoutError, RedisError."""
        client, name = self._connect(), self._prefix + unique_pk
        text: Any = self._line.call(lambda: _read_text(client, name), self._patience)
        return text.decode(errors="replace") if isinstance(text, bytes) else text

    def remember(self, unique_pk: str, job_id: str, ttl_ms: int) -> None:
        """See the port. Raises what `holder` raises."""
        client, name = self._connect(), self._prefix + unique_pk
        self._line.call(lambda: client.set(name, job_id, px=ttl_ms), self._patience)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            client, self._made = self._made, None
        if client is not None:
            self._line.call(client.close, None)

    def _connect(self) -> Redis:
        """Return the client, which connects at its first command. Importing redis-py takes time: it is done here."""
        with self._lock:
            if self._made is None:
                self._made = _create_client(self._url)
            return self._made


def _create_client(url: str) -> Redis:
    try:
        from redis import Redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError:
        raise SettingsError(
            _VARIABLE, "it is set, and redis-py is not installed: `pip install 'relayq[redis]'`, or unset it"
        ) from None
    try:
        return Redis.from_url(
            url,
            protocol=2,  # the newer one costs a round trip more, and offers nothing that is used here
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=_SOCKET_TIMEOUT,
            socket_timeout=_SOCKET_TIMEOUT,
        )
    except ValueError:  # what it says may quote the URL, and so the password
        raise SettingsError(_VARIABLE, "redis-py cannot read this URL") from None


def _read_text(client: Redis, name: str) -> Any:
    from redis import ResponseError  # noqa: PLC0415

    try:
        return client.get(name)
    except ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return None  # another program's list; the note after the commit takes its place
        raise


class _Line:
    """A thread that makes the calls, so that a caller can stop waiting whatever happens to the call.

    A socket's timeout bounds each of its waits, and not their sum, nor the look-up of a host's name. In a frozen Lambda
    the thread waits for work, or for a socket until its timeout: neither does harm in the next invocation.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: _Calls = SimpleQueue()

    def call(self, make: Callable[[], T], patience: float | None) -> T:
        """Return what the call returns, or raise what it raises; TimeoutError after `patience` seconds."""
        future: Future[T] = Future()
        self._start().put((future, make))
        try:
            return future.result(patience)
        except TimeoutError:
            raise TimeoutError(f"no answer within {(patience or _SOCKET_TIMEOUT) * 1000:.0f} ms") from None
        finally:
            future.cancel()

    def _start(self) -> _Calls:
        with self._lock:
            if self._thread is None:
                self._calls = SimpleQueue()
                self._thread = threading.Thread(
                    target=_serve, args=(self._calls,), name="relayq-redis-hint", daemon=True
                )
                self._thread.start()
                weakref.finalize(self, self._calls.put, None)
            return self._calls


_Calls = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


def _serve(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        future, make = call
        if future.set_running_or_notify_cancel():  # else its caller has left already
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        del call, future, make  # or it would hold on to the last one until the next comes
