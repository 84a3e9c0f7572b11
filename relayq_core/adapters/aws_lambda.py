"""Handoff by Lambda: one asynchronous invocation for one job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from relayq_core.engine.handoff import build_message
from relayq_core.errors import HandoffDenied
from relayq_core.model.options import find_function

#: The parts of a function's ARN with an alias or a version behind the name; without, it has one less.
_PARTS_WITH_ALIAS = 8


_DENIED = frozenset({"AccessDeniedException", "AccessDenied"})


class LambdaInvoke:
    """Invokes a queue's runner function with the message of a handoff. `client` returns a boto3 client."""

    def __init__(self, client: Callable[[], Any], function: str, by_queue: Mapping[str, str]) -> None:
        self._client = client
        self._function = function
        self._by_queue = by_queue
        self._alias = ""

    def invoked_as(self, arn: str) -> None:
        """Note the ARN by which this process was invoked: with an alias or a version, it hands on to the same one."""
        self._alias = arn if len(arn.split(":")) == _PARTS_WITH_ALIAS else ""

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Invoke once. Raises HandoffDenied, or what boto3 raises; the job may be started all the same."""
        function = self._choose_function(None if here else queue)
        try:
            answer = self._client().invoke(
                FunctionName=function,
                InvocationType="Event",
                Payload=build_message(job_id, queue, run_at, name),
            )
        except Exception as error:
            if _get_code(error) not in _DENIED:
                raise
            raise HandoffDenied(function, of_its_own=function != self._function) from error
        # an unread body keeps its connection from ever being used again: each call would open a new one
        answer["Payload"].read()

    def _choose_function(self, queue: str | None) -> str:
        if queue is None:
            return self._alias or os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or self._function
        return find_function(queue, self._by_queue) or self._function


def _get_code(error: Exception) -> str:
    """Return a ClientError's code. botocore is not imported for it: nothing loads it before the first handoff."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""


class NoHandoff:
    """HANDOFF=none: no runner is asked; the sweeper finds the job when it is due."""

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Do nothing."""
