"""Every screen in a real browser: at a desk and on a phone, by day and by night, by keyboard and without scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from relayq_core.local.web import DashboardServer, serve
from tests.browser.showcase import FAILED_JOB, RUNNING_JOB, Showcase
from tests.browser.watching import Watched
from tests.support.factories import completion

pytestmark = pytest.mark.browser

SCREENS = {
    "overview": "",
    "queue": "/queue?name=emails",
    "job": f"/job?id={FAILED_JOB}",
    "running": f"/job?id={RUNNING_JOB}",
    "failed": "/failed",
    "jobs": "/jobs",
    "dispatch": "/dispatch?name=send_email",
    "health": "/health",
}
#: Those that the documentation shows, with the height that they need.
PICTURES = {
    ("overview", 1280, "light"): 820,
    ("job", 1280, "dark"): 1000,
    ("overview", 380, "dark"): 1180,
}


#: How many tables show a part of their columns only when they are moved sideways.
_CUT_TABLES = "[...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth).length"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_every_screen_fits_and_complains_of_nothing(
    watched: Watched, server: DashboardServer, width: int, scheme: str
) -> None:
    """No console error, no other host is asked, nothing sticks out. PICTURES_FOLDER is where pictures are kept."""
    page = watched.page(server.url, width=width, scheme=scheme)
    for name, path in SCREENS.items():
        page.goto(server.address + path)
        expect(page.locator("h1").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(_CUT_TABLES) == 0, name
        _keep(page, name, width, scheme)


def _keep(page: Page, name: str, width: int, scheme: str) -> None:
    folder = os.environ.get("PICTURES_FOLDER")
    height = PICTURES.get((name, width, scheme))
    if folder and height:
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=Path(folder) / f"dashboard-{name}-{scheme}-{width}.png")
        page.set_viewport_size({"width": width, "height": 800})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_what_it_stands_on(watched: Watched, server: DashboardServer, scheme: str) -> None:
    """A contrast of 4.5 at least, as WCAG asks for; for every text of the screens."""
    page = watched.page(server.url, scheme=scheme)
    for path in SCREENS.values():
        page.goto(server.address + path)
        assert page.evaluate(_CONTRAST) == [], path


_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] > 200) return found;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || element.closest("svg, select, noscript") || !element.getClientRects().length) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) poor.push(`${element.className} ${contrast.toFixed(2)} ${element.textContent.slice(0, 30)}`);
  }
  return poor;
}"""


def test_the_theme_is_the_systems_until_another_is_chosen_and_stays_chosen(
    watched: Watched, server: DashboardServer
) -> None:
    """Over pages and reloads."""
    page = watched.page(server.url, scheme="dark")
    assert _ground(page) == "dark"
    toggle = page.locator("[data-theme-toggle]")
    toggle.click()
    assert _ground(page) == "light"
    page.goto(f"{server.address}/failed")
    assert _ground(page) == "light"
    toggle.click()
    assert (_ground(page), page.locator("[data-theme-toggle]").inner_text()) == ("dark", "Dark")


def _ground(page: Page) -> str:
    """How the page looks."""
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return "light" if "247" in colour else "dark"


_FOCUSED = """() => {
  const at = document.activeElement;
  return {text: at.textContent.trim(), outline: getComputedStyle(at).outlineStyle};
}"""


def test_the_keyboard_is_enough(watched: Watched, server: DashboardServer) -> None:
    """Skip to the content, walk by Tab, open by Enter; what has the focus can be seen."""
    page = watched.page(server.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused: dict[str, Any] = page.evaluate(_FOCUSED)
        assert focused["outline"] != "none", focused
        reached.append(focused["text"])
        if focused["text"] == "emails":
            break
    assert {"Overview", "Failed", "Jobs", "Health", "24h", "emails"} <= set(reached)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("emails")


def test_a_page_refreshes_itself_while_it_is_seen_and_rests_while_it_is_hidden(
    watched: Watched, server: DashboardServer, showcase: Showcase
) -> None:
    """A tab that is forgotten costs nothing."""
    page = watched.page(server.url)
    expect(page.locator("tr", has_text="webhooks")).to_be_visible()
    showcase.store.register_queue("zeppelins")
    expect(page.locator("tr", has_text="zeppelins")).to_be_visible()
    _hide(page, hidden=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4_000)
    assert asked == []
    showcase.store.register_queue("zoos")
    _hide(page, hidden=False)
    expect(page.locator("tr", has_text="zoos")).to_be_visible()


def test_a_job_that_has_ended_is_not_asked_for_again(
    watched: Watched, server: DashboardServer, showcase: Showcase
) -> None:
    """Until then its page follows it."""
    page = watched.page(server.url)
    page.goto(f"{server.address}/job?id={RUNNING_JOB}")
    expect(page.locator(".badge.processing")).to_be_visible()
    running = showcase.store.jobs[RUNNING_JOB]
    showcase.store.settle(running, completion(running, '"done"', now=showcase.clock.now()))
    expect(page.locator(".badge.completed")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4_000)
    assert asked == []


def _hide(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_without_scripts_everything_is_there_and_can_be_done(watched: Watched, server: DashboardServer) -> None:
    """Scripts refresh and save clicks, no more."""
    page = watched.page(server.url, scripts=False)
    page.get_by_role("link", name="Failed", exact=True).click()
    page.locator("input[name=id]").first.check()
    page.get_by_role("button", name="Forget…").click()
    page.get_by_role("button", name="Forget 1, for good").click()
    expect(page.get_by_text("Done.")).to_be_visible()


def test_a_read_only_dashboard_offers_nothing_and_refuses_what_is_sent_all_the_same(
    watched: Watched, showcase: Showcase
) -> None:
    """A form that was made by hand is refused too."""
    with serve(showcase.relayq, may_change=False) as server:
        page = watched.page(server.url)
        watched.expected = {403}
        expect(page.get_by_text("read-only")).to_be_visible()
        page.goto(f"{server.address}/job?id={FAILED_JOB}")
        expect(page.locator("h1")).to_have_text("post_webhook")
        expect(page.get_by_role("button", name="Redrive")).to_have_count(0)
        status = page.evaluate(
            """async ([address, id]) => (await fetch(`${address}/redrive`, {
              method: "POST",
              body: new URLSearchParams({id, form_token: document.querySelector("[name=form_token]").value}),
            })).status""",
            [server.address, FAILED_JOB],
        )
        assert status == 403
    assert FAILED_JOB in showcase.store.failures


def test_another_browser_gets_in_by_the_token_alone(watched: Watched, server: DashboardServer) -> None:
    """The link has been used by then."""
    watched.page(server.url)
    watched.expected = {403}
    page = watched.page(server.url)
    expect(page.get_by_text("This link has been used")).to_be_visible()
    page.get_by_label("Token").fill("a wrong one")
    page.get_by_role("button", name="Open the dashboard").click()
    expect(page.get_by_text("That is not the token")).to_be_visible()
    page.get_by_label("Token").fill(server.token)
    page.get_by_role("button", name="Open the dashboard").click()
    expect(page.locator("h1")).to_have_text("Overview")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
