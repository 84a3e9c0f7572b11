"""A real Chromium, watched: what it complains of and whom it asks is a failure of whatever test it was in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from relayq_core.jobs.registry import registry
from relayq_core.local.web import DashboardServer, serve
from relayq_core.testing import isolated_registry
from tests.browser.showcase import Showcase

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds. A busy machine is no failure; something that never comes is one.
PATIENCE = 20_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; where there is none the test is skipped and says why, but never in CI."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        problem = "there is no Chromium: `make browser` installs it where it is root and there is apt-get"
        pytest.fail(problem) if "CI" in os.environ else pytest.skip(problem)
    playwright: Playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """Contexts of the browser, and what went wrong in them."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self._contexts: list[BrowserContext] = []
        self.problems: list[str] = []
        #: answers that a test asks for on purpose, by their status or a word of theirs, are said on the console too
        self.expected: set[int | str] = set()

    def page(self, url: str, *, width: int = 1280, scheme: Any = "light", scripts: bool = True) -> Page:
        """A page in a browser that knows nothing yet, at this address."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        host = urlsplit(url).netloc
        page.on("console", lambda said: self._complain(f"console {said.type}: {said.text}"))
        page.on("pageerror", lambda error: self._complain(f"page error: {error}"))
        page.on("request", lambda asked: self._complain_of_another_host(asked.url, host))
        page.goto(url)
        return page

    def _complain(self, problem: str) -> None:
        if not any((said if isinstance(said, str) else f"status of {said}") in problem for said in self.expected):
            self.problems.append(problem)

    def _complain_of_another_host(self, url: str, host: str) -> None:
        if urlsplit(url).netloc != host:
            self._complain(f"asked another host: {url}")

    def close(self) -> None:
        """Close them all."""
        for context in self._contexts:
            context.close()


@pytest.fixture
def watched(chromium: Browser) -> Iterator[Watched]:
    """The browser, watched until the test is over."""
    watch = Watched(chromium)
    yield watch
    watch.close()
    assert watch.problems == []


@pytest.fixture
def showcase() -> Showcase:
    """A shop's evening."""
    return Showcase()


@pytest.fixture
def server(showcase: Showcase) -> Iterator[DashboardServer]:
    """The dashboard of it, with two jobs whose code is at hand."""
    from relayq_core import job

    with isolated_registry():

        @job(queue="emails", max_attempts=5)
        def send_email(to: str, subject: str, html: bool = False) -> None:
            """Send one e-mail."""

        @job(queue="reports", max_attempts=3)
        def render_invoice(month: str, pages: int = 1, tags: list[str] | None = None) -> None:
            """Render an invoice, page by page."""

        with serve(showcase.relayq, history=showcase.history, jobs=registry) as made:
            yield made
