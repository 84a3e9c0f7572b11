"""The dashboard on the API function, and what goes wrong inside of it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from relayq_core import JobRecord, Settings, StoreError
from relayq_core.errors import DispatchUnknown
from relayq_core.model.policy import Policy
from tests.support.factories import a_job
from tests.support.lambda_context import Context
from tests.support.paths import ROOT
from tests.surfaces.api.calling import (
    EVENTS,
    OTHER,
    SECRET,
    TOKEN,
    Api,
    Load,
    browsed,
    request,
)

# ---------------------------------------------------------------- the dashboard


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
