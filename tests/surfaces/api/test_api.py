"""The API function as a Function URL calls it: what it does, and what it refuses, for any caller."""

from __future__ import annotations

import base64
import copy
import gzip
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from relayq_core import JobRecord, Settings, SettingsError, Status, StoreError
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.errors import DispatchUnknown
from relayq_core.events.listeners import events as all_events
from relayq_core.handlers.http import is_authorised
from relayq_core.model.policy import Policy
from relayq_core.ports import JobStore
from relayq_core.testing import MemoryStore
from tests.support.factories import a_burial, a_job, a_lease
from tests.support.fake_lambda import FakeLambda
from tests.support.lambda_context import Context
from tests.support.paths import ROOT
from tests.surfaces.template.grants import grants, needed

EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted(ROOT.glob("events/api_*.json"))}
TOKEN = "a-token-that-nobody-may-see"
OTHER = "another-token-not-to-be-seen"
SECRET = "hunter2-must-not-be-logged"
#: Every route with a path that fits it.
ROUTES = [
    ("POST", "/_relayq/run"),
    ("POST", "/jobs"),
    ("GET", "/jobs/job-1"),
    ("POST", "/jobs/job-1/cancel"),
    ("GET", "/queues"),
    ("GET", "/failed"),
    ("POST", "/failed/job-1/redrive"),
    ("GET", "/health"),
]


def is_head(event: Any) -> bool:
    """Whether an event asks by HEAD, in any spelling."""
    return "'method': 'head'" in str(event).lower()


class Api:
    """The function, loaded in its environment, and what it was made to do."""

    def __init__(self, module: ModuleType, store: JobStore | None) -> None:
        self.module = module
        self.relayq = module._relayq
        self.relayq.store = store or self.relayq.store
        self.log = io.StringIO()
        module.logger.registered_handler.setStream(self.log)
        self.lambda_ = FakeLambda()
        self.relayq.clients.by_service["lambda"] = self.lambda_

    def raw(self, event: Any) -> dict[str, Any]:
        """What the function answers, and what holds for every answer."""
        answer: dict[str, Any] = self.module.handler(event, Context())
        assert answer["headers"]["Content-Type"] == "application/json"
        assert answer["headers"]["Cache-Control"] == "no-store"
        assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
        if not is_head(event):
            assert isinstance(json.loads(answer["body"]), dict)
        return answer

    def ask(self, method: str, path: str, body: Any = None, **changes: Any) -> tuple[int, Any]:
        """The status and the body that a request with the token gets."""
        answer = self.raw(request(method, path, body, **changes))
        return answer["statusCode"], json.loads(answer["body"])

    def bury(self, job_id: str, **changes: Any) -> JobRecord:
        """A job in the failed table."""
        now = SystemClock().now()
        times = {"created_at": now, "updated_at": now, "available_at": now, "due_at": now}
        store = self.relayq.store
        store.register_queue("emails")
        store.add(a_job(**{**times, "id": job_id, **changes}))
        claimed = store.claim(job_id, a_lease(now=now)).record
        store.settle(claimed, a_burial(claimed, now=now))
        return claimed  # type: ignore[no-any-return]


def request(method: str, path: str, body: Any = None, **changes: Any) -> dict[str, Any]:
    """A Function URL's event, with the token; `headers` are added, `raw` is a body that is no text."""
    event = copy.deepcopy(EVENTS["api_status"])
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    event["requestContext"]["http"]["method"] = method
    event["headers"]["x-relayq-token"] = TOKEN
    if body is not None:
        event["headers"]["content-type"] = "application/json"
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    event["headers"] |= changes.pop("headers", {})
    event["headers"] = {name: value for name, value in event["headers"].items() if value is not None}
    if "raw" in changes:
        event["body"] = changes.pop("raw")
    if "query" in changes:
        event["queryStringParameters"] = changes.pop("query")
        event["rawQueryString"] = "&".join(f"{key}={value}" for key, value in event["queryStringParameters"].items())
    return {**event, **changes}


Load = Callable[..., Api]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Load]:
    """A cold start of the function, in the environment that the template gives it; `on_aws`: with real clients."""
    listeners = {kind: list(found) for kind, found in all_events._listeners.items()}
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_LAMBDA_FUNCTION_NAME": "the-api",
        "RELAYQ_JOBS_TABLE": "jobs-table",
        "RELAYQ_FAILED_TABLE": "failed-table",
        "RELAYQ_RUNNER_FUNCTION": "the-runner",
        "RELAYQ_HTTP_TOKEN": f"{TOKEN},{OTHER}",
        "POWERTOOLS_SERVICE_NAME": tmp_path.name,  # Powertools keeps one logger for each
    }

    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def loaded(*, on_aws: bool = False, **changes: str) -> Api:
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        for name in ("telemetry", "api"):
            sys.modules.pop(f"relayq_core.handlers.{name}", None)
        return Api(importlib.import_module("relayq_core.handlers.api"), None if on_aws else MemoryStore())

    yield loaded
    all_events._listeners.clear()
    all_events._listeners.update(listeners)


@pytest.fixture
def aws(load: Load) -> Iterator[None]:
    """moto, with the two tables."""
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(**jobs_table("jobs-table"))
        client.create_table(**failed_table("failed-table"))
        yield


@pytest.fixture
def api(load: Load) -> Api:
    """The function with two tokens."""
    return load()


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


# ---------------------------------------------------------------- the other routes


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_method_is_answered_with_the_right_one(api: Api, method: str, path: str) -> None:
    """405 and Allow; every route is in the table that this comes from."""
    right = {"GET", "HEAD"} if method == "GET" else {method}
    for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"} - right:
        for spelling in (wrong, wrong.lower(), wrong.title()):
            answer = api.raw(request(spelling, path))
            assert (answer["statusCode"], answer["headers"]["Allow"]) == (405, method)


@pytest.mark.parametrize("spelling", ["HEAD", "head", "Head"])
def test_head_is_get_without_its_body(api: Api, spelling: str) -> None:
    """Monitors ask so; they want the status."""
    for path in ("/health", "/queues", "/failed", "/jobs/unknown"):
        head, get = api.raw(request(spelling, path)), api.raw(request("GET", path))
        assert (head["statusCode"], head["body"], head["headers"]) == (get["statusCode"], "", get["headers"])


@pytest.mark.parametrize(
    "event",
    [
        {"httpMethod": "GET", "path": "/health", "resource": "/health", "requestContext": {"httpMethod": "GET"}},
        {"httpMethod": "GET", "path": "/health", "requestContext": {"elb": {"targetGroupArn": "arn"}}},
        {"httpMethod": "GET", "path": "/health", "rawPath": "/health"},
        {"requestContext": {"http": {"method": 5}}, "rawPath": "/health"},
        {"requestContext": {"http": None}},
        {"requestContext": []},
        {},
    ],
)
def test_an_event_of_another_kind_is_answered_with_what_is_read_here(api: Api, event: dict[str, Any]) -> None:
    """A REST API or a load balancer in front is a mistake of the deployment, and no defect."""
    answer = api.raw({**event, "headers": {"x-relayq-token": TOKEN}})
    assert answer["statusCode"] == 400
    assert "Function URL" in json.loads(answer["body"])["message"]
    assert "defect" not in api.log.getvalue()


@pytest.mark.parametrize(
    "path", ["/", "", "/jobs/", "/jobs/a/b", "/jobs/a/cancel/b", "/failed/a", "/favicon.ico", "/job"]
)
def test_any_other_path_is_not_found(api: Api, path: str) -> None:
    """In JSON, like everything."""
    for method in ("GET", "POST"):
        status, told = api.ask(method, path)
        assert (status, told["error"]) == (404, "NotFound")


def test_a_job_is_dispatched_with_its_options(api: Api) -> None:
    """By name: the row holds what the call says and nothing else."""
    body = {
        "name": "send_email",
        "args": {"to": "ada@example.com"},
        "queue": "emails",
        "at": "2030-01-01T00:00:00+01:00",
        "max_attempts": 5,
        "backoff": "exponential:5,cap=60",
        "timeout": 30,
        "unique": "welcome:7",
        "unique_for": 300,
        "job_id": "job-1",
    }
    first = api.ask("POST", "/jobs", body)
    assert first == (202, {"job_id": "job-1", "duplicate": False, "handed_off": False})
    assert api.ask("POST", "/jobs", {**body, "job_id": "job-2"}) == (
        202,
        {"job_id": "job-1", "duplicate": True, "handed_off": False},
    )
    record = api.relayq.get("job-1")
    assert (record.name, record.queue, record.payload) == ("send_email", "emails", {"to": "ada@example.com"})
    assert (record.max_attempts, str(record.backoff), record.timeout_ms) == (5, "exponential:5,cap=60", 30_000)
    assert record.available_at == 1_893_452_400_000
    assert api.lambda_.invoked == []


def test_a_job_without_delay_is_handed_off(api: Api) -> None:
    """As by dispatch() itself; null means that nothing was said."""
    status, told = api.ask("POST", "/jobs", {"name": "tidy_up", "args": None, "queue": None, "delay": 0})
    assert (status, told["handed_off"]) == (202, True)
    assert api.lambda_.invoked[0][1]["job_id"] == told["job_id"]
    assert api.relayq.get(told["job_id"]).payload == {}


BAD_JOBS: dict[str, tuple[int, str, Any]] = {
    "no name": (400, "InvalidOption", {"args": {}}),
    "a number as its name": (400, "InvalidOption", {"name": 7}),
    "a bad name": (400, "InvalidOption", {"name": "os.system('x')"}),
    "an unknown field": (400, "InvalidOption", {"name": "x", "quue": "emails"}),
    "a long field": (400, "InvalidOption", {"name": "x", "f" * 10_000: 1}),
    "a list of args": (400, "InvalidPayload", {"name": "x", "args": [1]}),
    "args with a lone surrogate": (400, "InvalidPayload", '{"name": "x", "args": {"a": "\\ud800"}}'),
    "endless args": (400, "InvalidPayload", '{"name": "x", "args": {"a": 1e999}}'),
    "a bad queue": (400, "InvalidOption", {"name": "x", "queue": "my queue"}),
    "a delay in words": (400, "InvalidOption", {"name": "x", "delay": "5"}),
    "a delay into the past": (400, "InvalidOption", {"name": "x", "delay": -1}),
    "delay and at": (400, "InvalidOption", {"name": "x", "delay": 1, "at": "2030-01-01T00:00:00Z"}),
    "a moment without a zone": (400, "InvalidOption", {"name": "x", "at": "2030-01-01T00:00:00"}),
    "no moment": (400, "InvalidOption", {"name": "x", "at": "tomorrow"}),
    "a number as a moment": (400, "InvalidOption", {"name": "x", "at": 1_893_452_400}),
    "a window without a key": (400, "InvalidOption", {"name": "x", "unique_for": 5}),
    "a key that is none": (400, "InvalidOption", {"name": "x", "unique": 5}),
    "a backoff that is none": (400, "InvalidOption", {"name": "x", "backoff": "exponental:10"}),
    "a backoff of texts": (400, "InvalidOption", {"name": "x", "backoff": ["10"]}),
    "a backoff object": (400, "InvalidOption", {"name": "x", "backoff": {"base": 10}}),
    "attempts that are none": (400, "InvalidOption", {"name": "x", "max_attempts": True}),
    "a bad id": (400, "InvalidOption", {"name": "x", "job_id": "a/b"}),
    "a large payload": (413, "PayloadTooLarge", {"name": "x", "args": {"a": "x" * 310_000}}),
    "a huge body": (413, "RequestEntityTooLarge", {"name": "x", "args": {"a": "x" * 600_000}}),
    "no object": (400, "BadRequest", [1]),
    "no body": (400, "BadRequest", None),
}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_a_dispatch_that_cannot_be_is_refused_with_its_sentence(api: Api, case: str) -> None:
    """The same sentence that dispatch() raises, and never a traceback; nothing is written."""
    status, error, body = BAD_JOBS[case]
    answered, told = api.ask("POST", "/jobs", body)
    assert (answered, told["error"].replace("Content", "RequestEntity")) == (status, error)
    assert 10 < len(told["message"]) < 500
    assert "Traceback" not in told["message"]
    assert api.relayq.queues() == []


def test_a_misspelt_field_is_refused_with_the_nearest(api: Api) -> None:
    """As everywhere."""
    assert 'Did you mean "queue"?' in api.ask("POST", "/jobs", {"name": "x", "quue": "emails"})[1]["message"]


def test_a_job_is_shown_with_its_payload(api: Api) -> None:
    """A caller who holds the token sees it."""
    job_id = api.relayq.dispatch("send_email", {"to": "ada"}, queue="emails", delay=3600).job_id
    status, told = api.ask("GET", f"/jobs/{job_id}")
    assert status == 200
    expected = {"id": job_id, "name": "send_email", "queue": "emails", "status": "pending", "attempt": 0}
    assert {name: told[name] for name in expected} == expected
    assert (told["payload"], told["result"], told["errors"]) == ({"to": "ada"}, None, [])
    assert told["available_at_ms"] == told["created_at_ms"] + 3_600_000
    assert told["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel"), ("POST", "/failed/{}/redrive")]
)
def test_an_unknown_job_is_not_found_and_a_bad_id_is_refused(api: Api, method: str, path: str) -> None:
    """They are 404 and 400: neither is a defect."""
    assert api.ask(method, path.format("unknown"))[0] == 404
    for bad in (".a", "a%2Fb", "x" * 65, "a b"):
        assert api.ask(method, path.format(bad))[0] == 400
    assert api.ask(method, path.format('a"b'))[0] in {400, 404}


def test_a_job_is_cancelled(api: Api) -> None:
    """The answer is the job after the cancel; an empty object counts as no body."""
    job_id = api.relayq.dispatch("send_email", delay=3600).job_id
    assert api.ask("POST", f"/jobs/{job_id}/cancel", {})[1]["status"] == "cancelled"
    assert api.ask("POST", f"/jobs/{job_id}/cancel", {"force": True})[0] == 400
    assert api.relayq.get(job_id).status is Status.CANCELLED


def test_failed_jobs_are_listed_without_payload_and_redriven(api: Api) -> None:
    """By queue, and no more than was asked for."""
    for number in range(3):
        api.bury(f"job-{number}", payload_json='{"to": "ada"}')
    status, told = api.ask("GET", "/failed", query={"queue": "emails", "limit": "2"})
    assert (status, len(told["failed"])) == (200, 2)
    assert "payload" not in told["failed"][0]
    assert told["failed"][0]["status"] == "failed"
    status, redriven = api.ask("POST", "/failed/job-1/redrive")
    assert (status, redriven["status"], redriven["attempt"], redriven["payload"]) == (200, "pending", 0, {"to": "ada"})
    assert {job["id"] for job in api.ask("GET", "/failed")[1]["failed"]} == {"job-0", "job-2"}


@pytest.mark.parametrize("limit", ["0", "-1", "101", "1e1", "", "ten", "\N{ARABIC-INDIC DIGIT SIX}"])
def test_a_limit_is_a_number_up_to_a_hundred(api: Api, limit: str) -> None:
    """Each failed job is a read."""
    assert api.ask("GET", "/failed", query={"limit": limit})[0] == 400
    assert api.ask("GET", "/failed", query={"queue": "my queue"})[0] == 400


def test_a_redrive_whose_key_is_taken_is_a_conflict(api: Api) -> None:
    """The sentence has the holder's id."""
    api.bury("job-1", unique_pk="unique#send_email#k")
    holder = api.relayq.dispatch("send_email", unique="k", delay=3600).job_id
    status, told = api.ask("POST", "/failed/job-1/redrive")
    assert (status, told["error"], holder in told["message"]) == (409, "KeyTaken", True)


def test_queues_are_shown_with_their_counts(api: Api) -> None:
    """As `relayq queues` shows them."""
    api.relayq.dispatch("send_email", queue="emails", delay=3600)
    (view,) = api.ask("GET", "/queues")[1]["queues"]
    assert (view["queue"], view["live"], view["overdue"]) == ("emails", 1, 0)


def test_health_is_good_while_the_sweeper_ticks(api: Api) -> None:
    """A monitor asks for this: the sweeper ticks, and nothing is overdue."""
    api.relayq.store.record_tick(api.relayq.clock.now(), {})
    api.relayq.dispatch("send_email", delay=3600)
    status, told = api.ask("GET", "/health")
    assert (status, told["healthy"], told["problems"], told["oldest_due_age_ms"]) == (200, True, [], 0)
    assert told["last_sweep_age_ms"] < 60_000


def test_health_is_bad_without_a_sweeper_or_with_an_old_job(api: Api) -> None:
    """Each with its sentence."""
    status, told = api.ask("GET", "/health")
    (problem,) = told.pop("problems")
    assert problem.startswith("the sweeper has not run yet; it ticks each minute")
    assert (status, told) == (
        503,
        {
            "healthy": False,
            "last_sweep_age_ms": None,
            "sweep_is_late": True,
            "oldest_due_age_ms": 0,
            "queues": [],
        },
    )
    long_ago = api.relayq.clock.now() - 600_000
    api.relayq.store.record_tick(long_ago, {})
    api.relayq.store.register_queue("emails")
    api.relayq.store.add(a_job(due_at=long_ago, available_at=long_ago, created_at=long_ago, updated_at=long_ago))
    status, told = api.ask("GET", "/health")
    assert (status, len(told["problems"]), told["oldest_due_age_ms"] >= 600_000) == (503, 2, True)


@pytest.mark.usefixtures("aws")
def test_health_says_which_table_is_missing(load: Load) -> None:
    """The sentence of the StoreError, with what to do."""
    status, told = load(on_aws=True, RELAYQ_FAILED_TABLE="nowhere").ask("GET", "/health")
    assert (status, told["healthy"]) == (503, False)
    assert "table 'nowhere' does not exist" in told["problems"][0]


@pytest.mark.usefixtures("aws")
def test_the_function_is_granted_what_it_calls_and_no_more(load: Load) -> None:
    """Every route once, on tables; the calls that were recorded are the grants of the template, both ways."""
    api = load(on_aws=True, RELAYQ_EVENT_BUS="default")
    recorded = {("runners", "lambda:InvokeFunction"), ("token", "secretsmanager:GetSecretValue")}
    recorded |= {("own logs", "logs:CreateLogStream"), ("own logs", "logs:PutLogEvents")}  # Lambda writes them
    recorded |= {("token", "ssm:GetParameter")}  # those have tests of their own

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        recorded.update(needed(model.name, params, jobs_table="jobs-table", failed_table="failed-table"))

    for service in ("dynamodb", "events", "cloudwatch"):
        api.relayq.clients.get(service).meta.events.register(f"before-parameter-build.{service}", record)
    body = {"name": "send_email", "queue": "emails", "unique": "k", "delay": 3600}
    job_id = api.ask("POST", "/jobs", body)[1]["job_id"]
    assert api.ask("POST", "/_relayq/run", {"job_id": job_id})[0] == 202
    recorded |= {("runner", "lambda:InvokeFunction") for _ in api.lambda_.invoked}
    assert api.ask("GET", f"/jobs/{job_id}")[0] == 200
    assert api.ask("GET", "/queues")[0] == 200
    assert api.ask("GET", "/health")[0] == 503
    assert api.ask("POST", f"/jobs/{job_id}/cancel")[1]["status"] == "cancelled"
    kept = set(recorded)
    api.bury("failed-1", unique_pk="unique#send_email#l")
    recorded = kept  # a burial is the runner's
    assert api.ask("GET", "/failed")[1]["failed"][0]["id"] == "failed-1"
    assert api.ask("POST", "/failed/failed-1/redrive")[0] == 200
    cookie = browsed(api, "POST", "/dashboard/login", {"token": TOKEN})["cookies"][0].partition(";")[0]
    for screen in ("", "/queue?name=emails", "/failed", "/health", f"/job?id={job_id}"):
        assert browsed(api, "GET", f"/dashboard{screen}", cookie=cookie)["statusCode"] == 200
    assert recorded == grants("api")


# ---------------------------------------------------------------- the dashboard


def browsed(api: Api, method: str, address: str, form: Any = None, cookie: str | None = None) -> dict[str, Any]:
    """What a browser gets from the function."""
    asked = urlsplit(address)
    event = request(method, asked.path, query=dict(parse_qsl(asked.query)))
    del event["headers"]["x-relayq-token"]
    event["cookies"] = [cookie] if cookie else []
    if form is not None:
        event["headers"]["content-type"] = "application/x-www-form-urlencoded"
        event["body"] = base64.b64encode(urlencode(form).encode()).decode()
        event["isBase64Encoded"] = True
    answer: dict[str, Any] = api.module.handler(event, Context())
    return answer


@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_either_token_opens_the_dashboard(api: Api, token: str) -> None:
    """While one replaces the other both are good; and what is typed is in no log."""
    opened = browsed(api, "POST", "/dashboard/login", {"token": token})
    assert (opened["statusCode"], opened["headers"]["Location"]) == (303, "/dashboard")
    cookie = opened["cookies"][0].partition(";")[0]
    page = browsed(api, "GET", "/dashboard", cookie=cookie)
    assert (page["statusCode"], "read-only" in page["body"]) == (200, True)
    assert token not in api.log.getvalue()
    assert '"route":"/dashboard"' in api.log.getvalue().replace(": ", ":")


@pytest.mark.parametrize("address", ["/dashboard", "/dashboard/failed", "/dashboard/nothing"])
def test_the_header_does_not_open_the_dashboard(api: Api, address: str) -> None:
    """A browser has a session; a program has the API."""
    answer = api.module.handler(request("GET", address), Context())
    assert (answer["statusCode"], answer["headers"]["Location"]) == (303, "/dashboard/login")


def test_a_function_without_a_token_has_a_dashboard_that_cannot_be_opened(load: Load) -> None:
    """Closed, not open."""
    closed = load(RELAYQ_HTTP_TOKEN="")
    for token in ("", TOKEN):
        assert browsed(closed, "POST", "/dashboard/login", {"token": token})["statusCode"] == 403
    assert browsed(closed, "GET", "/dashboard")["statusCode"] == 303


def test_a_dashboard_that_is_turned_off_is_not_there(load: Load) -> None:
    """The path is like any that is not."""
    without = load(RELAYQ_DASHBOARD="none")
    assert without.raw(request("GET", "/dashboard"))["statusCode"] == 404
    assert without.raw(request("GET", "/dashboard/login", headers={"x-relayq-token": None}))["statusCode"] == 401


@pytest.mark.parametrize(("mode", "status"), [("read", 403), ("write", 303)])
def test_changes_are_allowed_by_a_setting_alone(load: Load, mode: str, status: int) -> None:
    """A token that may look may not change things, unless the setting says so."""
    api = load(RELAYQ_DASHBOARD=mode)
    api.bury("job-1")
    cookie = browsed(api, "POST", "/dashboard/login", {"token": TOKEN})["cookies"][0].partition(";")[0]
    page = browsed(api, "GET", "/dashboard/job?id=job-1", cookie=cookie)["body"]
    form = {"id": "job-1", "form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}
    assert browsed(api, "POST", "/dashboard/redrive", form, cookie=cookie)["statusCode"] == status
    assert (api.relayq.store.get_failed("job-1") is None) == (mode == "write")


def test_a_dispatch_does_not_wait_for_templates() -> None:
    """Jinja is imported with the first screen, and not before."""
    script = "import sys, relayq_core.handlers.api; sys.exit('jinja2' in sys.modules)"
    environ = {"RELAYQ_JOBS_TABLE": "a", "RELAYQ_FAILED_TABLE": "b", "RELAYQ_RUNNER_FUNCTION": "c"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environ, check=False)
    assert done.returncode == 0


# ---------------------------------------------------------------- what goes wrong inside


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (StoreError("it was throttled", "try again"), 503, "StoreError"),
        (DispatchUnknown("job-9"), 503, "DispatchUnknown"),
        (RuntimeError(SECRET), 500, "InternalError"),
        (KeyError(SECRET), 500, "InternalError"),
    ],
)
def test_an_error_inside_is_an_answer_and_a_log_line(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    kind: str,
) -> None:
    """An error that was not foreseen may hold a payload: neither answer nor log show its text."""

    def fail(record: JobRecord) -> None:
        raise error

    monkeypatch.setattr(api.relayq.store, "add", fail)
    monkeypatch.setattr(api.relayq.store, "get", fail)
    answered, told = api.ask("POST", "/jobs", {"name": "send_email", "args": {"to": SECRET}})
    assert (answered, told["error"]) == (status, kind)
    assert told.get("job_id") == ("job-9" if kind == "DispatchUnknown" else None)
    out = api.log.getvalue()
    assert '"level":"ERROR"' in out
    assert SECRET not in out + json.dumps(told)


def test_a_row_that_was_edited_by_hand_is_shown_as_it_is(api: Api) -> None:
    """The operator who has to repair it wants to see it."""
    api.relayq.store.register_queue("emails")
    api.relayq.store.add(a_job(payload_json="{no json"))
    assert api.ask("GET", "/jobs/job-1")[1]["payload"] == "{no json"


def test_the_log_has_a_line_for_each_request_and_no_secret(api: Api) -> None:
    """Its route, its status and its job; no payload, no token, and no path that a client made up."""
    api.ask("POST", "/jobs", {"name": "send_email", "args": {"to": SECRET}, "job_id": "job-1", "unique": SECRET})
    api.ask("GET", "/jobs/job-1")
    api.ask("POST", "/_relayq/run", json.dumps({"job_id": SECRET + "!"}))
    api.ask("GET", f"/{SECRET}", query={SECRET: SECRET})
    api.ask("GET", "/queues", headers={"x-relayq-token": SECRET})
    out = api.log.getvalue()
    lines = [json.loads(line) for line in out.splitlines()]
    answered = [line for line in lines if line.get("message") == "answered"]
    assert [(line.get("route"), line["status"], line.get("job_id")) for line in answered] == [
        ("/jobs", 202, "job-1"),
        ("/jobs/[^/]+", 200, "job-1"),
        ("/_relayq/run", 400, None),
        (None, 404, None),
        ("/queues", 401, None),
    ]
    for secret in (SECRET, TOKEN, OTHER):
        assert secret not in out


def test_the_function_never_hands_off_to_itself(load: Load) -> None:
    """An environment that is shared with dispatchers may say http."""
    endpoint = {"RELAYQ_HANDOFF": "http", "RELAYQ_HTTP_ENDPOINT": "https://a.example/_relayq/run"}
    api = load(**endpoint)
    assert api.ask("POST", "/jobs", {"name": "send_email"})[1]["handed_off"]
    assert [function for function, _ in api.lambda_.invoked] == ["the-runner"]


@pytest.mark.parametrize(("name", "status"), {"run": 202, "dispatch": 202, "status": 404, "health": 503}.items())
def test_the_sample_events_are_what_the_function_takes(api: Api, name: str, status: int) -> None:
    """They pass once the token is put in; without it they are refused."""
    event = copy.deepcopy(EVENTS[f"api_{name}"])
    assert api.raw(event)["statusCode"] == 401
    event["headers"]["x-relayq-token"] = TOKEN
    assert api.raw(event)["statusCode"] == status


def test_the_decisions_of_the_core_are_the_functions_too(api: Api) -> None:
    """It dispatches under the settings of its environment."""
    assert api.relayq.policy == Policy(backoff=Settings().backoff, max_attempts=3)


# ---------------------------------------------------------------- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
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
