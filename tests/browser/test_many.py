"""Many failures at once, in a browser that goes on by itself: what people see where a step goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from relayq_core.errors import StoreError
from relayq_core.local.web import DashboardServer
from tests.browser.showcase import Showcase
from tests.browser.watching import Watched

pytestmark = pytest.mark.browser


@pytest.fixture
def planned(watched: Watched, server: DashboardServer) -> Callable[[], Page]:
    """The plan to redrive all failures of the evening, fifty a second."""

    def plan() -> Page:
        page = watched.page(server.url)
        page.goto(f"{server.address}/failed")
        page.get_by_label("Which").select_option("All that match")
        page.get_by_label("How fast").select_option("50 a second")
        page.get_by_role("button", name="Redrive…").click()
        expect(page.locator("h1")).to_have_text("Redrive 65 jobs?")
        return page

    return plan


def _redriven(page: Page) -> Any:
    return page.locator(".tile", has_text="Redriven").locator("dd")


def _keep(page: Page, name: str) -> None:
    if folder := os.environ.get("PICTURES_FOLDER"):
        page.screenshot(path=Path(folder) / f"many-{name}.png")


def test_a_table_that_refuses_is_shown_and_the_work_goes_on_from_there(
    planned: Callable[[], Page], showcase: Showcase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing moves while nothing is done, and the operator does not have to begin again."""
    page = planned()
    real, asked = showcase.store.redrive, []

    def redrive(*given: Any) -> Any:
        asked.append(given)
        if len(asked) > 30:
            raise StoreError("the table is throttled", "wait a moment")
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(showcase.store, "redrive", redrive)
        page.get_by_role("button", name="Redrive 65").click()
        expect(page.get_by_role("alert")).to_contain_text("the table is throttled")
        _keep(page, "refused")
    expect(_redriven(page)).to_have_text("30")
    expect(page.locator("progress")).to_have_count(0)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    expect(_redriven(page)).to_have_text("65")
    assert showcase.store.failures == {}


@pytest.mark.parametrize("how", ["a defect", "no answer"])
def test_a_step_without_an_answer_is_shown_and_the_work_goes_on_from_there(
    planned: Callable[[], Page], watched: Watched, showcase: Showcase, how: str
) -> None:
    """The function was killed, or the network is gone: the page has to know it by itself."""
    watched.expected |= {"500", "ERR_FAILED", "sendError", "htmx:afterRequest"}
    page = planned()
    steps: list[str] = []

    def answer(route: Route) -> None:
        steps.append(route.request.url)
        if len(steps) != 2:
            route.continue_()
        elif how == "a defect":
            route.fulfill(status=500, body="<h1>killed</h1>", content_type="text/html")
        else:
            route.abort()

    page.route("**/failed/step", answer)
    page.get_by_role("button", name="Redrive 65").click()
    expect(page.get_by_role("alert")).to_contain_text("a step had no answer")
    _keep(page, how.replace(" ", "-"))
    expect(page.locator("progress")).to_be_hidden()
    expect(_redriven(page)).to_have_text("25")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    expect(_redriven(page)).to_have_text("65")
    assert showcase.store.failures == {}
