"""Handoff by Lambda: one asynchronous invocation for one job."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any


class LambdaInvoke:
    """Invokes a queue's runner function with `{"job_id", "run_at"}`. `client` answers with a boto3 client."""

    def __init__(self, client: Callable[[], Any], function: str, by_queue: Mapping[str, str]) -> None:
        self._client = client
        self._function = function
        self._by_queue = by_queue

    def offer(self, job_id: str, queue: str | None, run_at: int) -> None:
        """Invoke, and raise whatever boto3 raises: the outcome is a maybe in any case."""
        answer = self._client().invoke(
            FunctionName=self._function_of(queue),
            InvocationType="Event",
            Payload=json.dumps({"job_id": job_id, "run_at": run_at}),
        )
        # an unread body keeps its connection from ever being used again: each call would open a new one
        answer["Payload"].read()

    def _function_of(self, queue: str | None) -> str:
        if queue is None:
            return os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or self._function
        return self._by_queue.get(queue) or self._function


class NoHandoff:
    """HANDOFF=none: nobody is told; the sweeper finds the job when it is due."""

    def offer(self, job_id: str, queue: str | None, run_at: int) -> None:
        """Do nothing."""
