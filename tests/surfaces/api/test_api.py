"""The API function as a Function URL calls it: who may ask, the handoff, and what it refuses, for any caller."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relayq_core import SettingsError, Status
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.handlers.http import is_authorised
from tests.surfaces.api.calling import (
    JSON,
    OTHER,
    ROUTES,
    TOKEN,
    Api,
    Load,
    request,
)

# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/"), ("DELETE", "/jobs"), ("GET", "/jobs/../x")])
def test_without_a_token_set_every_request_is_answered_alike(load: Load, method: str, path: str) -> None:
    """A function that was deployed without a token is closed, not open; and it does not say so either."""
    closed = load(RELAYQ_HTTP_TOKEN="")
    for given_token in (TOKEN, "", None):
        answer = closed.raw(request(method, path, {"job_id": "x"}, headers={"x-relayq-token": given_token}))
        assert answer["statusCode"] == 401
    assert answer == load().raw(request(method, path, headers={"x-relayq-token": "wrong"}))
    assert closed.lambda_.invoked == []


@pytest.mark.parametrize(
    "given_token",
    [
        None,
        "",
        " ",
        TOKEN[:-1],
        TOKEN + "x",
        TOKEN.upper(),
        f" {TOKEN}",
        f"{TOKEN},{OTHER}",  # what the variable holds, and what a Function URL makes of the header sent twice
        f"{TOKEN},{TOKEN}",
        f"Bearer {TOKEN}",
        TOKEN + "\0",
        "é" * 20,
        "\ud800",
        "x" * 8192,
        7,
        [TOKEN],
    ],
)
def test_whatever_is_not_a_token_is_refused(api: Api, given_token: Any) -> None:
    """In the same words each time."""
    answer = api.raw(request("POST", "/_relayq/run", {"job_id": "x"}, headers={"x-relayq-token": given_token}))
    assert (answer["statusCode"], json.loads(answer["body"])) == (
        401,
        {"error": "Unauthorized", "message": "send a valid token in the header X-RelayQ-Token"},
    )
    assert api.lambda_.invoked == []


def test_both_tokens_open_it(api: Api) -> None:
    """While one replaces the other; and a header's case means nothing."""
    for token in (TOKEN, OTHER):
        assert api.ask("GET", "/queues", headers={"x-relayq-token": token})[0] == 200
        assert api.ask("GET", "/queues", headers={"x-relayq-token": None, "X-RelayQ-Token": token})[0] == 200


def test_a_header_in_two_spellings_is_none(api: Api) -> None:
    """No client sends that by chance."""
    assert api.ask("GET", "/queues", headers={"X-RelayQ-Token": TOKEN})[0] == 401


def test_a_token_anywhere_else_is_no_token(api: Api) -> None:
    """Queries end up in logs and histories; a body is for something else."""
    elsewhere = request("POST", "/_relayq/run", {"job_id": "x", "token": TOKEN}, query={"x-relayq-token": TOKEN})
    elsewhere["headers"] |= {"authorization": f"Bearer {TOKEN}", "cookie": f"x-relayq-token={TOKEN}"}
    del elsewhere["headers"]["x-relayq-token"]
    assert api.raw({**elsewhere, "cookies": [f"x-relayq-token={TOKEN}"]})["statusCode"] == 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_token_in_the_query_is_refused_even_beside_the_header(api: Api, method: str, path: str) -> None:
    """So that the mistake is noticed before the logs are full of it."""
    status, told = api.ask(method, path, query={"token": TOKEN})
    assert (status, "Send the token in the header X-RelayQ-Token" in told["message"]) == (400, True)
    assert TOKEN not in json.dumps(told)
    assert api.ask(method, path, rawQueryString=TOKEN)[0] == 400


@given(st.text(), st.lists(st.text(min_size=1), max_size=2))
def test_only_a_token_is_authorised(given_token: str, tokens: list[str]) -> None:
    """Any text at all, against any tokens."""
    assert is_authorised({"headers": {"X-RelayQ-Token": given_token}}, tokens) == (given_token in tokens)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("kept_as", ["relayq-token", "/relayq/token"])
def test_the_token_may_be_kept_elsewhere(load: Load, kept_as: str) -> None:
    """In Secrets Manager or as an SSM parameter: the environment then holds its name only."""
    if kept_as.startswith("/"):
        boto3.client("ssm").put_parameter(Name=kept_as, Value=OTHER, Type="SecureString")
    else:
        boto3.client("secretsmanager").create_secret(Name=kept_as, SecretString=OTHER)
    api = load(RELAYQ_HTTP_TOKEN="", RELAYQ_HTTP_TOKEN_SECRET=kept_as)
    assert api.ask("GET", "/queues", headers={"x-relayq-token": OTHER})[0] == 200
    assert api.ask("GET", "/queues")[0] == 401


@pytest.mark.usefixtures("aws")
def test_a_token_that_cannot_be_read_opens_nothing(load: Load) -> None:
    """RelayQ reads it once in a while only, however many requests come."""
    api = load(RELAYQ_HTTP_TOKEN="", RELAYQ_HTTP_TOKEN_SECRET="not-there")
    answers = [api.ask("GET", "/queues") for _ in range(3)]
    assert [status for status, _ in answers] == [503] * 3
    assert {told["message"] for _, told in answers} == {
        "the tokens cannot be read at the moment, so every request is refused; try again in a few seconds"
    }
    told = [line for line in api.log.getvalue().splitlines() if "cannot be read" in line]
    assert len(told) == 1


def test_a_token_that_is_too_short_stops_the_function_at_its_start(load: Load) -> None:
    """Where a deploy is watched."""
    with pytest.raises(SettingsError, match="RELAYQ_HTTP_TOKEN: expected one token"):
        load(RELAYQ_HTTP_TOKEN="secret")


# ---------------------------------------------------------------- the handoff


def test_a_handoff_invokes_the_runner_and_runs_nothing(api: Api) -> None:
    """It does not invoke the function that is asked, which a runner would mean by itself."""
    dispatched = api.relayq.dispatch("send_email", {"to": "ada"})
    api.lambda_.requests.clear()
    assert api.ask("POST", "/_relayq/run", {"job_id": dispatched.job_id}) == (202, {"accepted": True})
    ((function, event),) = api.lambda_.invoked
    assert (function, event["job_id"]) == ("the-runner", dispatched.job_id)
    assert event["run_at"] <= SystemClock().now()
    assert api.relayq.get(dispatched.job_id).status is Status.PENDING


def test_a_handoff_keeps_its_moment_and_its_hints(api: Api) -> None:
    """Else the runner is started at once for a job that waits, and takes the longest lease."""
    asked = {"job_id": "job-1", "run_at": 1_767_225_600_000, "queue": "emails", "name": "send_email"}
    assert api.ask("POST", "/_relayq/run", asked)[0] == 202
    assert api.lambda_.invoked == [("the-runner", asked)]


@pytest.mark.parametrize(
    "hints", [{"queue": None, "name": None}, {"queue": 7, "name": ["x"]}, {"queue": "", "name": "1 2"}]
)
def test_a_hint_that_cannot_be_one_counts_as_left_out(api: Api, hints: dict[str, Any]) -> None:
    """A handoff is not lost over it."""
    assert api.ask("POST", "/_relayq/run", {"job_id": "job-1", **hints})[0] == 202
    ((_, event),) = api.lambda_.invoked
    assert (event["queue"], event["name"]) == ("default", None)


def test_known_and_unknown_ids_are_answered_alike(api: Api) -> None:
    """The answer does not reveal which jobs there are."""
    known = api.relayq.dispatch("send_email").job_id
    answers = [api.raw(request("POST", "/_relayq/run", {"job_id": job_id})) for job_id in (known, "unknown")]
    assert answers[0] == answers[1]
    assert api.relayq.get("unknown") is None


def test_a_body_in_base64_is_read_as_it_was_sent(api: Api) -> None:
    """A Function URL sends what it takes for binary that way."""
    body = base64.b64encode(b'{"job_id": "job-1"}').decode()
    assert api.ask("POST", "/_relayq/run", body, isBase64Encoded=True)[0] == 202
    assert api.lambda_.invoked[0][1]["job_id"] == "job-1"


def test_a_queue_with_a_runner_of_its_own_is_handed_to_that(load: Load) -> None:
    """The id says nothing about the queue, so its row does; an unknown id goes to the runner of the default."""
    api = load(RELAYQ_RUNNER_FUNCTIONS='{"reports": "heavy-runner"}')
    dispatched = api.relayq.dispatch("build_report", queue="reports")
    assert api.ask("POST", "/_relayq/run", {"job_id": dispatched.job_id})[0] == 202
    assert api.ask("POST", "/_relayq/run", {"job_id": "unknown"})[0] == 202
    assert [function for function, _ in api.lambda_.invoked] == ["heavy-runner", "heavy-runner", "the-runner"]


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", None])
def test_json_may_be_called_so_or_not_at_all(api: Api, kind: str | None) -> None:
    """Any other type is refused."""
    assert api.ask("POST", "/_relayq/run", {"job_id": "job-1"}, headers={"content-type": kind})[0] == 202


BOMB = "[" * 4000
BAD_RUNS: dict[str, tuple[int, Any, dict[str, Any]]] = {
    "no body": (400, None, {}),
    "an empty body": (400, "", {}),
    "no JSON": (400, "job-1", {}),
    "a list": (400, ["job-1"], {}),
    "text": (400, '"job-1"', {}),
    "null": (400, "null", {}),
    "nothing in it": (400, {}, {}),
    "an extra field": (400, {"job_id": "job-1", "attempt": 2}, {}),
    "a moment in words": (400, {"job_id": "job-1", "run_at": "now"}, {}),
    "a moment that is none": (400, {"job_id": "job-1", "run_at": 10**15}, {}),
    "a payload": (400, {"job_id": "job-1", "name": "os.system", "args": {}}, {}),
    "the id twice": (400, '{"job_id": "job-1", "job_id": "job-2"}', {}),
    "a number": (400, {"job_id": 7}, {}),
    "no id": (400, {"job_id": None}, {}),
    "an empty id": (400, {"job_id": ""}, {}),
    "a long id": (400, {"job_id": "x" * 65}, {}),
    "a path": (400, {"job_id": "../../etc/passwd"}, {}),
    "a line break": (400, {"job_id": "job-1\n"}, {}),
    "a NUL": (400, {"job_id": "job\0"}, {}),
    "an escape": (400, {"job_id": "\x1b[31mjob"}, {}),
    "a lone surrogate": (400, '{"job_id": "\\ud800"}', {}),
    "a raw surrogate": (400, '{"job_id": "\ud800"}', {}),
    "other digits": (400, {"job_id": "\N{ARABIC-INDIC DIGIT SIX}"}, {}),
    "a byte order mark": (400, '\ufeff{"job_id": "job-1"}', {}),
    "NaN": (400, '{"job_id": NaN}', {}),
    "a bomb": (400, BOMB, {}),
    "a large number": (400, '{"job_id": ' + "9" * 4000 + "}", {}),
    "too large": (413, json.dumps({"job_id": "job-1"}) + " " * 4096, {}),
    "too large in base64": (413, base64.b64encode(b" " * 4097).decode(), {"isBase64Encoded": True}),
    "too large in bytes": (413, '"' + "é" * 2500 + '"', {}),
    "broken base64": (400, "{not base64}", {"isBase64Encoded": True}),
    "no UTF-8": (400, base64.b64encode(b"\xff\xfe").decode(), {"isBase64Encoded": True}),
    "a number for a body": (400, None, {"raw": 7}),
    "a form": (415, "job_id=job-1", {"headers": {"content-type": "application/x-www-form-urlencoded"}}),
    "plain text": (415, {"job_id": "job-1"}, {"headers": {"content-type": "text/plain"}}),
    "a zipped body": (
        415,
        base64.b64encode(gzip.compress(b'{"job_id": "job-1"}')).decode(),
        {"isBase64Encoded": True, "headers": {"content-encoding": "gzip"}},
    ),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_a_malformed_handoff_is_refused_in_words(api: Api, case: str) -> None:
    """No runner is invoked."""
    status, body, changes = BAD_RUNS[case]
    answered, told = api.ask("POST", "/_relayq/run", body, **changes)
    assert (answered, sorted(told)) == (status, ["error", "message"])
    assert len(told["message"]) < 300
    assert api.lambda_.invoked == []


@pytest.mark.parametrize(
    "path",
    ["/_relayq/run/", "//_relayq/run", "/_relayq//run", "/_RELAYQ/RUN", "/_relayq/%72un", "/_relayq/run%00", "/"],
)
def test_the_path_of_a_handoff_is_that_path(api: Api, path: str) -> None:
    """No other spelling of it."""
    assert api.ask("POST", path, {"job_id": "job-1"})[0] == 404
    assert api.lambda_.invoked == []


def test_a_runner_that_cannot_be_invoked_is_reported_and_logged(api: Api) -> None:
    """The caller takes it for a maybe, the sweeper starts the job."""
    api.lambda_.error = ConnectionError("throttled")
    assert api.ask("POST", "/_relayq/run", {"job_id": "job-1"})[0] == 503
    assert "the runner could not be invoked: ConnectionError: throttled" in api.log.getvalue()


# ---------------------------------------------------------------- anything at all

ANYTHING = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANYTHING
@given(event=JSON)
def test_an_event_that_is_no_request_is_refused(api: Api, event: Any) -> None:
    """A caller who may invoke the function directly is not thereby let in."""
    assert api.raw(event)["statusCode"] == 401


@ANYTHING
@given(body=st.text() | JSON.map(json.dumps) | st.binary().map(lambda raw: base64.b64encode(raw).decode()), encoded=...)
def test_no_body_makes_a_handoff_fail_otherwise_than_in_words(api: Api, body: str, encoded: bool) -> None:
    """No body invokes a runner either, unless it is one id."""
    api.lambda_.requests.clear()
    answer = api.raw(request("POST", "/_relayq/run", body, isBase64Encoded=encoded))
    assert answer["statusCode"] in {400, 413}
    assert api.lambda_.invoked == []


@ANYTHING
@given(headers=st.dictionaries(st.text(), st.text() | st.none() | st.lists(st.text()), max_size=6), body=JSON)
def test_no_header_makes_a_request_fail_otherwise_than_in_words(api: Api, headers: Any, body: Any) -> None:
    """Whatever stands beside the token."""
    event = request("POST", "/jobs/job-1/cancel", body)
    event["headers"] = {**headers, "x-relayq-token": TOKEN}
    assert api.raw(event)["statusCode"] in {400, 401, 404, 413, 415}


@ANYTHING
@given(method=st.sampled_from(["GET", "POST", "PUT", "get", "", "X" * 99]), path=st.text().map(lambda text: "/" + text))
def test_no_path_makes_a_request_fail_otherwise_than_in_words(api: Api, method: str, path: str) -> None:
    """Whatever the router makes of it."""
    assert api.raw(request(method, path))["statusCode"] in {400, 404, 405}


@ANYTHING
@given(fields=st.dictionaries(st.sampled_from(["name", "args", "queue", "at", "backoff", "timeout", "job_id"]), JSON))
def test_no_options_make_a_dispatch_fail_otherwise_than_in_words(api: Api, fields: dict[str, Any]) -> None:
    """Values of any kind, for the fields that there are; nothing is written."""
    status, _ = api.ask("POST", "/jobs", {**fields, "name": fields.get("name", 7)})
    assert status in {202, 400}
