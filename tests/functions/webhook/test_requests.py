"""The webhook job: what is sent, and what is refused where it is dispatched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from jobs.webhook import parse_target, post_webhook

from relayq_core import InvalidPayload
from tests.functions.webhook.receivers import (
    Receiver,
    a_context,
    post,
)
from tests.support.paths import ROOT

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


# -- the module ----------------------------------------------------------------------------------------------


def test_importing_the_job_loads_no_boto3() -> None:
    """A process that only dispatches it should not pay for what it never uses."""
    repository = ROOT
    done = subprocess.run(
        [sys.executable, "-c", "import sys, jobs.webhook; print('boto3' in sys.modules)"],
        env={"PYTHONPATH": os.pathsep.join(map(str, [repository, repository / "functions/runner"]))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
