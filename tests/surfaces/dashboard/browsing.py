"""A dashboard over stores in memory, and a browser that follows its links and sends its forms."""

from __future__ import annotations

import base64
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from relayq_core import JobRecord, RelayQ, Settings
from relayq_core.dashboard.history import MemoryHistory
from relayq_core.dashboard.session import Sessions
from relayq_core.handlers.dashboard.app import Dashboard
from relayq_core.jobs.registry import Registry
from relayq_core.testing import ManualClock, MemoryStore, RecordingHandoff
from tests.support.factories import a_burial, a_job, a_lease

TOKEN = "a-token-that-nobody-may-see"


class Answer:
    """What came back."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.status: int = raw["statusCode"]
        self.headers: dict[str, str] = raw["headers"] | raw.get("multiValueHeaders", {})
        self.cookies: list[str] = raw.get("cookies", [])
        self.html: str = raw["body"]

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.html)).split())

    @property
    def form_token(self) -> str:
        """The token in the page's forms."""
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', self.html)
        assert found is not None, "the page has no form"
        return found[1]

    def hidden(self) -> list[tuple[str, str]]:
        """The hidden fields of the last form on the page."""
        last = self.html[self.html.rindex("<form") :]
        return [(k, unescape(v)) for k, v in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', last)]


class Browser:
    """Asks the dashboard as a browser would through a Function URL."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self.cookies: dict[str, str] = {}

    def get(self, address: str, **headers: str) -> Answer:
        """Ask for a page."""
        return self._asked("GET", address, None, headers)

    def post(self, address: str, form: Any, **headers: str) -> Answer:
        """Send a form, as it is."""
        return self._asked("POST", address, urlencode(form, doseq=True), headers)

    def change(self, address: str, **form: Any) -> Answer:
        """Send a form of this session, and go where it leads."""
        token = self.dashboard.access.sessions.make_form_token(self.cookies[self.dashboard.access.cookie_name])
        answer = self.post(address, {"form_token": token, **form})
        return self.get(answer.headers["Location"]) if answer.status == 303 else answer

    def log_in(self, token: str = TOKEN) -> Answer:
        """Type the token."""
        return self.post("/dashboard/login", {"token": token})

    def _asked(self, method: str, address: str, body: str | None, headers: dict[str, str]) -> Answer:
        asked = urlsplit(address)
        if body is not None:
            headers = {"content-type": "application/x-www-form-urlencoded", **headers}
        event = {
            "version": "2.0",
            "rawPath": asked.path,
            "rawQueryString": asked.query,
            "queryStringParameters": dict(parse_qsl(asked.query)),
            "headers": {name.replace("_", "-"): value for name, value in headers.items()},
            "cookies": [f"{name}={value}" for name, value in self.cookies.items()],
            "requestContext": {"http": {"method": method, "path": asked.path}, "stage": "$default"},
            "body": None if body is None else base64.b64encode(body.encode()).decode(),
            "isBase64Encoded": body is not None,
        }
        answer = Answer(self.dashboard.answer(event))
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer


class World:
    """A dashboard and what lies behind it."""

    def __init__(self, jobs: Registry) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.handoff = RecordingHandoff()
        self.jobs = jobs
        self.history = MemoryHistory(self.clock)
        settings = Settings(jobs_table="jobs", failed_table="failed", runner_function="runner")
        self.relayq = RelayQ(settings, store=self.store, handoff=self.handoff, clock=self.clock)
        self.tokens: tuple[str, ...] = (TOKEN,)

    def browser(self, *, logged_in: bool = True, **options: Any) -> Browser:
        """A browser, at a dashboard of its own that allows changes unless the test forbids them."""
        made = Dashboard(
            relayq=self.relayq,
            sessions=Sessions(lambda: self.tokens, self.clock),
            **{"may_change": True, "history": self.history, "jobs": self.jobs, **options},
        )
        browser = Browser(made)
        if logged_in:
            assert browser.log_in().status == 303
        return browser

    def waiting(self, job_id: str, **changes: Any) -> JobRecord:
        """A job that waits."""
        now = self.clock.now()
        times = {"created_at": now, "updated_at": now, "available_at": now, "due_at": now}
        job = a_job(**{**times, "id": job_id, **changes})
        self.store.register_queue(job.queue)
        self.store.add(job)
        return job

    def failed(self, job_id: str, **changes: Any) -> JobRecord:
        """A job in the failed table."""
        error = changes.pop("error", None)
        self.waiting(job_id, **changes)
        claimed = self.store.claim(job_id, a_lease(now=self.clock.now())).record
        assert claimed is not None
        self.store.settle(claimed, a_burial(claimed, now=self.clock.now()))
        if error is not None:
            self.store.failures[job_id] = self.store.failures[job_id].evolve(error=error)
        return self.store.failures[job_id]
