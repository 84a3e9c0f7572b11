"""Clients of AWS services: one for each, created when it is first needed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from relayq_core.errors import StoreError
from relayq_core.process.forks import leave_to_parent, reset_in_children

#: A client that is busy in this many threads opens a connection for each.
_POOL = 25
#: How often botocore sends a call, and how long its answer may take. A call to DynamoDB is tried again by RelayQ alone
#: (adapters/dynamodb/calls.py), since two layers of tries multiply; no job needs EventBridge.
_TRIES = {"dynamodb": 1, "events": 1}
_READ_SECONDS = {"dynamodb": 3, "lambda": 2, "events": 1}


class Clients:
    """Low-level clients by service: those of a boto3 session, or of one that is created when it is first needed.

    `validate_parameters` lets botocore validate each request: for tests.
    """

    def __init__(self, session: Any = None, *, validate_parameters: bool = False) -> None:
        self.by_service: dict[str, Any] = {}
        self._session = session
        self._validate = validate_parameters
        self._lock = threading.Lock()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Leave all clients to the parent, in the child of a fork, which creates its own.

        On a connection that two processes use, one may receive the answer to a request of the other.
        """
        leave_to_parent((self.by_service, vars(self).pop("create", None)))
        self.by_service = {}
        self._lock = threading.Lock()

    def get(self, service: str) -> Any:
        """Return the client of a service, by boto3's name for it. Raises StoreError where none can be created."""
        client = self.by_service.get(service)
        if client is None:
            with self._lock:
                client = self.by_service.get(service) or self._connect(service)
                self.by_service[service] = client
        return client

    @functools.cached_property
    def create(self) -> Callable[..., Any]:
        """The function that creates a client: the session's, or botocore's own.

        What boto3 adds to a session of botocore, its resources and transfers, takes an eighth of a client's start.
        """
        if self._session is not None:
            create: Callable[..., Any] = self._session.client
            return create
        from botocore.session import Session

        return Session().create_client

    def _connect(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            # botocore builds its own user agent twice a call, an eighth of the call's CPU
            user_agent="relayq/0.1",
            # the requests are written by hand, and tested with validation on
            parameter_validation=self._validate,
            retries={"mode": "standard", "total_max_attempts": _TRIES.get(service, 2)},
            connect_timeout=1,
            read_timeout=_READ_SECONDS.get(service, 5),
            tcp_keepalive=True,
            max_pool_connections=_POOL,
        )
        try:
            return self.create(service, config=config)
        except BotoCoreError as error:
            raise _explain_no_client(service, error) from error


def _explain_no_client(service: str, error: Exception) -> StoreError:
    from botocore.exceptions import ProfileNotFound

    from relayq_core.adapters.dynamodb.calls import explain_profile

    fix = (
        explain_profile()
        if isinstance(error, ProfileNotFound)
        else "set AWS_DEFAULT_REGION and the profile or credentials of the stack's account"
    )
    return StoreError(f"cannot create a {service} client: {str(error).rstrip('.')}", fix, code=type(error).__name__)
