"""Jobs over HTTP, from outside: the API function as it is deployed, through its URL."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relayq_core import JobRecord, RelayQ
from relayq_core.adapters.http_handoff import HttpHandoff
from tests.e2e.deployment import API_TOKEN, Deployment
from tests.support.paths import ROOT
from tests.surfaces.docs.blocks import blocks

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

Ended = Callable[[str], JobRecord]


@pytest.fixture(scope="session")
def url(deployment: Deployment) -> str:
    """The API's URL. The name in the output is AWS's; the emulator serves it under a path of its own, too."""
    host = deployment.outputs["ApiUrl"].removeprefix("https://")
    return f"{deployment.emulator.endpoint}/_aws/lambda-url/{host.partition('.')[0]}"


def ask(url: str, body: Any = None, token: str | None = API_TOKEN) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    if body is not None:
        request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("X-RelayQ-Token", token)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_a_job_is_dispatched_over_http_and_completes(url: str, completed: Ended, deployment: Deployment) -> None:
    """The function uses its own rights, and the caller needs no AWS credentials."""
    status, told = ask(f"{url}/jobs", {"name": "Greet", "args": {"name": "Ada"}, "queue": "probes"})
    assert (status, told["duplicate"], told["handed_off"]) == (202, False, True), deployment.told()
    record = completed(told["job_id"])
    status, shown = ask(f"{url}/jobs/{record.id}")
    assert (status, shown["status"], shown["payload"]) == (200, "completed", {"name": "Ada"})
    assert shown["result"] == record.result


def test_the_caller_that_the_page_shows_works(url: str, tmp_path: Path) -> None:
    """docs/how-to/use-http.md, as it stands there, in a process that has nothing of RelayQ's or AWS's."""
    (shown,) = (block for block in blocks(ROOT / "docs/how-to/use-http.md") if block.file == "shop/background.py")
    script = tmp_path / "background.py"
    script.write_text(shown.text)
    given = {"API_URL": f"{url}/", "API_TOKEN": API_TOKEN, "JOB": "Greet", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, script], env=given, capture_output=True, text=True, check=False, timeout=200)
    assert (done.stdout, done.stderr) == ("completed\n", "")


def test_a_dispatcher_may_hand_off_over_http(relayq: RelayQ, url: str, completed: Ended) -> None:
    """RELAYQ_HANDOFF=http: it writes the row itself, and the API function invokes the runner."""
    endpoint = f"{url}/_relayq/run"
    settings = replace(relayq.settings, handoff="http", http_endpoint=endpoint, http_token=(API_TOKEN,))
    over_http = RelayQ(settings)
    dispatched = over_http.dispatch("Greet", {"name": "Grace"}, queue="probes")
    assert dispatched.handed_off
    assert completed(dispatched.job_id).result["greeting"] == "hello Grace"
    assert isinstance(over_http.handoff, HttpHandoff)
    over_http.handoff.close()


def test_a_job_is_cancelled_listed_and_counted_over_http(url: str) -> None:
    """What an operator asks, with the function's grants: IAM is checked here."""
    body = {"name": "Greet", "args": {"name": "no"}, "queue": "probes", "delay": 3600, "unique": "api:1"}
    job_id = ask(f"{url}/jobs", body)[1]["job_id"]
    assert ask(f"{url}/jobs", body)[1] == {"job_id": job_id, "duplicate": True, "handed_off": False}
    assert "probes" in [view["queue"] for view in ask(f"{url}/queues")[1]["queues"]]
    assert ask(f"{url}/jobs/{job_id}/cancel", {})[1]["status"] == "cancelled"
    assert ask(f"{url}/failed")[0] == 200
    assert ask(f"{url}/health")[0] in {200, 503}


def test_a_failed_job_is_redriven_over_http(relayq: RelayQ, url: str, ended: Ended, deployment: Deployment) -> None:
    """It fails again: it is doomed. But that is another try."""
    log = deployment.log("doomed-again")
    job_id = relayq.dispatch("Doomed", {"log": str(log)}, queue="probes").job_id
    ended(job_id)
    assert job_id in [failed["id"] for failed in ask(f"{url}/failed?queue=probes&limit=100")[1]["failed"]]
    status, told = ask(f"{url}/failed/{job_id}/redrive", {})
    assert (status, told["attempt"], told["payload"]) == (200, 0, {"log": str(log)})


@pytest.mark.parametrize("token", [None, "not-the-token-at-all"])
def test_without_the_token_every_route_is_closed(url: str, token: str | None) -> None:
    """The URL is open to the world; the function is not."""
    for path in ("/jobs/unknown", "/queues", "/failed", "/health", "/"):
        assert ask(url + path, token=token)[0] == 401
    for path in ("/_relayq/run", "/jobs"):
        assert ask(url + path, {"job_id": "unknown"}, token=token)[0] == 401


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The emulator serves the URL under a path, and the page leads to where it is on a URL of its own."""

    def redirect_request(self, *_: Any) -> None:
        return None


def browsed(address: str, form: dict[str, str] | None = None, cookie: str = "") -> tuple[int, Any, str]:
    """Status, headers and page, as a browser gets them."""
    body = None if form is None else urllib.parse.urlencode(form).encode()
    asked = urllib.request.Request(address, data=body, headers={"Cookie": cookie} if cookie else {})
    try:
        with urllib.request.build_opener(_NoRedirects).open(asked, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as other:
        with other:
            return other.code, other.headers, other.read().decode()


def test_the_dashboard_is_on_the_url_for_a_holder_of_the_token(
    url: str, completed: Ended, relayq: RelayQ, deployment: Deployment
) -> None:
    """It uses the layer's own Jinja, templates and static files, and the function's own rights."""
    status, headers, _ = browsed(f"{url}/dashboard")
    assert (status, headers["Location"]) == (303, "/dashboard/login"), deployment.told()
    assert browsed(f"{url}/dashboard/login", {"token": "not-the-token-at-all"})[0] == 403
    status, headers, _ = browsed(f"{url}/dashboard/login", {"token": API_TOKEN})
    assert status == 303, deployment.told()
    cookie = headers["Set-Cookie"].partition(";")[0]
    done = completed(relayq.dispatch("Greet", {"name": "Ada"}, queue="probes").job_id)
    waiting = relayq.dispatch("Greet", {"name": "Bob"}, queue="probes", delay=3600).job_id
    for screen, shown in {
        "": "probes",
        "/queue?name=probes": waiting,
        f"/job?id={done.id}": "completed",
        "/failed": "Failed jobs",
        "/jobs": "by its name",
        "/health": "Last sweep",
    }.items():
        status, _, page = browsed(f"{url}/dashboard{screen}", cookie=cookie)
        assert (status, shown in page) == (200, True), (screen, deployment.told())
    for file in re.findall(r'/dashboard/static/[^"]+', page):
        assert browsed(f"{url}{file}")[0] == 200
    token = page.partition('name="form_token" value="')[2].partition('"')[0]
    status, headers, _ = browsed(f"{url}/dashboard/cancel", {"id": waiting, "form_token": token}, cookie)
    assert (status, "notice=cancelled" in headers["Location"]) == (303, True), deployment.told()
    cancelled = relayq.get(waiting)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
