"""Post a webhook: `post_webhook` sends JSON to a URL that may come from a stranger.

Such a URL must not lead the runner into its own network. Its host is resolved once, every address is checked, and the
connection goes to a checked address itself, so a name that resolves to another address a moment later gains nothing.
"""

from __future__ import annotations

import functools
import http.client
import io
import ipaddress
import json
import math
import os
import re
import socket
import ssl
import string
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import AfterValidator, Field

from jobs.domains import UnsafeDomain, encode_domain
from relayq_core import Bury, JobContext, RetryAfter, job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _typeshed import ReadableBuffer, WriteableBuffer

#: A receiver may ask for time, but not park a job without end.
_LONGEST_WAIT = 86_400
#: How much of a response body is read, and how much of that an error shows.
_BODY_BYTES = 4_096
_EXCERPT_CHARS = 200
#: How much of a line of the response's head is kept, and which headers are.
_LINE_BYTES = 65_536
_READ_HEADERS = {b"content-length", b"location", b"retry-after", b"transfer-encoding"}

#: Statuses that may be different next time, besides every 5xx.
_TEMPORARY = {http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS}

#: They belong to the connection, to a proxy on the way, or say how the body is encoded; set by a caller they could make
#: one request look like two, or make the receiver wait for data that never comes.
_OWN_HEADERS = {
    *("connection", "content-encoding", "content-length", "expect", "host", "http2-settings", "keep-alive"),
    *("proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_HOST = re.compile(r"[a-z0-9._-]+")
_PORTS = {"http": 80, "https": 443}

#: The longest label of a name in DNS.
_LABEL_CHARS = 63

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
#: In addition to what Python calls private, which differs between versions: protocol assignments, documentation, relays
#: of 6to4, and the address under which Azure's machines reach their host.
_NOT_PUBLIC: dict[int, tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]] = {
    4: tuple(
        map(
            ipaddress.IPv4Network,
            (
                *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
                *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
                *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
            ),
        )
    ),
    6: tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))),
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class WebhookFailed(Exception):
    """The webhook was not delivered, or not accepted; another attempt may succeed."""


@job(name="post_webhook", queue="webhooks", max_attempts=5, backoff=[10, 60, 300, 1800])
def post_webhook(
    context: JobContext,
    url: Url,
    payload: Any = None,
    *,
    headers: Headers | None = None,
    timeout: Seconds = 10,
    method: Method = "POST",
) -> dict[str, int]:
    """Send `payload` as JSON to `url`; any 2xx answer is success, and its status the result: {"status": 200}.

    Without a payload the body is empty. `timeout`, in seconds, limits the whole exchange except the lookup of the name.
    `headers` are added to `Content-Type`, `User-Agent` and `Idempotency-Key` (the job's id, the same on every attempt,
    so that the receiver can detect a repetition). All of this is stored with the job: put no secrets in it. To sign or
    authorize requests, write a job that reads its secret where it runs.

    Raises Bury for a 4xx other than 408 and 429, for a redirect (none is followed), and for a host with an address that
    is not public, unless the runner's environment has WEBHOOK_ALLOW_PRIVATE=true: that opens the runner's own network,
    and Lambda's runtime API, to the authors of URLs. Raises RetryAfter if the receiver says when to retry (at most a
    day is accepted), otherwise WebhookFailed: both are retried.
    """
    target = parse_target(url)
    peers = resolve_peers(target)
    if not _allows_private():
        refuse_private(target, peers)
    answer = send_request(
        target,
        peers,
        method=method,
        body=None if payload is None else json.dumps(payload).encode(),
        headers=build_headers(target, headers or {}, payload, key=context.idempotency_key),
        timeout=min(timeout, context.remaining()),
    )
    return read_result(answer, target, now=datetime.now(UTC))


# -- what is sent, and where ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL: where to connect, and what to request there."""

    scheme: str
    host: str
    port: int
    #: path and query, as in the request line
    path: str
    #: the name as it is looked up: with the dot at its end, if it has one
    lookup: str

    @property
    def authority(self) -> str:
        """The Host header: the name (an IPv6 address in brackets), and the port unless it is the usual."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What errors may show: no path and no query, since those often contain a token."""
        return f"{self.scheme}://{self.authority}"


def parse_target(url: str) -> Target:
    """Parse a URL. Raises ValueError, without showing the URL, if nothing can be posted there."""
    try:
        parts = urlsplit(url)
        scheme, lookup, port = parts.scheme, _encode_host(parts), parts.port
    except UnsafeDomain:
        raise ValueError("the host has no unambiguous ASCII form; give it in its xn-- form") from None
    except ValueError:
        problem = "expected a URL like https://example.com/hook, its host or port cannot be read"
        raise ValueError(problem) from None
    if scheme not in _PORTS:
        raise ValueError(f"expected a URL with http:// or https://, got the scheme {scheme[:20]!r}")
    if "@" in parts.netloc:
        raise ValueError("a URL with a user name or password is refused: it would be stored with the job")
    # only DNS uses the dot: certificates, SNI and Host are without it
    return Target(
        scheme, lookup.removesuffix("."), _PORTS[scheme] if port is None else port, _request_path(parts), lookup
    )


def _request_path(parts: SplitResult) -> str:
    """Return path and query as written, with what HTTP does not allow in its first line quoted."""
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    return f"{path or '/'}?{query}" if query else path or "/"


def _encode_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    host = encode_domain(host)
    labels = host.removesuffix(".").split(".")
    if not _HOST.fullmatch(host) or not all(0 < len(label) <= _LABEL_CHARS for label in labels):
        raise ValueError
    return host


def _validate_url(url: str) -> str:
    parse_target(url)
    return url


def _validate_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers, if HTTP allows them and a caller may set them. The error never shows a value."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is not the name of an HTTP header")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"the header {name!r} cannot be set: it belongs to the connection")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of header {name!r} holds characters that HTTP does not allow there")
    return headers


Url: TypeAlias = Annotated[str, AfterValidator(_validate_url)]
Headers: TypeAlias = Annotated[dict[str, str], AfterValidator(_validate_headers)]
Seconds: TypeAlias = Annotated[float, Field(gt=0)]
Method: TypeAlias = Literal["POST", "PUT", "PATCH", "DELETE", "GET"]


def build_headers(target: Target, given: Mapping[str, str], payload: Any, *, key: str) -> dict[str, str]:
    """Return the headers to send: ours, unless the caller overrides them, and those of the connection."""
    ours = {"User-Agent": "RelayQ", "Idempotency-Key": key}
    if payload is not None:
        ours["Content-Type"] = "application/json"
    named = {name.lower() for name in given}
    kept = {name: value for name, value in ours.items() if name.lower() not in named}
    return {"Host": target.authority, "Connection": "close", **kept, **given}


# -- where it may go -----------------------------------------------------------------------------------------


class Peer(NamedTuple):
    """An address that the host resolved to, in the form that connects to it and to nothing else."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    @property
    def ip(self) -> str:
        """The address as text."""
        return str(self.address[0])


def resolve_peers(target: Target) -> list[Peer]:
    """Return every address of the host, by one lookup. Raises WebhookFailed."""
    try:
        found = socket.getaddrinfo(target.lookup, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WebhookFailed(f"{target.host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(Peer(family, address) for family, _, _, _, address in found))


def refuse_private(target: Target, peers: Sequence[Peer]) -> None:
    """Raise Bury if any address of the host is not on the public internet."""
    for peer in peers:
        if not is_public(peer.ip):
            raise Bury(
                f"{target.origin} is refused: {peer.ip} is not a public address. If you trust all URLs that "
                "webhooks are posted to, set WEBHOOK_ALLOW_PRIVATE=true in the runner's environment"
            )


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet, and belongs to one host there."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if (inner := _extract_ipv4(ip)) is not None:
            return is_public(str(inner))
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC[ip.version])


def _extract_ipv4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for (mapped, NAT64), where the network will connect."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped


def _allows_private() -> bool:
    return os.environ.get("WEBHOOK_ALLOW_PRIVATE", "").strip().lower() in {"true", "1", "yes", "on"}


# -- the exchange --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The receiver's response."""

    status: int
    retry_after: str | None = None
    location: str | None = None
    excerpt: str = ""


def send_request(
    target: Target,
    peers: Sequence[Peer],
    *,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout: float,
) -> Answer:
    """Send one request over its own connection to one of the peers, and return the answer. Raises WebhookFailed."""
    deadline = _Deadline(timeout)
    try:
        with closing(_wrap_in_tls(_connect(peers, deadline), target, deadline)) as sock:
            timed = _TimedSocket(sock, deadline)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = cast("socket.socket", timed)
            # a receiver that refuses may hang up before it has read everything; its response says why
            with suppress(ConnectionError):
                connection.request(method, target.path, body, headers)
            return _read_answer(timed.makefile("rb"))
    except TimeoutError as error:
        raise WebhookFailed(f"{target.origin} did not answer within {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise WebhookFailed(f"{target.origin} gave no answer: {type(error).__name__}: {error}") from error


class _Deadline:
    """The time by which an exchange must be over."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until then. Raises TimeoutError if none are left."""
        left = self._ends_at - monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _connect(peers: Sequence[Peer], deadline: _Deadline) -> socket.socket:
    """Connect to the first peer that accepts; each gets its share of the time."""
    refusal = OSError("the host has no address")
    for tried, peer in enumerate(peers):
        share = deadline.left() / (len(peers) - tried)
        try:
            return _connect_to(peer, share)
        except OSError as error:
            refusal = error
    raise refusal


def _connect_to(peer: Peer, timeout: float) -> socket.socket:
    with ExitStack() as on_error:
        sock = on_error.enter_context(socket.socket(peer.family, socket.SOCK_STREAM))
        sock.settimeout(timeout)
        sock.connect(peer.address)
        # the body follows the headers at once, instead of waiting for their acknowledgement
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        on_error.pop_all()
    return sock


def _wrap_in_tls(sock: socket.socket, target: Target, deadline: _Deadline) -> socket.socket:
    """Wrap the connection in TLS for https: the certificate must name the URL's host, not the address."""
    if target.scheme == "http":
        return sock
    with ExitStack() as on_error:
        on_error.enter_context(sock)
        sock.settimeout(deadline.left())
        secured = build_tls_context().wrap_socket(sock, server_hostname=target.host)
        on_error.pop_all()
    return secured


@functools.cache
def build_tls_context() -> ssl.SSLContext:
    """Build the context that verifies certificates by the system's authorities; once, since that file is large."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _TimedSocket(io.RawIOBase):
    """The part of a socket that http.client needs, with every wait cut off at one deadline.

    A socket's own timeout restarts with each byte: a receiver that sends slowly could hold the runner for hours.
    """

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: ReadableBuffer) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        """Do nothing: send_request() closes the socket."""


def _read_answer(stream: io.BufferedReader) -> Answer:
    """Read the answer that ends the exchange: the first that is not an interim one, which RFC 9110 says to skip.

    http.client skips only 100, and refuses a response with many or long headers, although its sender may have accepted
    the payload: what matters here is the status, and few headers. Raises HTTPException if it is not HTTP.
    """
    while True:
        status = _read_status(stream)
        headers = _read_headers(stream)
        if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            break
    return Answer(
        status=status,
        retry_after=headers.get(b"retry-after"),
        location=headers.get(b"location"),
        excerpt="" if 200 <= status < 300 else _make_excerpt(_read_beginning(stream, headers)),
    )


def _read_status(stream: io.BufferedReader) -> int:
    line = _read_line(stream)
    if not line:
        raise http.client.RemoteDisconnected("the connection was closed without an answer")
    version, _, rest = line.partition(b" ")
    code = rest.split(maxsplit=1)[0] if rest.strip() else b""
    if not version.startswith(b"HTTP/1.") or not re.fullmatch(rb"[1-9][0-9]{2}", code):
        raise http.client.BadStatusLine(_make_excerpt(line))
    return int(code)


def _read_headers(stream: io.BufferedReader) -> dict[bytes, str]:
    """Return the headers that are used, by their names in lower case; any number of others is read and dropped."""
    headers: dict[bytes, str] = {}
    while (line := _read_line(stream)) not in {b"", b"\n", b"\r\n"}:
        name, _, value = line.partition(b":")
        if (name := name.strip().lower()) in _READ_HEADERS:
            headers.setdefault(name, value.decode("latin-1").strip())
    return headers


def _read_line(stream: io.BufferedReader) -> bytes:
    """Return the next line, or nothing at the end; only the start of a long one. Raises HTTPException if it is cut."""
    line = rest = stream.readline(_LINE_BYTES)
    while len(line) == _LINE_BYTES and not rest.endswith(b"\n"):
        rest = stream.readline(_LINE_BYTES)
        if not rest:
            raise http.client.IncompleteRead(b"")
    return line


def _read_beginning(stream: io.BufferedReader, headers: Mapping[bytes, str]) -> bytes:
    """Return the first piece of the body. The status is known by now, so no failure matters here."""
    try:
        length = _BODY_BYTES
        if headers.get(b"transfer-encoding", "").lower().endswith("chunked"):
            length = int(_read_line(stream).partition(b";")[0], 16)
        elif headers.get(b"content-length") == "0":
            length = 0
        return stream.read1(max(0, min(length, _BODY_BYTES)))
    except (OSError, ValueError, http.client.HTTPException):
        return b""


def _make_excerpt(body: bytes) -> str:
    words = " ".join(body.decode(errors="replace").split())
    return "".join(char for char in words if char.isprintable())[:_EXCERPT_CHARS]


# -- what the answer means -----------------------------------------------------------------------------------


def read_result(answer: Answer, target: Target, *, now: datetime) -> dict[str, int]:
    """Return the job's result. Raises Bury, RetryAfter or WebhookFailed if the answer is not a success."""
    status = answer.status
    summary = f"{target.origin} answered {status}" + (f": {answer.excerpt}" if answer.excerpt else "")
    match status // 100:
        case 2:
            return {"status": status}
        case 3:
            raise Bury(
                f"{target.origin} answered {status}, a redirect{_describe_redirect(answer.location)}; redirects are "
                "not followed: dispatch the job with the final URL"
            )
        case 4 if status not in _TEMPORARY:
            raise Bury(summary)
    wait = read_retry_after(answer.retry_after, now=now)
    raise WebhookFailed(summary) if wait is None else RetryAfter(wait, summary)


def _describe_redirect(location: str | None) -> str:
    try:
        return f" to {parse_target(location or '').origin}"
    except ValueError:  # not a URL, or one without a host: then it is the same host
        return ""


def read_retry_after(retry_after: str | None, *, now: datetime) -> float | None:
    """Return the seconds until the time that a Retry-After header names, as seconds or as a date, at most a day.

    None if it names none, cannot be read, or is in the past: then the backoff decides.
    """
    try:
        seconds = _count_seconds_until((retry_after or "").strip(), now)
    except (ValueError, OverflowError):
        return None
    return min(seconds, _LONGEST_WAIT) if seconds > 0 else None


def _count_seconds_until(retry_after: str, now: datetime) -> float:
    if re.fullmatch(r"[0-9]+", retry_after):
        return int(retry_after)
    when = parsedate_to_datetime(retry_after)
    # a date without a zone is in UTC, as every date in HTTP
    return math.ceil((when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())
