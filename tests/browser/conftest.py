"""A real Chromium, watched: what it complains of and whom it asks is a failure of whatever test it was in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from relayq_core.jobs.registry import registry
from relayq_core.local.web import DashboardServer, serve
from relayq_core.testing import isolated_registry
from tests.browser.showcase import Showcase
from tests.browser.watching import Watched

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
    """The dashboard of it, with two jobs whose code is there."""
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
