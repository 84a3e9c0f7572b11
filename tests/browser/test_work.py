"""An operator at work: real handlers run the jobs, in processes of their own, and a real browser watches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from relayq_core.client import RelayQ
from relayq_core.jobs.registry import import_jobs, registry
from relayq_core.local.history import LogHistory
from relayq_core.local.stack import RUNNER, Stack
from relayq_core.local.web import DashboardServer, serve
from relayq_core.testing import isolated_registry
from tests.browser.watching import Watched

pytestmark = pytest.mark.browser

JOBS = '''
"""The jobs of a shop."""

import time
from pathlib import Path

from relayq_core import JobContext, job


@job
def greet(context: JobContext, name: str, pages: int = 3) -> str:
    """Greet somebody, page by page."""
    for page in range(1, pages + 1):
        context.progress(page / pages, f"page {page} of {pages}")
        time.sleep(1.2)
    return f"Hello, {name}!"


@job(max_attempts=1)
def deliver(parcel: int) -> str:
    """Works once the van is there."""
    if not Path(__file__).with_name("van").exists():
        raise RuntimeError("there is no van")
    return f"delivered {parcel}"
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the jobs of a shop."""
    (tmp_path / "browsed_shop.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def server(shop: Path) -> Iterator[DashboardServer]:
    """The dashboard of an embedded stack that runs them."""
    logs = shop / "logs"
    settings = {"RELAYQ_JOB_MODULES": "browsed_shop"}
    with isolated_registry(), Stack(logs, settings=settings, path=[shop], tick=1.0):
        import_jobs(["browsed_shop"])
        relayq = RelayQ()
        history = LogHistory([logs / f"{RUNNER}.log"], relayq.clock)
        with serve(relayq, history=history, jobs=registry) as made:
            yield made


def test_a_job_is_dispatched_from_its_form_watched_and_found_in_the_history(
    watched: Watched, server: DashboardServer
) -> None:
    """From the empty system to its first completed job."""
    page = watched.page(server.url)
    expect(page.get_by_text("No job has been dispatched yet")).to_be_visible()
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("link", name="Dispatch greet").click()
    page.get_by_label("name").fill("Ada")
    page.get_by_role("button", name="Dispatch").click()
    expect(page.get_by_text("Dispatched.")).to_be_visible()
    expect(page.get_by_text("page ", exact=False).first).to_be_visible()
    expect(page.locator(".badge.completed")).to_be_visible()
    expect(page.get_by_text("Hello, Ada!")).to_be_visible()
    page.get_by_role("link", name="Overview", exact=True).click()
    expect(page.locator(".tile", has_text="Completed").locator("dd")).to_have_text("1")
    expect(page.get_by_text("on time")).to_be_visible()


def test_failed_jobs_are_understood_mended_and_brought_back(
    watched: Watched, server: DashboardServer, shop: Path
) -> None:
    """One from its own page, the rest at once from the list; on a phone, at night."""
    relayq = RelayQ()
    ids = [relayq.dispatch("deliver", {"parcel": n}).job_id for n in range(7)]
    page = watched.page(server.url, width=380, scheme="dark")
    page.get_by_role("link", name="Failed", exact=True).click()
    for _ in range(20):
        if page.get_by_text("7 in all").count():
            break
        page.wait_for_timeout(500)
        page.reload()
    page.get_by_role("link", name="deliver").first.click()
    expect(page.locator("h2", has_text="Why it failed")).to_be_visible()
    expect(page.get_by_text("there is no van").first).to_be_visible()
    (shop / "van").touch()
    page.get_by_role("button", name="Redrive").click()
    expect(page.get_by_text("Redriven: its attempts")).to_be_visible()
    expect(page.locator(".badge.completed")).to_be_visible()
    page.get_by_role("link", name="Failed", exact=True).click()
    page.get_by_label("Error").fill("no van")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("6 match")).to_be_visible()
    page.get_by_label("Which").select_option("All that match")
    page.get_by_label("How fast").select_option("5 a second")
    page.get_by_role("button", name="Redrive…").click()
    expect(page.locator("h1")).to_have_text("Redrive 6 jobs?")
    page.get_by_role("button", name="Redrive 6").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    expect(page.locator(".tile", has_text="Redriven").locator("dd")).to_have_text("6")
    page.goto(f"{server.address}/job?id={ids[-1]}")
    expect(page.locator(".badge.completed")).to_be_visible()
    page.goto(f"{server.address}/failed")
    expect(page.get_by_text("Nothing has failed")).to_be_visible()
