"""A stand-in for AWS that answers at once, or after a delay: `python -m benchmarks.server`.

It runs in a process of its own, so that its CPU time is not measured. It has no state: every answer depends on its
request alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import ssl
import zlib
from collections.abc import Callable
from typing import Any

#: Epoch milliseconds that no clock has reached: a lease until then is held, and a row since 0 is due.
FAR = 9_000_000_000_000
#: How many rows each shard of the index has.
ROWS_PER_SHARD = "bench-rows-per-shard"

_JOB = {
    "pk": {"S": "job#01JD9Z3K4M5N6P7Q8R9S0T1V2W"},
    "name": {"S": "send_email"},
    "queue": {"S": "emails"},
    "status": {"S": "processing"},
    "attempt": {"N": "1"},
    "payload": {"S": '{"to":"ada@example.com","subject":"Welcome","user_id":12345}'},
    "created_at": {"N": "1763765123456"},
    "updated_at": {"N": "1763765123456"},
    "available_at": {"N": "1763765123456"},
    "started_at": {"N": "1763765123460"},
    "due_at": {"N": "1763765153456"},
    "due_shard": {"S": "emails#3"},
    "lease_id": {"S": "0123456789abcdef"},
    "lease_until": {"N": str(FAR)},
}


def _build_http(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %s\r\nServer: Server\r\nDate: Sat, 21 Nov 2026 22:00:00 GMT\r\n"
        b"Content-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\nConnection: keep-alive\r\n"
        b"x-amzn-RequestId: 4KDNFNHP5UGCR0NQFJ0QPCFP5NVV4KQNSO5AEMVJF66Q9ASUAAJG\r\nx-amz-crc32: %d\r\n\r\n"
        % (status, len(body), zlib.crc32(body))
    ) + body


def _build_ok(answer: dict[str, Any]) -> bytes:
    return _build_http(b"200 OK", json.dumps(answer, separators=(",", ":")).encode())


_EMPTY = _build_ok({})
_CLAIMED = _build_ok({"Attributes": _JOB})
#: The id of a job that is a class.
OF_A_CLASS = "01JD9Z3K4M5N6P7Q8R9S0T1V2X"
_CLAIMED_OF_A_CLASS = _build_ok({"Attributes": {**_JOB, "pk": {"S": f"job#{OF_A_CLASS}"}, "name": {"S": "SendEmail"}}})
_QUEUES = _build_ok({"Item": {"pk": {"S": "queues"}, "queue_names": {"SS": ["emails"]}}})
_NONE_WAITS = _build_ok({"Attributes": {"ApproximateNumberOfMessages": "0"}})
_BATCH_WRITTEN = _build_ok({"UnprocessedItems": {}})
_INVOKED = (
    b"HTTP/1.1 202 Accepted\r\nDate: Sat, 21 Nov 2026 22:00:00 GMT\r\nContent-Length: 0\r\nConnection: keep-alive\r\n"
    b"x-amzn-RequestId: c6af9ac6-7b61-11e6-9a41-93e8deadbeef\r\nx-amzn-Remapped-Content-Length: 0\r\n"
    b"X-Amzn-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0\r\n\r\n"
)


def _answer_update(body: bytes) -> bytes:
    """Answer an update. Claims and nudges ask for ALL_NEW: a claim gets a running job, a nudge a waiting one."""
    if b'"ALL_NEW"' not in body:
        return _EMPTY
    if b":seen" not in body:
        return _CLAIMED_OF_A_CLASS if OF_A_CLASS.encode() in body else _CLAIMED
    key = json.loads(body)["Key"]["pk"]
    waiting = {name: value for name, value in _JOB.items() if not name.startswith(("lease", "started"))}
    return _build_ok({"Attributes": {**waiting, "pk": key, "status": {"S": "pending"}, "nudges": {"N": "1"}}})


def _answer_query(body: bytes) -> bytes:
    """Answer with a page of overdue rows; the cursor counts them, and the table's name has their number."""
    request = json.loads(body)
    whole = int(request["TableName"].removeprefix(ROWS_PER_SHARD + "-"))
    shard = request["ExpressionAttributeValues"][":shard"]["S"]
    first = int(request.get("ExclusiveStartKey", {}).get("row", {}).get("N", "0"))
    last = min(whole, first + request["Limit"])
    rows = [
        {
            "pk": {"S": f"job#01JD9Z3K4M5N6P7Q8R{shard[-1]}{number:07d}"},
            "due_shard": {"S": shard},
            "due_at": {"N": str(1763765153456 + number)},
        }
        for number in range(first, last)
    ]
    more = {"LastEvaluatedKey": {"row": {"N": str(last)}}} if last < whole else {}
    return _build_ok({"Items": rows, "Count": len(rows), "ScannedCount": len(rows), **more})


def _answer_insert(body: bytes) -> bytes:
    return _build_ok({"Responses": [{"TableName": "jobs"}] * body.count(b'"Parameters"')})


def _answer_send(body: bytes) -> bytes:
    digest = hashlib.md5(json.loads(body)["MessageBody"].encode(), usedforsecurity=False).hexdigest()
    return _build_ok({"MD5OfMessageBody": digest, "MessageId": "219f8380-5770-4cc2-8c3e-5c715e145f5e"})


_ANSWERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"PutItem": lambda _: _EMPTY,
    b"TransactWriteItems": lambda _: _EMPTY,
    b"BatchWriteItem": lambda _: _BATCH_WRITTEN,
    b"BatchExecuteStatement": _answer_insert,
    b"GetItem": lambda _: _QUEUES,
    b"UpdateItem": _answer_update,
    b"Query": _answer_query,
    b"SendMessage": _answer_send,
    b"GetQueueAttributes": lambda _: _NONE_WAITS,
}


class Wire(asyncio.Protocol):
    """One connection. `accepted` counts all connections; a GET of /connections returns it."""

    accepted = 0
    #: seconds that each answer takes
    takes = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Wire.accepted += 1
        self._wire = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (request := self._take_request()) is not None:
            assert isinstance(self._wire, asyncio.Transport)
            answer = self._answer(*request)
            if Wire.takes:
                asyncio.get_running_loop().call_later(Wire.takes, self._wire.write, answer)
            else:
                self._wire.write(answer)

    def _take_request(self) -> tuple[bytes, bytes] | None:
        """Remove and return the head and body of the next request, or None until all of it has arrived."""
        head, separator, rest = self._read.partition(b"\r\n\r\n")
        if not separator:
            return None
        _, _, after = head.lower().partition(b"content-length:")
        length = int(after.partition(b"\r\n")[0] or 0)
        if len(rest) < length:
            return None
        self._read = rest[length:]
        return head, rest[:length]

    def _answer(self, head: bytes, body: bytes) -> bytes:
        _, _, target = head.partition(b"DynamoDB_20120810.")
        if not target:
            _, _, target = head.partition(b"AmazonSQS.")
        if target:
            return _ANSWERS[target.partition(b"\r")[0]](body)
        if b"/invocations" in head:
            return _INVOKED
        return _build_ok({"connections": Wire.accepted})


async def _serve(certificate: str | None) -> None:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(Wire, "127.0.0.1", 0, ssl=context, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", help="a PEM file with key and certificate: speak TLS")
    parser.add_argument("--takes", type=float, default=0.0, help="seconds until it answers")
    options = parser.parse_args()
    Wire.takes = options.takes
    asyncio.run(_serve(options.certificate))
