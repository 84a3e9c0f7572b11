"""A Lambda client that accepts every invocation and remembers it."""

from __future__ import annotations

import io
import json
from typing import Any


class FakeLambda:
    """As much of boto3's Lambda client as a handoff needs."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        #: the answer of each invocation; without it each has an empty one of its own
        self.body: io.BytesIO | None = None
        #: raised instead of accepting
        self.error: Exception | None = None

    @property
    def invoked(self) -> list[tuple[str, Any]]:
        """The function of each invocation, and its event."""
        return [(request["FunctionName"], json.loads(request["Payload"])) for request in self.requests]

    def invoke(self, **request: Any) -> dict[str, Any]:
        """Remember the call, which must be an asynchronous one, or raise `error`."""
        if self.error is not None:
            raise self.error
        assert request["InvocationType"] == "Event"
        self.requests.append(request)
        return {"StatusCode": 202, "Payload": self.body or io.BytesIO()}
