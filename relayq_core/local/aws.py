"""Emulate AWS in this process: moto behind a local HTTP server, and in front of it Lambda's asynchronous Invoke.

A client that can reach it can make any handler run. It therefore accepts only requests signed with the access key of
this run, which no other user of the machine knows, and none from a web page (see server.py).
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
from relayq_core.local.environ import apply_environ
from relayq_core.local.server import Server, refuse

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

JOBS_TABLE = "relayq-jobs"
FAILED_TABLE = "relayq-failed"
REGION = "us-east-1"

#: the most rows of one BatchWriteItem
_BATCH = 25

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
#: Who signed a request. The signature is not checked: the key is random and never leaves this machine.
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/\s,]{1,128})/")
#: Takes a function's name and an event; returns False if there is no such function.
Invoke = Callable[[str, bytes], bool]


class EmbeddedAws:
    """DynamoDB, and Lambda as far as `invoke` emulates it.

    From its creation until `close()` the environment of this process points to it, so that nothing here reaches the
    real AWS. There can be only one at a time: moto's tables belong to the process.
    """

    def __init__(self, invoke: Invoke = lambda function, event: False, port: int = 0) -> None:
        moto_api_backend.reset()
        self._server = Server(_Front(invoke, _get_access_key()), port)
        self.endpoint = self._server.url
        #: what a process needs so that boto3 and RelayQ use this AWS and no other
        self.environ = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _get_access_key(),
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "RELAYQ_JOBS_TABLE": JOBS_TABLE,
            "RELAYQ_FAILED_TABLE": FAILED_TABLE,
            **dict.fromkeys(("NO_PROXY", "no_proxy"), _list_unproxied_hosts(os.environ)),
        }
        self._until = ExitStack()
        self._until.callback(self._server.close)
        self._until.enter_context(apply_environ(self.environ))

    @functools.cached_property
    def dynamodb(self) -> Any:
        """A boto3 client of this DynamoDB."""
        import boto3

        return boto3.Session().client("dynamodb")

    def create_tables(self) -> None:
        """Create RelayQ's two tables, empty."""
        for shape in (jobs_table(JOBS_TABLE), failed_table(FAILED_TABLE)):
            self.dynamodb.create_table(**shape)

    def read_rows(self, table: str) -> list[dict[str, Any]]:
        """Return every row of a table, in DynamoDB's JSON."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def fill(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows into a table, in the form that `read_rows` returns."""
        for start in range(0, len(rows), _BATCH):
            puts = [{"PutRequest": {"Item": row}} for row in rows[start : start + _BATCH]]
            self.dynamodb.batch_write_item(RequestItems={table: puts})

    def close(self) -> None:
        """Stop, and drop the tables with all that is in them."""
        if "dynamodb" in vars(self):
            self.dynamodb.close()
        self._until.close()


@functools.cache
def _get_access_key() -> str:
    """Return the access key of this run. It belongs to the process: clients may outlive the AWS they were made for."""
    return f"LOCAL{secrets.token_hex(16).upper()}"


def _list_unproxied_hosts(environ: Mapping[str, str]) -> str:
    """Return the hosts to reach without a proxy, with this machine; Python then does not ask macOS either."""
    hosts = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return ",".join(part for part in (hosts, "127.0.0.1", "localhost") if part)


class _Front:
    """The WSGI application: passes Lambda's Invoke to `invoke`, and everything else to moto, one request at a time."""

    def __init__(self, invoke: Invoke, access_key: str) -> None:
        self._invoke = invoke
        self._access_key = access_key.encode()
        self._moto = DomainDispatcherApplication(create_backend_app)
        #: moto's conditional writes are not atomic between threads
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._is_signed(environ):
            return refuse(start_response, "403 Forbidden", "expected a request signed with the access key of this run")
        path = _INVOKE.fullmatch(environ.get("PATH_INFO", ""))
        if path and environ["REQUEST_METHOD"] == "POST":
            return self._invoke_function(unquote(path[1]).rpartition(":")[2], environ, start_response)
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".BatchExecuteStatement"):
            # moto does not support parameters in PartiQL; RelayQ then writes the rows one by one
            start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0")])
            return [b'{"__type": "com.amazon.coral.service#UnknownOperationException", "message": "no PartiQL here"}']
        with self._lock:
            answer = self._moto(environ, start_response)
            try:
                return [b"".join(answer)]
            finally:
                getattr(answer, "close", lambda: None)()

    def _is_signed(self, environ: WSGIEnvironment) -> bool:
        """Return whether the request has this run's access key, and is for AWS and not for moto's own controls."""
        signed = _CREDENTIAL.match(environ.get("HTTP_AUTHORIZATION", ""))
        key = signed[1].encode("latin-1", "replace") if signed else b""
        is_for_moto = environ.get("PATH_INFO", "").lstrip("/").lower().startswith("moto-api")
        return hmac.compare_digest(key, self._access_key) and not is_for_moto

    def _invoke_function(
        self, function: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        event = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ.get("HTTP_X_AMZ_INVOCATION_TYPE") != "Event":
            return _refuse(
                start_response, 400, "InvalidParameterValueException", "only InvocationType=Event is emulated here"
            )
        if not self._invoke(function, event):
            return _refuse(start_response, 404, "ResourceNotFoundException", f"Function not found: {function}")
        start_response("202 Accepted", [("Content-Length", "0"), ("x-amzn-RequestId", str(uuid.uuid4()))])
        return []


def _refuse(start_response: StartResponse, status: int, code: str, message: str) -> Iterable[bytes]:
    body = json.dumps({"Type": "User", "Message": message}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("x-amzn-ErrorType", code)]
    start_response(f"{status} Refused", headers)
    return [body]
