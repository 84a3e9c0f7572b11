"""The webhook job: what an answer means, and what becomes of it when there is none."""

from __future__ import annotations

import socket
import threading

import pytest
from jobs.webhook import Answer, WebhookFailed, post_webhook, read_result, read_retry_after

from relayq_core import Bury, RetryAfter
from tests.functions.webhook.receivers import (
    HOOK,
    NOW,
    Dns,
    Receiver,
    a_context,
    post,
    receiving,
    talking,
)

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
