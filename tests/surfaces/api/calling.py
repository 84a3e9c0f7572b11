"""The API function, loaded in its environment, and requests as a Function URL makes them."""

from __future__ import annotations

import base64
import copy
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import pytest
from hypothesis import strategies as st
from moto import mock_aws

from relayq_core import JobRecord
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.adapters.system_clock import SystemClock
from relayq_core.events.listeners import events as all_events
from relayq_core.ports import JobStore
from relayq_core.testing import MemoryStore
from tests.support.factories import a_burial, a_job, a_lease
from tests.support.fake_lambda import FakeLambda
from tests.support.lambda_context import Context
from tests.support.paths import ROOT

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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
