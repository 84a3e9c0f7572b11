"""The webhook job, against receivers on real sockets: what is sent, where it may go, what answers mean."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jobs.webhook
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jobs.webhook import Answer, WebhookFailed, is_public, parse_target, post_webhook, read_result, read_retry_after

from relayq_core import Bury, InvalidPayload, JobContext, RetryAfter

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
HOOK = parse_target("https://hooks.example/in")


def a_context(**changes: Any) -> JobContext:
    """The context of a first attempt with a minute left."""
    fields: dict[str, Any] = {
        "job_id": "job-1",
        "name": "post_webhook",
        "queue": "webhooks",
        "attempt": 1,
        "max_attempts": 5,
        "deadline_ms": 60_000,
        "_now": lambda: 0,
        "_report": lambda note: True,
    }
    return JobContext(**{**fields, **changes})


post = partial(post_webhook, a_context())


# -- receivers -----------------------------------------------------------------------------------------------


@dataclass
class Received:
    """A request as the receiver saw it."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Receiver:
    """A web server on loopback that keeps what it is sent, and answers with the test's status, else with 200."""

    port: int
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    server_names: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    def answers(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(port=0, scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests.append(Received(self.command, self.path, self.headers, body))
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(receiver.body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET = answer

        def log_message(self, *_: Any) -> None:
            """Keep the test's output to the test."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        if tls is not None:
            tls.set_servername_callback(lambda _sock, name, _context: receiver.server_names.append(name))
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that treats its one visitor as `talk` says, and HTTP as it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError), closing(server.accept()[0]) as visitor:
                talk(visitor)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        finally:
            thread.join()


@pytest.fixture
def private_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers of these tests are on loopback."""
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", "true")


@pytest.fixture
def receiver(private_allowed: None) -> Iterator[Receiver]:
    """A receiver that may be posted to."""
    with receiving() as receiver:
        yield receiver


@dataclass
class Dns:
    """Names and the addresses they lead to, one list per lookup; the last one stays."""

    names: dict[str, list[list[str]]] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    def lookup(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.lookups.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        turns = self.names[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [_found(address, port) for address in addresses]


def _found(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    """A name service that says what the test wants it to."""
    dns = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", dns.lookup)
    return dns


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that a connection was opened to; none of them answers."""
    tried: list[Any] = []

    def connect(_sock: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


# -- what is sent --------------------------------------------------------------------------------------------


def test_a_payload_arrives_as_json(receiver: Receiver) -> None:
    """The promise in one line; the headers are what a receiver needs to trust and to deduplicate."""
    assert post(receiver.url, {"order": 7, "name": "Zoë"}) == {"status": 200}
    [request] = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert json.loads(request.body) == {"order": 7, "name": "Zoë"}
    assert dict(request.headers) == {
        "Host": f"127.0.0.1:{receiver.port}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Length": str(len(request.body)),
        "Content-Type": "application/json",
        "Idempotency-Key": "job-1",
        "User-Agent": "RelayQ",
    }


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(receiver: Receiver, status: int) -> None:
    """Receivers differ in how they say thanks; the result keeps which it was."""
    receiver.answers(status)
    assert post(receiver.url, {}) == {"status": status}


def test_a_row_written_by_name_is_run_with_the_context(receiver: Receiver) -> None:
    """The runner builds the job from JSON alone; a field that a newer caller adds is no reason to fail."""
    row = json.dumps({"url": receiver.url, "payload": [1], "added_later": True})
    built, ignored = post_webhook.__relayq_type__.build(row)
    assert built.handle(a_context) == {"status": 200}
    assert (receiver.requests[0].body, ignored) == (b"[1]", ["added_later"])


def test_without_a_payload_the_body_is_empty(receiver: Receiver) -> None:
    """Build hooks and heartbeats want nothing but the request."""
    post(receiver.url)
    [request] = receiver.requests
    assert (request.body, request.headers["Content-Length"]) == (b"", "0")
    assert request.headers["Content-Type"] is None


@pytest.mark.parametrize("payload", [0, False, "", [], {}])
def test_a_payload_that_is_empty_is_still_a_payload(receiver: Receiver, payload: Any) -> None:
    """`{}` and nothing are not the same to a receiver that parses what it gets."""
    post(receiver.url, payload)
    assert receiver.requests[0].body == json.dumps(payload).encode()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET"])
def test_another_method_is_used_when_asked_for(receiver: Receiver, method: Any) -> None:
    """Some services want PUT or PATCH."""
    post(receiver.url, {"a": 1}, method=method)
    assert (receiver.requests[0].method, receiver.requests[0].body) == (method, b'{"a": 1}')


def test_the_callers_headers_are_added_and_win_over_ours(receiver: Receiver) -> None:
    """CloudEvents has its own content type, and a business may have its own key."""
    post(receiver.url, {}, headers={"content-type": "application/cloudevents+json", "X-Event": "paid"})
    sent = receiver.requests[0].headers
    assert sent.get_all("Content-Type") == ["application/cloudevents+json"]
    assert (sent["X-Event"], sent["User-Agent"]) == ("paid", "RelayQ")


def test_every_attempt_has_the_same_idempotency_key(receiver: Receiver) -> None:
    """A lost answer leads to a second delivery: the key is how the receiver recognises it."""
    for attempt in (1, 2):
        post_webhook(a_context(job_id="job-7", attempt=attempt), receiver.url, {})
    assert [request.headers["Idempotency-Key"] for request in receiver.requests] == ["job-7", "job-7"]


def test_path_and_query_arrive_as_they_were_written(receiver: Receiver) -> None:
    """A token in a URL must not be re-encoded; what HTTP cannot carry must be, and a fragment stays here."""
    post(f"http://127.0.0.1:{receiver.port}/a%2Fb/ü x?token=a+b%20c&q=[1]~é#here")
    assert receiver.requests[0].path == "/a%2Fb/%C3%BC%20x?token=a+b%20c&q=[1]~%C3%A9"


# -- the payload is checked where it is dispatched -----------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.com/secret-token", "http:// or https://"),
        ("file:///secret-token", "host or port cannot be read"),
        ("//example.com/secret-token", "http:// or https://"),
        ("secret-token", "host or port cannot be read"),
        ("", "host or port cannot be read"),
        ("http://", "host or port cannot be read"),
        ("http://example.com:port/secret-token", "host or port cannot be read"),
        ("http://example.com:70000/secret-token", "host or port cannot be read"),
        ("http://[::1/secret-token", "host or port cannot be read"),
        ("http://exa mple.com/secret-token", "host or port cannot be read"),
        ("http://example..com/secret-token", "host or port cannot be read"),
        (f"http://{'a' * 64}.example/secret-token", "host or port cannot be read"),
        ("http://example.com../secret-token", "host or port cannot be read"),
        ("http://./secret-token", "host or port cannot be read"),
        ("https://faß.example/secret-token", "xn-- form"),
        ("https://κλαρα-σωλις.example/secret-token", "xn-- form"),
        ("https://a\u200db.example/secret-token", "xn-- form"),
        ("https://a\u200cb.example/secret-token", "xn-- form"),
        ("http://user:secret-token@example.com/", "user name or password"),
        ("http://@example.com/secret-token", "user name or password"),
    ],
)
def test_a_url_that_nothing_can_be_posted_to_is_refused_at_dispatch(url: str, problem: str) -> None:
    """The caller hears of it at once; and a URL may hold a token, so no message shows it."""
    with pytest.raises(InvalidPayload, match=problem) as refused:
        post_webhook.job(url)
    assert refused.value.field == "url"
    assert "secret-token" not in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"X-A": "secret-token\r\nX-B: 1"}, "characters that HTTP does not allow"),
        ({"X-A": "secret-token ✉"}, "characters that HTTP does not allow"),
        ({"X A": "secret-token"}, "not the name of an HTTP header"),
        ({"": "secret-token"}, "not the name of an HTTP header"),
        ({"Host": "secret-token"}, "belongs to the connection"),
        *(
            ({name: "secret-token"}, "belongs to the connection")
            for name in (
                *("transfer-encoding", "Content-Length", "Content-Encoding", "EXPECT", "Proxy-Authorization", "te"),
                *("Proxy-Connection", "Connection", "Upgrade", "HTTP2-Settings", "Keep-Alive", "Trailer"),
            )
        ),
    ],
)
def test_a_header_that_could_bend_the_request_is_refused_at_dispatch(headers: dict[str, str], problem: str) -> None:
    """A line break in a value would be a header, or a second request, that another party wrote."""
    with pytest.raises(InvalidPayload, match=problem) as refused:
        post_webhook.job("https://hooks.example/in", headers=headers)
    assert "secret-token" not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1}, {"timeout": "soon"}, {"method": "TRACE"}])
def test_a_timeout_or_a_method_that_cannot_be_is_refused_at_dispatch(wrong: dict[str, Any]) -> None:
    """Better here than five attempts later."""
    with pytest.raises(InvalidPayload) as refused:
        post_webhook.job("https://hooks.example/in", **wrong)
    assert refused.value.field == next(iter(wrong))


def test_a_sound_request_is_stored_as_it_was_given() -> None:
    """What validates must not change on its way to the table."""
    request = post_webhook.job("https://hooks.example/in", {"a": 1}, headers={"X-A": "1"}, timeout=2.5)
    assert request.name == "post_webhook"
    assert request.payload == {
        "url": "https://hooks.example/in",
        "payload": {"a": 1},
        "headers": {"X-A": "1"},
        "timeout": 2.5,
    }


@pytest.mark.parametrize(
    ("url", "authority", "port", "path"),
    [
        ("https://Hooks.Example", "hooks.example", 443, "/"),
        ("http://hooks.example:80/a", "hooks.example", 80, "/a"),
        ("https://hooks.example:80?b=1", "hooks.example:80", 80, "/?b=1"),
        ("http://hooks.example:0/", "hooks.example:0", 0, "/"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "/"),
        ("http://[2001:DB8::1]:8080/", "[2001:db8::1]:8080", 8080, "/"),
        ("https://[2001:db8::1]/", "[2001:db8::1]", 443, "/"),
        ("https://hooks.example./", "hooks.example", 443, "/"),
        ("https://bücher.example.:8443/", "xn--bcher-kva.example:8443", 8443, "/"),
        ("https://xn--fa-hia.example/", "xn--fa-hia.example", 443, "/"),
    ],
)
def test_a_url_is_taken_apart_as_http_wants_it(url: str, authority: str, port: int, path: str) -> None:
    """The Host header and the request line are made here, not by a library that would connect on its own."""
    target = parse_target(url)
    assert (target.authority, target.port, target.path) == (authority, port, path)


# -- where it may go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",  # where Lambda's runtime API is
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",  # where a server's credentials are
        "169.254.100.1",
        "192.0.0.1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.51.100.1",
        "203.0.113.1",
        "168.63.129.16",  # where a machine of Azure's finds its host
        "100.100.100.200",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::1]",
        "[2001:0:1::1]",
        "[2001:db8::1]",
        "[2001:1::1]",
        "[2001:20::1]",
        "[3fff::1]",
        "[3fff:fff:ffff::1]",
        "[5f00::1]",
        "[::ffff:168.63.129.16]",
        "[64:ff9b::168.63.129.16]",
        "[2002:a83f:8110::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[ff0e::1]",
    ],
)
def test_an_address_that_is_not_public_is_refused(host: str, connects: list[Any]) -> None:
    """A caller who may name a URL must not reach the runner's own network, however the address is spelt."""
    with pytest.raises(Bury, match=r"is not a public address.*WEBHOOK_ALLOW_PRIVATE"):
        post(f"http://{host}:9001/2018-06-01/runtime/invocation/next", {})
    assert connects == []


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_a_public_address_is_not_refused(address: str) -> None:
    """NAT64 is how IPv6 subnets reach most of the internet: such an address is judged by the one inside."""
    assert is_public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse(dns: Dns, connects: list[Any]) -> None:
    """Otherwise a failed connection to the first would lead to the second."""
    dns.names["hooks.example"] = [["93.184.215.14", "10.0.0.5"]]
    with pytest.raises(Bury, match=r"https://hooks.example is refused: 10\.0\.0\.5"):
        post("https://hooks.example/in", {})
    assert connects == []


def test_a_name_is_resolved_once_and_only_judged_addresses_are_connected_to(dns: Dns, connects: list[Any]) -> None:
    """DNS rebinding: public when it is judged, loopback a moment later. There is no later."""
    dns.names["hooks.example"] = [["93.184.215.14", "2606:4700::1"], ["127.0.0.1"]]
    with pytest.raises(WebhookFailed):
        post("https://hooks.example/in", {})
    assert dns.lookups == ["hooks.example"]
    assert connects == [("93.184.215.14", 443), ("2606:4700::1", 443, 0, 0)]


@pytest.mark.usefixtures("private_allowed")
def test_a_rebound_name_still_reaches_the_first_answer(dns: Dns) -> None:
    """The same with a real receiver: the bytes go where the judged address is."""
    with receiving() as receiver:
        dns.names["hooks.example"] = [["127.0.0.1"], ["203.0.113.1"]]
        assert post(f"http://hooks.example:{receiver.port}/in", {}) == {"status": 200}
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("setting", ["", "false", "0", "no", "maybe"])
def test_only_a_clear_yes_opens_private_addresses(
    setting: str, monkeypatch: pytest.MonkeyPatch, connects: list[Any]
) -> None:
    """The template sets "false"; whatever is not understood must not open a door."""
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", setting)
    with pytest.raises(Bury):
        post("http://127.0.0.1:9001/", {})
    assert connects == []


def test_the_next_address_is_tried_when_one_refuses(receiver: Receiver, dns: Dns) -> None:
    """A host with an IPv6 address is no reason to fail on a network without IPv6."""
    dns.names["hooks.example"] = [["127.0.0.2", "127.0.0.1"]]
    assert post(f"http://hooks.example:{receiver.port}/in", {}) == {"status": 200}


def test_a_system_without_ipv6_goes_on_to_ipv4(receiver: Receiver, dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the socket itself cannot be made; the name service hands out such addresses all the same."""

    class OldSocket(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError("Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", OldSocket)
    dns.names["hooks.example"] = [["::1", "127.0.0.1"]]
    assert post(f"http://hooks.example:{receiver.port}/in", {}) == {"status": 200}


def test_an_address_that_swallows_packets_leaves_time_for_the_next(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead address of a host that is up must not use up the whole timeout on every attempt."""
    waits: list[float | None] = []

    def connect(sock: socket.socket, _address: Any) -> None:
        waits.append(sock.gettimeout())
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", connect)
    dns.names["hooks.example"] = [["93.184.215.14", "93.184.215.15"]]
    with pytest.raises(WebhookFailed, match="did not answer within 10 s"):
        post("https://hooks.example/in", {})
    first, second = waits
    assert first is not None
    assert second is not None
    assert 0 < first <= 5 < second <= 10


# -- what an answer means ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
def test_a_refusal_is_buried_with_what_the_receiver_said(receiver: Receiver, status: int) -> None:
    """The same request would be refused again, and its owner needs the reason."""
    receiver.answers(status, b'{"error":\n  "no such\x00 order"}')
    with pytest.raises(Bury) as buried:
        post(receiver.url, {})
    assert str(buried.value) == (f'http://127.0.0.1:{receiver.port} answered {status}: {{"error": "no such order"}}')


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_an_answer_that_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    """Any exception but Bury is a retry, with the job's backoff."""
    receiver.answers(status, b"busy")
    with pytest.raises(WebhookFailed, match=f"answered {status}: busy"):
        post(receiver.url, {})


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_buried_and_not_followed(receiver: Receiver, status: int) -> None:
    """It could lead to an address that was never judged, or show the payload to another party."""
    with receiving() as elsewhere:
        receiver.answers(status, Location=elsewhere.url + "?token=secret-token")
        with pytest.raises(Bury) as buried:
            post(receiver.url, {})
    assert elsewhere.requests == []
    assert str(buried.value) == (
        f"http://127.0.0.1:{receiver.port} answered {status}, a redirect to "
        f"http://127.0.0.1:{elsewhere.port}; redirects are not followed: dispatch the job with the final URL"
    )


@pytest.mark.parametrize("location", [None, "", "/elsewhere", "http://[", "http://user@host/"])
def test_a_redirect_to_nowhere_is_reported_without_it(location: str | None) -> None:
    """A Location that is relative, broken or missing must not hide the answer."""
    with pytest.raises(Bury, match="answered 302, a redirect; redirects"):
        read_result(Answer(status=302, location=location), HOOK, now=NOW)


def test_an_error_shows_little_of_the_body_and_nothing_of_the_path(receiver: Receiver) -> None:
    """The path of many a webhook is its password, and its error page is a book."""
    receiver.answers(500, b"x" * 1_000_000)
    with pytest.raises(WebhookFailed) as failed:
        post(receiver.url + "/secret-token?key=secret-token", {})
    assert "secret-token" not in str(failed.value)
    assert len(str(failed.value)) < 300


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retry_after_in_seconds_is_obeyed(receiver: Receiver, status: int) -> None:
    """A receiver that says when to come back is not asked again before."""
    receiver.answers(status, b"busy", Retry_After="7")
    with pytest.raises(RetryAfter, match=f"answered {status}: busy") as asked:
        post(receiver.url, {})
    assert asked.value.seconds == 7


def test_retry_after_as_a_date_is_obeyed() -> None:
    """HTTP has both forms, and servers use both."""
    busy = Answer(status=503, retry_after="Tue, 01 Jan 2030 12:02:00 GMT")
    with pytest.raises(RetryAfter) as asked:
        read_result(busy, HOOK, now=NOW)
    assert asked.value.seconds == 120


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("1", 1),
        (" 90 ", 90),
        ("86400", 86_400),
        ("999999999", 86_400),
        ("Tue, 01 Jan 2030 12:00:30 GMT", 30),
        ("Tuesday, 01-Jan-30 12:00:30 GMT", 30),
        ("Tue Jan  1 12:00:30 2030", 30),
        ("Tue, 01 Jan 2030 13:00:30 +0100", 30),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86_400),
        (None, None),
        ("", None),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("²", None),
        ("9" * 5_000, None),
        ("Tue, 01 Jan 2030 11:59:00 GMT", None),
        ("Tue, 99 Jan 2030 12:00:00 GMT", None),
        ("Tue, 01 Jan 99999999999 12:00:00 GMT", None),
        (", ,", None),
    ],
)
def test_retry_after_is_read_in_every_form_and_never_trusted_too_far(
    retry_after: str | None, seconds: float | None
) -> None:
    """At most a day; what cannot be read, or has passed, leaves it to the backoff."""
    assert read_retry_after(retry_after, now=NOW) == seconds


def test_retry_after_does_not_save_what_is_refused() -> None:
    """A 403 that says "later" is a 403."""
    with pytest.raises(Bury):
        read_result(Answer(status=403, retry_after="7"), HOOK, now=NOW)


# -- when there is no answer ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("private_allowed")
def test_a_receiver_that_is_down_is_tried_again() -> None:
    """A deploy of theirs must not cost a job of ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(WebhookFailed, match=f"http://127.0.0.1:{port} gave no answer: ConnectionRefusedError"):
        post(f"http://127.0.0.1:{port}/", {})


def test_a_name_that_cannot_be_resolved_is_tried_again(dns: Dns) -> None:
    """Name services fail too."""
    with pytest.raises(WebhookFailed, match=r"hooks\.example cannot be resolved"):
        post("https://hooks.example/in", {})


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 two hundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1",
        b"HTTP/1.1 20",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nnothing more\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_tried_again(answer: bytes) -> None:
    """A proxy in trouble says anything, or hangs up."""

    def talk(visitor: socket.socket) -> None:
        visitor.recv(65_536)
        visitor.sendall(answer)

    with talking(talk) as url, pytest.raises(WebhookFailed, match="gave no answer") as failed:
        post(url, {})
    assert len(str(failed.value)) < 300


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(
    "answer",
    [
        HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        HINTS * 50 + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + HINTS + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 199 Whatever\r\nX: " + b"x" * 200_000 + b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 \xff\xfe\r\n\xff: \xfe\0\r\nno colon\r\n folded\r\n: no name\r\n\r\n",
        b"HTTP/1.1  200  OK\r\n\r\n",
        b"HTTP/1.0 200 OK\n\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nContent-Length: 7\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno chunk",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip",
    ],
)
def test_whatever_stands_around_a_success_it_is_one(answer: bytes) -> None:
    """The receiver has it: to send it again, and to count it as failed in the end, would be wrong twice."""

    def talk(visitor: socket.socket) -> None:
        received = b""
        while not received.endswith(b"{}"):
            received += visitor.recv(65_536)
        visitor.sendall(answer)

    with talking(talk) as url:
        assert post(url, {}) == {"status": 200}


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(
    ("answer", "excerpt"),
    [
        (HINTS + b"HTTP/1.1 400 Bad\r\n\r\nno such hook", "answered 400: no such hook"),
        (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nnone\r\n0\r\n\r\n", "answered 400: none"),
        (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnone", "answered 400"),
        (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nnone", "answered 400"),
        (b"HTTP/1.1 400 Bad\r\n" + b"X: x\r\n" * 500 + b"\r\nnone", "answered 400: none"),
    ],
)
def test_a_refusal_is_heard_whatever_stands_around_it(answer: bytes, excerpt: str) -> None:
    """The status decides, and as much of the body as can be read is shown."""

    def talk(visitor: socket.socket) -> None:
        visitor.recv(65_536)
        visitor.sendall(answer)

    with talking(talk) as url, pytest.raises(Bury) as buried:
        post(url, {})
    assert str(buried.value).endswith(excerpt)


@pytest.mark.usefixtures("private_allowed")
def test_a_connection_that_would_be_switched_is_no_success() -> None:
    """Nothing was asked to be switched, and nothing that follows is HTTP."""

    def talk(visitor: socket.socket) -> None:
        visitor.recv(65_536)
        visitor.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    with talking(talk) as url, pytest.raises(WebhookFailed, match="answered 101"):
        post(url, {})


@pytest.mark.usefixtures("private_allowed")
def test_a_receiver_that_hints_without_end_is_given_up() -> None:
    """Every interim answer comes in time, the final one never."""

    def talk(visitor: socket.socket) -> None:
        while True:
            visitor.sendall(HINTS)
            threading.Event().wait(0.02)

    with talking(talk) as url, pytest.raises(WebhookFailed, match=r"did not answer within 0\.2 s"):
        post(url, {}, timeout=0.2)


@pytest.mark.usefixtures("private_allowed")
def test_a_receiver_that_says_nothing_is_given_up() -> None:
    """A runner that waits is billed."""

    def talk(visitor: socket.socket) -> None:
        while visitor.recv(65_536):
            pass

    with talking(talk) as url, pytest.raises(WebhookFailed, match=r"did not answer within 0\.2 s"):
        post(url, {}, timeout=0.2)


@pytest.mark.usefixtures("private_allowed")
def test_a_receiver_that_drips_is_given_up() -> None:
    """Each byte in time, the answer never: a socket's own timeout would wait forever, and this test too."""

    def talk(visitor: socket.socket) -> None:
        visitor.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            visitor.sendall(b"x")
            threading.Event().wait(0.02)

    with talking(talk) as url, pytest.raises(WebhookFailed, match=r"did not answer within 0\.2 s"):
        post(url, {}, timeout=0.2)


@pytest.mark.usefixtures("private_allowed")
def test_no_webhook_outlives_the_job() -> None:
    """The runner stops the handler at its deadline anyway; then no error would say who was waited for."""

    def talk(visitor: socket.socket) -> None:
        while visitor.recv(65_536):
            pass

    context = a_context(deadline_ms=200)
    with talking(talk) as url, pytest.raises(WebhookFailed, match=r"did not answer within 0\.2 s"):
        post_webhook(context, url, {}, timeout=3600)


@pytest.mark.usefixtures("private_allowed")
def test_a_success_whose_body_breaks_off_is_a_success() -> None:
    """The receiver has said that it has it; to post again would be to post twice."""

    def talk(visitor: socket.socket) -> None:
        visitor.recv(65_536)
        visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")

    with talking(talk) as url:
        assert post(url, {}) == {"status": 200}


@pytest.mark.usefixtures("private_allowed")
def test_a_success_whose_body_never_comes_is_a_success() -> None:
    """The same with a receiver that keeps the connection and its peace."""

    def talk(visitor: socket.socket) -> None:
        visitor.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while visitor.recv(65_536):
            pass

    with talking(talk) as url:
        assert post(url, {}, timeout=0.2) == {"status": 200}


@pytest.mark.usefixtures("private_allowed")
def test_a_receiver_that_refuses_before_it_has_read_everything_is_heard() -> None:
    """It hangs up while the payload is still being sent: the broken pipe is not the news, the 413 is."""

    def talk(visitor: socket.socket) -> None:
        visitor.recv(1)
        visitor.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")

    with talking(talk) as url, pytest.raises(Bury, match="answered 413"):
        post(url, "x" * 16_000_000)


# -- TLS -----------------------------------------------------------------------------------------------------


@dataclass
class Authority:
    """A certificate authority that lives as long as a test."""

    folder: Path

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.key = ec.generate_private_key(ec.SECP256R1())
        ca = x509.BasicConstraints(ca=True, path_length=0)
        usage = _key_usage(key_cert_sign=True)
        certificate = (
            self._builder(self.name, self.key)
            .add_extension(ca, critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = self.folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, *names: str) -> ssl.SSLContext:
        """What a server needs to prove that it is one of these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), key)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = self.folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_allowed: None) -> Iterator[Authority]:
    """An authority that this process trusts, as it would the system's."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    jobs.webhook.build_tls_context.cache_clear()
    yield authority
    jobs.webhook.build_tls_context.cache_clear()


def test_tls_proves_the_name_in_the_url_not_the_address(authority: Authority, dns: Dns) -> None:
    """The connection goes to a judged address; certificate, server name and Host must still be the URL's."""
    dns.names["hooks.example"] = [["127.0.0.1"]]
    with receiving(authority.server_context("hooks.example")) as receiver:
        assert post(f"https://hooks.example:{receiver.port}/in", {"a": 1}) == {"status": 200}
    assert receiver.server_names == ["hooks.example"]
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"
    assert receiver.requests[0].body == b'{"a": 1}'


def test_a_dot_at_the_end_of_a_name_is_for_the_lookup_alone(authority: Authority, dns: Dns) -> None:
    """It spares the search list of the resolver; no certificate has it, and SNI and Host must not."""
    dns.names["hooks.example."] = [["127.0.0.1"]]
    with receiving(authority.server_context("hooks.example")) as receiver:
        assert post(f"https://hooks.example.:{receiver.port}/in", {"a": 1}) == {"status": 200}
    assert dns.lookups == ["hooks.example."]
    assert receiver.server_names == ["hooks.example"]
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"


def test_an_address_in_the_url_is_proved_too(authority: Authority) -> None:
    """https://127.0.0.1 is a name like any other, if a certificate has it."""
    with receiving(authority.server_context("127.0.0.1")) as receiver:
        assert post(receiver.url, {}) == {"status": 200}


@pytest.mark.parametrize("proved", ["other.example", "127.0.0.1"])
def test_a_certificate_for_another_name_gets_no_payload(authority: Authority, dns: Dns, proved: str) -> None:
    """The address that is connected to will not do either."""
    dns.names["hooks.example"] = [["127.0.0.1"]]
    with (
        receiving(authority.server_context(proved)) as receiver,
        pytest.raises(WebhookFailed, match=r"SSLCertVerificationError.*hooks\.example"),
    ):
        post(f"https://hooks.example:{receiver.port}/in", {})
    assert receiver.requests == []


def test_a_certificate_of_an_unknown_authority_gets_no_payload(authority: Authority, tmp_path: Path) -> None:
    """No authority vouches for it."""
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger")
    with (
        receiving(stranger.server_context("127.0.0.1")) as receiver,
        pytest.raises(WebhookFailed, match="SSLCertVerificationError"),
    ):
        post(receiver.url, {})
    assert receiver.requests == []


def test_https_to_a_server_without_tls_is_tried_again(receiver: Receiver) -> None:
    """A port mixed up, or a proxy half way through its start."""
    with pytest.raises(WebhookFailed, match="SSLError"):
        post(f"https://127.0.0.1:{receiver.port}/", {})


# -- the module ----------------------------------------------------------------------------------------------


def test_importing_the_job_loads_no_boto3() -> None:
    """A process that only dispatches it should not pay for what it never uses."""
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", "import sys, jobs.webhook; print('boto3' in sys.modules)"],
        env={"PYTHONPATH": os.pathsep.join(map(str, [repository, repository / "functions/runner"]))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
