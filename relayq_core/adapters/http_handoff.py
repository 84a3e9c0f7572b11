"""Handoff by HTTP: the API function invokes the runner for a caller that may not invoke it."""

from __future__ import annotations

from collections.abc import Callable

import urllib3
from urllib3.exceptions import ProtocolError

from relayq_core.engine.handoff import build_message
from relayq_core.errors import HandoffRefused
from relayq_core.process.forks import leave_to_parent, reset_in_children

#: The endpoint invokes a function and answers; the dispatch waits for it.
_TIMEOUT = urllib3.Timeout(connect=1, read=3)
#: A longer answer is not ours, and is not read to its end.
_LONGEST_ANSWER = 4096
_ACCEPTED = 202
_POOL = 25


class HttpHandoff:
    """Posts the message of a handoff to the endpoint. `token` returns the token that it accepts."""

    def __init__(self, endpoint: str, token: Callable[[], str]) -> None:
        self._endpoint = endpoint
        self._token = token
        self._connections = _create_pool()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Leave the connections to the parent, in a child of a fork."""
        leave_to_parent(self._connections)
        self._connections = _create_pool()

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Post once, and raise whatever goes wrong; the job may be started all the same."""
        body = build_message(job_id, queue, run_at, name).encode()
        headers = {"Content-Type": "application/json", "X-RelayQ-Token": self._token()}
        try:
            status = self._post(body, headers)
        except ProtocolError:
            # a kept connection may have been closed since its last use; a job that is handed off twice runs once
            status = self._post(body, headers)
        if status != _ACCEPTED:
            raise HandoffRefused(status)

    def close(self) -> None:
        """Close the kept connections."""
        self._connections.clear()

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        answer = self._connections.request(
            "POST",
            self._endpoint,
            body=body,
            headers=headers,
            redirect=False,  # the token is for this endpoint
            preload_content=False,
        )
        # read to its end, else the connection could not be used again
        if len(answer.read(_LONGEST_ANSWER, decode_content=False)) < _LONGEST_ANSWER:
            answer.release_conn()
        else:
            answer.close()
        return answer.status


def _create_pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(maxsize=_POOL, timeout=_TIMEOUT, retries=False)
