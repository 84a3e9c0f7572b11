"""HANDOFF=http against a real HTTP server: whatever it does, the job is safe, and the token is shown to no one."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3

from relayq_core import RelayQ, Settings, SettingsError, Status
from relayq_core.adapters import http_handoff
from relayq_core.adapters.http_handoff import HttpHandoff
from relayq_core.adapters.secrets import LIFETIME_MS, PAUSE_MS, HttpTokens, TokensUnread
from relayq_core.errors import HandoffRefused
from relayq_core.testing import ManualClock, MemoryStore

TOKEN = "a-token-that-nobody-may-see"


@dataclass
class Endpoint:
    """What the server was asked, and what it answers with: a status, or a function that does it another way."""

    url: str = ""
    answer: int | Callable[[BaseHTTPRequestHandler], None] = 202
    body: bytes = b"{}"
    connections: int = 0
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A server on this machine that keeps connections alive, as a Function URL does."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            state.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.asked.append((self.command, self.path, headers, body))
            if callable(state.answer):
                state.answer(self)
                return
            self.send_response(state.answer)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/_relayq/run"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def handoff(endpoint: Endpoint) -> Iterator[HttpHandoff]:
    """The adapter, pointed at that server."""
    made = HttpHandoff(endpoint.url, lambda: TOKEN)
    yield made
    made.close()


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Hang up without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf")


def babble(handler: BaseHTTPRequestHandler) -> None:
    """Speak another protocol."""
    handler.close_connection = True
    handler.wfile.write(b"220 ready\r\n")


def test_the_body_is_the_message_that_a_runner_is_given(endpoint: Endpoint, handoff: HttpHandoff) -> None:
    """One shape, whichever way a handoff takes."""
    handoff.offer("job-1", "emails", 1_767_225_600_000, name="send_email")
    ((method, path, headers, body),) = endpoint.asked
    assert (method, path, json.loads(body)) == (
        "POST",
        "/_relayq/run",
        {"job_id": "job-1", "run_at": 1_767_225_600_000, "queue": "emails", "name": "send_email"},
    )
    assert (headers["x-relayq-token"], headers["content-type"]) == (TOKEN, "application/json")


def test_a_connection_is_used_again(endpoint: Endpoint, handoff: HttpHandoff) -> None:
    """A TLS handshake for each job would cost more than the handoff."""
    for number in range(50):
        handoff.offer(f"job-{number}", "emails", 0)
    assert (len(endpoint.asked), endpoint.connections) == (50, 1)


def test_a_connection_is_used_again_after_a_refusal(endpoint: Endpoint, handoff: HttpHandoff) -> None:
    """An answer that is thrown away has to be read all the same."""
    endpoint.answer, endpoint.body = 500, b"x" * 1000
    for _ in range(3):
        with pytest.raises(HandoffRefused):
            handoff.offer("job-1", "emails", 0)
    assert endpoint.connections == 1


def test_an_endless_answer_is_not_read(endpoint: Endpoint, handoff: HttpHandoff) -> None:
    """A server that sends without end may not keep the dispatcher."""
    endpoint.body = b"x" * 1_000_000
    for _ in range(2):
        handoff.offer("job-1", "emails", 0)
    assert endpoint.connections == 2


def test_a_connection_that_was_closed_while_idle_is_opened_again(endpoint: Endpoint, handoff: HttpHandoff) -> None:
    """A Lambda that was frozen for minutes finds its connections dead: that alone loses no handoff."""
    endpoint.answer = lambda handler: drop(handler) if len(endpoint.asked) == 1 else handler.send_error(202)
    handoff.offer("job-1", "emails", 0)
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("status", [200, 301, 307, 400, 401, 404, 429, 500, 503])
def test_any_other_answer_than_202_is_an_error(endpoint: Endpoint, handoff: HttpHandoff, status: int) -> None:
    """A redirection is not followed: the token is for this endpoint alone."""
    endpoint.answer = status
    with pytest.raises(HandoffRefused, match=f"answered {status}, expected 202"):
        handoff.offer("job-1", "emails", 0)
    assert len(endpoint.asked) == 1


def relayq_over(endpoint: Endpoint, **changes: Any) -> RelayQ:
    """A RelayQ whose handoff is that endpoint."""
    clock = ManualClock()
    values = {"handoff": "http", "http_endpoint": endpoint.url, "http_token": (TOKEN,), **changes}
    return RelayQ(Settings(**values), store=MemoryStore(clock), clock=clock)


@pytest.mark.parametrize("answer", [202, 400, 401, 404, 500, 503, drop, break_off, babble])
def test_a_dispatch_succeeds_whatever_the_endpoint_does(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture, answer: int | Callable[[BaseHTTPRequestHandler], None]
) -> None:
    """Any outcome is a maybe: the row is there, the sweeper looks at it, and the token is in no log line."""
    endpoint.answer = answer
    taken = answer in {202, break_off}  # an answer that breaks off after its 202 has said all there is to say
    relayq = relayq_over(endpoint)
    with caplog.at_level(logging.DEBUG):
        dispatched = relayq.dispatch("send_email", {"to": "ada@example.com"})
    record = relayq.get(dispatched.job_id)
    assert record is not None
    assert (record.status, dispatched.handed_off) == (Status.PENDING, taken)
    assert record.due_at == record.available_at + 30_000
    assert TOKEN not in caplog.text
    assert ("the sweeper will start the job" in caplog.text) == (not taken)
    _close(relayq)


def test_an_endpoint_that_does_not_answer_in_time_is_a_maybe(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once: the first request may well have been heard."""
    monkeypatch.setattr(http_handoff, "_TIMEOUT", urllib3.Timeout(connect=1, read=0.05))
    heard, released = threading.Event(), threading.Event()

    def keep_waiting(handler: BaseHTTPRequestHandler) -> None:
        heard.set()
        released.wait(20)
        drop(handler)

    endpoint.answer = keep_waiting
    relayq = relayq_over(endpoint)
    dispatched = relayq.dispatch("send_email")
    assert heard.wait(20)
    released.set()
    assert not dispatched.handed_off
    assert len(endpoint.asked) == 1
    assert "ReadTimeoutError" in caplog.text
    _close(relayq)


def test_an_endpoint_that_does_not_listen_is_a_maybe(caplog: pytest.LogCaptureFixture) -> None:
    """The connection is refused at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    relayq = relayq_over(Endpoint(url=f"http://127.0.0.1:{port}/_relayq/run"))
    assert not relayq.dispatch("send_email").handed_off
    assert TOKEN not in caplog.text


def test_the_first_of_two_tokens_is_sent(endpoint: Endpoint) -> None:
    """While one replaces the other, the new one stands in front."""
    relayq = relayq_over(endpoint, http_token=("the-new-token-of-all", "the-old-token-of-all"))
    relayq.dispatch("send_email")
    assert endpoint.asked[0][2]["x-relayq-token"] == "the-new-token-of-all"
    _close(relayq)


def test_the_limits_of_time_are_short() -> None:
    """The dispatcher may be answering a request of its own."""
    assert (http_handoff._TIMEOUT.connect_timeout, http_handoff._TIMEOUT.read_timeout) == (1, 3)


@pytest.mark.parametrize(
    ("missing", "variable"),
    [({"http_endpoint": ""}, "RELAYQ_HTTP_ENDPOINT"), ({"http_token": ()}, "RELAYQ_HTTP_TOKEN")],
)
def test_without_endpoint_or_token_the_first_use_says_so(missing: dict[str, Any], variable: str) -> None:
    """Else every handoff would be lost, and only a delay would show it."""
    with pytest.raises(SettingsError, match=f"{variable}: it is not set"):
        relayq_over(Endpoint(url="https://a.example/_relayq/run"), **missing)


# ---------------------------------------------------------------- tokens that are kept elsewhere


class Keeper:
    """Secrets Manager and SSM, as far as tokens are fetched from them."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._service = ""

    def __call__(self, service: str) -> "Keeper":
        self._service = service
        return self

    def get_parameter(self, **request: Any) -> Any:
        """An SSM parameter."""
        self.asked.append((self._service, request))
        return {"Parameter": {"Value": self.value}}

    def get_secret_value(self, **request: Any) -> Any:
        """A secret; one of bytes has no string."""
        self.asked.append((self._service, request))
        return {"SecretString": self.value} if self.value else {"SecretBinary": b""}


@pytest.mark.parametrize(
    ("kept_as", "asked"),
    [
        ("relayq-token", ("secretsmanager", {"SecretId": "relayq-token"})),
        ("/relayq/token", ("ssm", {"Name": "/relayq/token", "WithDecryption": True})),
        (
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:/x-AbCdEf",
            ("secretsmanager", {"SecretId": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:/x-AbCdEf"}),
        ),
        (
            "arn:aws:ssm:eu-west-1:123456789012:parameter/x",
            ("ssm", {"Name": "arn:aws:ssm:eu-west-1:123456789012:parameter/x", "WithDecryption": True}),
        ),
    ],
)
def test_tokens_are_fetched_by_name_or_arn(kept_as: str, asked: tuple[str, dict[str, Any]]) -> None:
    """From either service."""
    keeper = Keeper(f"{TOKEN}\n")
    assert HttpTokens((), kept_as, keeper, ManualClock()).all() == (TOKEN,)
    assert keeper.asked == [asked]


def test_tokens_are_fetched_once_and_again_after_their_lifetime() -> None:
    """So that a rotation reaches functions that live for hours."""
    keeper, clock = Keeper(TOKEN), ManualClock()
    tokens = HttpTokens((), "relayq-token", keeper, clock)
    assert keeper.asked == []
    assert [tokens.first() for _ in range(3)] == [TOKEN] * 3
    keeper.value = f"another-token-of-all,{TOKEN}"
    clock.advance(milliseconds=LIFETIME_MS - 1)
    assert (tokens.first(), len(keeper.asked)) == (TOKEN, 1)
    clock.advance(milliseconds=1)
    assert (tokens.all(), len(keeper.asked)) == (("another-token-of-all", TOKEN), 2)


def test_a_fetch_that_failed_is_not_tried_again_at_once() -> None:
    """A caller that knocks at a closed door cannot make RelayQ call AWS each time."""
    keeper, clock = Keeper("hunter2"), ManualClock()
    tokens = HttpTokens((), "relayq-token", keeper, clock)
    with pytest.raises(SettingsError):
        tokens.all()
    keeper.value = TOKEN
    for ask in (tokens.all, tokens.first):
        with pytest.raises(TokensUnread, match="could not be read a moment ago"):
            ask()
    assert len(keeper.asked) == 1
    clock.advance(milliseconds=PAUSE_MS)
    assert tokens.first() == TOKEN


def test_a_token_that_was_valid_opens_nothing_while_the_secret_cannot_be_read() -> None:
    """It may have been taken back: neither the request that finds this out nor those in the pause after it get it."""
    keeper, clock = Keeper(TOKEN), ManualClock()
    tokens = HttpTokens((), "relayq-token", keeper, clock)
    assert tokens.all() == (TOKEN,)
    clock.advance(milliseconds=LIFETIME_MS)
    keeper.value = "hunter2"
    with pytest.raises(SettingsError):
        tokens.all()
    for _ in range(3):
        for ask in (tokens.all, tokens.first):
            with pytest.raises(TokensUnread):
                ask()
    clock.advance(milliseconds=PAUSE_MS)
    with pytest.raises(SettingsError, match="cannot be used"):
        tokens.all()
    with pytest.raises(TokensUnread):
        tokens.all()


def test_a_caller_that_comes_during_a_fetch_waits_for_its_result() -> None:
    """A burst of handoffs from a cold process must not be lost to the first of them."""
    fetching, come = threading.Event(), threading.Event()

    class Slow(Keeper):
        def __call__(self, service: str) -> Any:
            fetching.set()
            assert come.wait(10)
            return super().__call__(service)

    keeper = Slow(TOKEN)
    tokens = HttpTokens((), "relayq-token", keeper, ManualClock())
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(tokens.first)
        assert fetching.wait(10)
        others = [pool.submit(tokens.first) for _ in range(7)]
        come.set()
        assert [answer.result(10) for answer in (first, *others)] == [TOKEN] * 8
    assert len(keeper.asked) == 1


def test_what_is_kept_is_checked_like_the_variable() -> None:
    """An empty or short secret must not open anything, nor be shown."""
    for value in ("", "hunter2", '{"token": "a-token-that-nobody-may-see"}'):
        with pytest.raises(
            SettingsError, match="RELAYQ_HTTP_TOKEN_SECRET: what is kept there cannot be used"
        ) as raised:
            HttpTokens((), "relayq-token", Keeper(value), ManualClock()).all()
        assert not value or value not in str(raised.value)


def test_tokens_in_the_environment_are_not_looked_for_elsewhere() -> None:
    """One place at a time."""
    keeper = Keeper("another-token-of-all")
    assert HttpTokens((TOKEN,), "relayq-token", keeper, ManualClock()).all() == (TOKEN,)
    assert HttpTokens((), "", keeper, ManualClock()).all() == ()
    assert keeper.asked == []


def _close(relayq: RelayQ) -> None:
    """Give the connections back before the test ends: an open socket is a warning, and a warning is an error."""
    assert isinstance(relayq.handoff, HttpHandoff)
    relayq.handoff.close()
