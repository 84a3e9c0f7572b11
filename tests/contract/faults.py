"""What no emulator does by itself: lose answers, throttle, deny. Done where botocore sends: its retries are real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from moto.core.models import botocore_stubber


@dataclass
class Sent:
    """The requests that were sent while a fault was in force."""

    bodies: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.bodies)


@contextmanager
def answers_lost(client: Any, operation: str, times: int = 1) -> Iterator[Sent]:
    """The request arrives and takes effect, and its answer never comes: `times` times, then all is well."""
    session = URLLib3Session(timeout=20)
    sent = Sent()

    def lose(request: Any, event_name: str = "", **kwargs: Any) -> None:
        sent.bodies.append(json.loads(request.body))
        if len(sent) <= times:
            if botocore_stubber.enabled and "amazonaws" in request.url:
                botocore_stubber(event_name, request)
            else:
                session.send(request)
            raise ReadTimeoutError(endpoint_url=request.url)

    with _before_send(client, operation, lose):
        yield sent
    session.close()


@contextmanager
def never_sent(client: Any, operation: str, times: int = 10**6) -> Iterator[Sent]:
    """The request gets lost on its way, `times` times."""
    sent = Sent()

    def lose(request: Any, **kwargs: Any) -> None:
        sent.bodies.append(json.loads(request.body))
        if len(sent) <= times:
            raise ReadTimeoutError(endpoint_url=request.url)

    with _before_send(client, operation, lose):
        yield sent


@dataclass(frozen=True)
class Refusal:
    """An answer of DynamoDB that means no."""

    code: str
    status: int = 400
    #: for a cancelled transaction
    reasons: tuple[str, ...] = ()

    def body(self) -> bytes:
        """As DynamoDB words it."""
        told: dict[str, Any] = {"__type": f"com.amazonaws.dynamodb.v20120810#{self.code}", "message": "no"}
        if self.reasons:
            told["CancellationReasons"] = [{"Code": reason} for reason in self.reasons]
        return json.dumps(told).encode()


@contextmanager
def refusing(client: Any, operation: str, refusal: Refusal, times: int = 10**6) -> Iterator[Sent]:
    """DynamoDB answers like this, `times` times, and does nothing; then all is well."""
    sent = Sent()
    moto = botocore_stubber.enabled

    def refuse(request: Any, **kwargs: Any) -> AWSResponse | None:
        sent.bodies.append(json.loads(request.body))
        if len(sent) > times:
            return None
        botocore_stubber.enabled = False  # botocore asks every handler, and moto would do what is refused here
        headers = {"content-type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, refusal.status, headers, _Raw(refusal.body()))  # type: ignore[arg-type]

    def restore(**kwargs: Any) -> None:
        botocore_stubber.enabled = moto

    client.meta.events.register_last("before-send", restore)
    with _before_send(client, operation, refuse):
        yield sent
    client.meta.events.unregister("before-send", restore)


@contextmanager
def recorded(client: Any) -> Iterator[list[str]]:
    """The operations that were sent, in order."""
    operations: list[str] = []

    def note(request: Any, event_name: str = "", **kwargs: Any) -> None:
        operations.append(event_name.rpartition(".")[2])

    with _before_send(client, "", note):
        yield operations


@contextmanager
def _before_send(client: Any, operation: str, handler: Callable[..., Any]) -> Iterator[None]:
    event = f"before-send.dynamodb.{operation}".rstrip(".")
    client.meta.events.register_first(event, handler)
    try:
        yield
    finally:
        client.meta.events.unregister(event, handler)


class _Raw:
    """As much of urllib3's answer as botocore asks for."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **kwargs: Any) -> Iterator[bytes]:
        yield self._body
