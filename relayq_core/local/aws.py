"""AWS in this process: moto behind a local HTTP server, and in front of it Lambda's asynchronous Invoke.

Whoever can reach it can have any handler run: it takes only requests that are signed with the access key of this run,
which no other user of the machine knows, and none of a web page (see server.py).
"""

from __future__ import annotations

import functools
import hmac
import json
import os
import re
import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.local.environ import applied
from relayq_core.local.server import Server, refused

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

JOBS_TABLE = "relayq-jobs"
FAILED_TABLE = "relayq-failed"
REGION = "us-east-1"

#: so many rows fit one BatchWriteItem
_BATCH = 25

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
#: Who signed a request. The signature itself is not looked at: the key is random, and never leaves this machine.
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/\s,]{1,128})/")
#: Takes a function's name and an event; False where there is no such function.
Invoke = Callable[[str, bytes], bool]


class EmbeddedAws:
    """DynamoDB with RelayQ's two empty tables, and Lambda as far as `invoke` plays it.

    From the moment it is made until `close()` the environment of this process leads to it, so that nothing here
    reaches a real AWS. One at a time: moto's tables belong to the process.
    """

    def __init__(self, invoke: Invoke = lambda function, event: False, port: int = 0) -> None:
        moto_api_backend.reset()
        self._server = Server(_Front(invoke, _access_key()), port)
        self.endpoint = self._server.url
        #: what a process needs so that boto3 and RelayQ find this and nothing else
        self.environ = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _access_key(),
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "RELAYQ_JOBS_TABLE": JOBS_TABLE,
            "RELAYQ_FAILED_TABLE": FAILED_TABLE,
            **dict.fromkeys(("NO_PROXY", "no_proxy"), _not_proxied(os.environ)),
        }
        self._until = ExitStack()
        self._until.callback(self._server.close)
        self._until.enter_context(applied(self.environ))

    @functools.cached_property
    def dynamodb(self) -> Any:
        """A boto3 client of its DynamoDB."""
        import boto3

        return boto3.Session().client("dynamodb")

    def create_tables(self) -> None:
        """Make the two tables, empty."""
        for shape in (jobs_table(JOBS_TABLE), failed_table(FAILED_TABLE)):
            self.dynamodb.create_table(**shape)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Everything in one table, as DynamoDB's JSON."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def fill(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows into a table, as `rows` gave them."""
        for start in range(0, len(rows), _BATCH):
            puts = [{"PutRequest": {"Item": row}} for row in rows[start : start + _BATCH]]
            self.dynamodb.batch_write_item(RequestItems={table: puts})

    def close(self) -> None:
        """End it; what the tables held is gone."""
        if "dynamodb" in vars(self):
            self.dynamodb.close()
        self._until.close()


@functools.cache
def _access_key() -> str:
    """The access key of this run: of this process, since clients may outlive the AWS that they were made for."""
    return f"LOCAL{secrets.token_hex(16).upper()}"


def _not_proxied(environ: Mapping[str, str]) -> str:
    """A proxy must not be asked for 127.0.0.1; and macOS is not asked for proxies at all where this is set."""
    given = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return ",".join(part for part in (given, "127.0.0.1", "localhost") if part)


class _Front:
    """The WSGI application: Lambda's Invoke goes to `invoke`, everything else to moto, one request at a time."""

    def __init__(self, invoke: Invoke, access_key: str) -> None:
        self._invoke = invoke
        self._access_key = access_key.encode()
        self._moto = DomainDispatcherApplication(create_backend_app)
        #: moto's conditional writes are not atomic between threads
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._is_signed(environ):
            return refused(start_response, "403 Forbidden", "expected a request signed with the access key of this run")
        found = _INVOKE.fullmatch(environ.get("PATH_INFO", ""))
        if found and environ["REQUEST_METHOD"] == "POST":
            return self._invoked(unquote(found[1]).rpartition(":")[2], environ, start_response)
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".BatchExecuteStatement"):
            # moto takes no parameters in PartiQL; RelayQ then writes one by one
            start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0")])
            return [b'{"__type": "com.amazon.coral.service#UnknownOperationException", "message": "no PartiQL here"}']
        with self._lock:
            answer = self._moto(environ, start_response)
            try:
                return [b"".join(answer)]
            finally:
                getattr(answer, "close", lambda: None)()

    def _is_signed(self, environ: WSGIEnvironment) -> bool:
        """Whether it bears this run's access key, and goes to a service of AWS rather than to moto's own controls."""
        signed = _CREDENTIAL.match(environ.get("HTTP_AUTHORIZATION", ""))
        given = signed[1].encode("latin-1", "replace") if signed else b""
        own_control = environ.get("PATH_INFO", "").lstrip("/").lower().startswith("moto-api")
        return hmac.compare_digest(given, self._access_key) and not own_control

    def _invoked(self, function: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        event = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ.get("HTTP_X_AMZ_INVOCATION_TYPE") != "Event":
            return _refused(
                start_response, 400, "InvalidParameterValueException", "only InvocationType=Event is played here"
            )
        if not self._invoke(function, event):
            return _refused(start_response, 404, "ResourceNotFoundException", f"Function not found: {function}")
        start_response("202 Accepted", [("Content-Length", "0"), ("x-amzn-RequestId", str(uuid.uuid4()))])
        return []


def _refused(start_response: StartResponse, status: int, code: str, message: str) -> Iterable[bytes]:
    body = json.dumps({"Type": "User", "Message": message}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("x-amzn-ErrorType", code)]
    start_response(f"{status} Refused", headers)
    return [body]
