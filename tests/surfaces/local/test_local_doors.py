"""What listens on this machine beside the dashboard: for programs of this run, and for no web page."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import boto3
import pytest

from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.receiver import Receiver


@pytest.fixture
def aws() -> Iterator[EmbeddedAws]:
    """With its two tables, and a function that says yes to everything."""
    embedded = EmbeddedAws(lambda function, event: True)
    try:
        embedded.create_tables()
        yield embedded
    finally:
        embedded.close()


def sent(url: str, first: str, *headers: str, body: str = "") -> bytes:
    """What comes back for these bytes, to the end of the connection or of the answer's body."""
    place = urlsplit(url)
    lines = [first, *headers, "Connection: close"]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    with closing(socket.create_connection((place.hostname or "", place.port or 0), timeout=20)) as connection:
        connection.sendall("\r\n".join([*lines, "", body]).encode())
        with connection.makefile("rb") as answer:
            return answer.read()


def signed(key: str) -> str:
    """As boto3 writes it."""
    return (
        f"Authorization: AWS4-HMAC-SHA256 Credential={key}/20261128/us-east-1/dynamodb/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=00"
    )


SCAN = json.dumps({"TableName": JOBS_TABLE})
TARGET = ("Content-Type: application/x-amz-json-1.0", "X-Amz-Target: DynamoDB_20120810.Scan")
INVOKE = "POST /2015-03-31/functions/relayq-runner/invocations HTTP/1.1"
PAGES = [
    "Origin: https://evil.example",
    "Origin: http://localhost:3000",
    "origin: null",
    "Referer: http://127.0.0.1:3000/",
    "Sec-Fetch-Site: same-site",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Dest: image",
    "Sec-CH-UA: Chromium",
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Private-Network: true",
]
HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1",
    "localhost:1",
    "127.0.0.1.evil.example:{port}",
    "[::1]:{port}",
    "",
]


def test_a_program_that_has_the_key_is_served(aws: EmbeddedAws) -> None:
    """Under either name of this machine, and Lambda too."""
    port = urlsplit(aws.endpoint).port
    key = signed(aws.environ["AWS_ACCESS_KEY_ID"])
    for host in (f"Host: 127.0.0.1:{port}", f"Host: localhost:{port}"):
        assert b" 200 " in sent(aws.endpoint, "POST / HTTP/1.1", host, key, *TARGET, body=SCAN).splitlines()[0]
        invoked = sent(aws.endpoint, INVOKE, host, key, "X-Amz-Invocation-Type: Event", body="{}")
        assert b" 202 " in invoked.splitlines()[0]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("first", ["POST / HTTP/1.1", INVOKE, "POST /moto-api/reset HTTP/1.1", "OPTIONS / HTTP/1.1"])
def test_nothing_that_a_browser_sends_for_a_page_is_served(aws: EmbeddedAws, first: str, page: str) -> None:
    """Even with the key: no page runs jobs, reads rows or wipes tables, and no preflight is granted."""
    host = f"Host: 127.0.0.1:{urlsplit(aws.endpoint).port}"
    key = signed(aws.environ["AWS_ACCESS_KEY_ID"])
    answer = sent(aws.endpoint, first, host, key, page, *TARGET, "X-Amz-Invocation-Type: Event", body=SCAN)
    assert b" 403 " in answer.splitlines()[0]
    assert b"access-control" not in answer.lower()


@pytest.mark.parametrize("host", HOSTS)
def test_no_other_name_leads_here(aws: EmbeddedAws, host: str) -> None:
    """A page can have its own name lead to 127.0.0.1, and is of one origin with it then."""
    name = host.format(port=urlsplit(aws.endpoint).port)
    key = signed(aws.environ["AWS_ACCESS_KEY_ID"])
    answer = sent(aws.endpoint, "POST / HTTP/1.1", f"Host: {name}", key, *TARGET, body=SCAN)
    assert b" 403 " in answer.splitlines()[0]


@pytest.mark.parametrize("first", ["POST / HTTP/1.1", INVOKE, "GET /moto-api/data.json HTTP/1.1", "GET / HTTP/1.1"])
@pytest.mark.parametrize("key", [None, "", "x", "embedded", "testing", "AKIAIOSFODNN7EXAMPLE", "{key}0", "{lower}"])
def test_without_the_key_of_this_run_nothing_is_served(aws: EmbeddedAws, first: str, key: str | None) -> None:
    """Another user of the machine reaches the port as well."""
    real = aws.environ["AWS_ACCESS_KEY_ID"]
    host = f"Host: 127.0.0.1:{urlsplit(aws.endpoint).port}"
    given = [] if key is None else [signed(key.format(key=real, lower=real.lower()))]
    answer = sent(aws.endpoint, first, host, *given, *TARGET, "X-Amz-Invocation-Type: Event", body=SCAN)
    assert b" 403 " in answer.splitlines()[0]


@pytest.mark.parametrize(
    "path", ["/moto-api/reset", "//moto-api/reset", "/Moto-Api/reset", "/moto-api/data.json", "/%6doto-api/"]
)
def test_the_controls_of_what_plays_aws_are_closed(aws: EmbeddedAws, path: str) -> None:
    """One simple request would wipe both tables."""
    host = f"Host: 127.0.0.1:{urlsplit(aws.endpoint).port}"
    key = signed(aws.environ["AWS_ACCESS_KEY_ID"])
    for method in ("GET", "POST", "PUT"):
        assert b" 403 " in sent(aws.endpoint, f"{method} {path} HTTP/1.1", host, key).splitlines()[0]
    assert {*aws.dynamodb.list_tables()["TableNames"]} == {JOBS_TABLE, FAILED_TABLE}


@pytest.mark.parametrize(
    "framing", ["Transfer-Encoding: chunked", "Content-Length: 3\r\nContent-Length: 3", "Content-Length: -1"]
)
def test_a_body_whose_end_is_in_doubt_is_not_read(aws: EmbeddedAws, framing: str) -> None:
    """One answer, and the connection is closed."""
    host = f"Host: 127.0.0.1:{urlsplit(aws.endpoint).port}"
    key = signed(aws.environ["AWS_ACCESS_KEY_ID"])
    answer = sent(aws.endpoint, "POST / HTTP/1.1", host, key, framing, *TARGET, body="3\r\nabc\r\n0\r\n\r\n")
    assert b" 403 " in answer.splitlines()[0]
    assert answer.count(b"HTTP/1.1 ") == 1


def test_each_run_has_a_key_of_its_own(aws: EmbeddedAws) -> None:
    """What its environment holds is enough for boto3, and another run cannot guess it."""
    assert boto3.client("dynamodb").scan(TableName=JOBS_TABLE)["Count"] == 0
    script = "from relayq_core.local.aws import _get_access_key; print(_get_access_key())"
    keys = {subprocess.check_output([sys.executable, "-c", script], text=True).strip() for _ in range(2)}
    assert len(keys | {aws.environ["AWS_ACCESS_KEY_ID"]}) == 3
    assert all(len(key) >= 32 for key in keys)


@pytest.mark.parametrize("page", PAGES)
def test_the_receiver_of_the_demo_hears_no_page(page: str) -> None:
    """It would count the call among those of the demo's webhook."""
    receiver = Receiver()
    try:
        host = f"Host: 127.0.0.1:{urlsplit(receiver.url).port}"
        assert b" 403 " in sent(receiver.url, "POST /orders HTTP/1.1", host, page).splitlines()[0]
        assert receiver.calls == []
    finally:
        receiver.close()
