"""Who is let in, and what no other site can do."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from relayq_core.dashboard.session import LIFETIME_MS, Sessions
from relayq_core.testing import ManualClock
from tests.surfaces.dashboard.browsing import TOKEN, World

SCREENS = [
    "/dashboard",
    "/dashboard/queue?name=emails",
    "/dashboard/job?id=job-1",
    "/dashboard/failed",
    "/dashboard/jobs",
    "/dashboard/dispatch",
    "/dashboard/health",
]
CHANGES = ["dispatch", "cancel", "redrive", "forget", "failed/plan", "failed/step"]


@pytest.mark.parametrize("address", [*SCREENS, "/dashboard/nothing", "/dashboard/", "/dashboard/../jobs"])
def test_without_a_session_every_screen_leads_to_the_login(world: World, address: str) -> None:
    """Those that are not there too: a visitor who is not let in learns nothing."""
    answer = world.browser(logged_in=False).get(address)
    assert (answer.status, answer.headers["Location"], answer.html) == (303, "/dashboard/login", "")


def test_a_page_that_refreshes_itself_is_sent_away(world: World) -> None:
    """A redirect would be followed, and the login form stand in the middle of the page."""
    answer = world.browser(logged_in=False).get("/dashboard", hx_request="true")
    assert (answer.status, answer.headers["HX-Redirect"]) == (401, "/dashboard/login")


@pytest.mark.parametrize("change", CHANGES)
def test_without_a_session_nothing_is_changed(world: World, change: str) -> None:
    """A form that is right does not help."""
    world.failed("job-1")
    browser = world.browser()
    token = browser.get("/dashboard").form_token
    browser.cookies.clear()
    answer = browser.post(f"/dashboard/{change}", {"form_token": token, "id": "job-1", "verb": "forget"})
    assert answer.headers["Location"] == "/dashboard/login"
    assert "job-1" in world.store.failures


@pytest.mark.parametrize("given", ["", " ", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"{TOKEN},{TOKEN}", "ü"])
def test_only_the_token_opens_it(world: World, given: str) -> None:
    """What was typed is not shown again."""
    browser = world.browser(logged_in=False)
    answer = browser.log_in(given)
    assert (answer.status, answer.cookies) == (403, [])
    assert not given.strip() or given not in answer.html


def test_without_a_token_no_one_is_let_in(world: World) -> None:
    """Closed, not open."""
    world.tokens = ()
    browser = world.browser(logged_in=False)
    assert [browser.log_in(given).status for given in ("", TOKEN)] == [403, 403]


def test_the_cookie_is_for_this_host_by_https_and_out_of_reach(world: World) -> None:
    """Of scripts, of other sites, of plain http; and the token is not in it."""
    browser = world.browser(logged_in=False)
    [cookie] = browser.log_in().cookies
    assert cookie.startswith("__Host-relayq=")
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}
    assert "Domain" not in cookie
    assert TOKEN not in cookie


def test_two_sessions_of_one_token_have_nothing_in_common(world: World) -> None:
    """Cookie and form differ: one cannot be made from the other."""
    one, other = world.browser(), world.browser()
    assert one.cookies != other.cookies
    assert one.get("/dashboard").form_token != other.get("/dashboard").form_token


def test_a_session_ends_with_its_time(world: World) -> None:
    """A cookie that was kept for longer opens nothing."""
    browser = world.browser()
    world.clock.advance(milliseconds=LIFETIME_MS - 1)
    assert browser.get("/dashboard").status == 200
    world.clock.advance(milliseconds=1)
    assert browser.get("/dashboard").status == 303


def test_a_session_ends_when_its_token_is_taken_back(world: World) -> None:
    """It lives on while two tokens are valid, whichever it was opened with."""
    browser = world.browser()
    world.tokens = ("the-one-that-comes-next", TOKEN)
    assert browser.get("/dashboard").status == 200
    world.tokens = ("the-one-that-comes-next",)
    assert browser.get("/dashboard").status == 303


def test_a_guess_at_the_token_is_dear_and_a_request_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie is signed by what scrypt makes of the token: a stolen one must not let words be tried by the billion."""
    made: list[dict[str, Any]] = []
    scrypt = hashlib.scrypt

    def counted(password: bytes, **cost: Any) -> bytes:
        made.append(cost)
        return scrypt(password, **cost)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    token = "a-token-of-this-test-alone"
    sessions = Sessions(lambda: (token,), ManualClock())
    cookie = sessions.begin(token)
    assert cookie is not None
    assert all(sessions.is_open(cookie) and sessions.make_form_token(cookie) for _ in range(50))
    assert [cost["n"] * cost["r"] for cost in made] == [2**17]
    until, nonce, signature = cookie.split(".")
    plain = hmac.new(token.encode(), "\n".join(("relayq", "session", until, nonce)).encode(), hashlib.sha256)
    assert signature != plain.hexdigest()


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_cookie_that_was_changed_opens_nothing(part: int) -> None:
    """A longer life or another nonce cannot be written into it."""
    sessions = Sessions(lambda: (TOKEN,), ManualClock())
    cookie = sessions.begin(TOKEN)
    assert cookie is not None
    assert sessions.is_open(cookie)
    parts = cookie.split(".")
    parts[part] = parts[part][:-1] + ("1" if parts[part][-1] != "1" else "2")
    assert not sessions.is_open(".".join(parts))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("given", [None, "", "0" * 64, "another session's"])
def test_a_form_of_another_site_changes_nothing(world: World, change: str, given: str | None) -> None:
    """A browser may send the cookie along, but no other site knows what the form must contain."""
    world.failed("job-1")
    browser = world.browser()
    form = {"id": "job-1", "verb": "forget", "scope": "selected", "name": "send_email"}
    if given is not None:
        form["form_token"] = world.browser().get("/dashboard").form_token if given.startswith("another") else given
    answer = browser.post(f"/dashboard/{change}", form)
    assert answer.status == 403
    assert list(world.store.failures) == ["job-1"]
    assert world.store.jobs == {}


@pytest.mark.parametrize("method", ["post", "Post", "pOST", "PUT", "put", "PATCH", "DELETE", "OPTIONS", "POST ", ""])
@pytest.mark.parametrize("options", [{}, {"may_change": False}])
def test_no_spelling_of_a_method_passes_without_a_form_of_the_session(
    world: World, method: str, options: dict[str, bool]
) -> None:
    """Routes are found by the method's upper case: all but what only reads is judged as a change."""
    world.failed("job-1")
    browser = world.browser(**options)
    form = {"id": "job-1", "verb": "forget", "scope": "selected", "name": "send_email"}
    for change in CHANGES:
        answer = browser._asked(method, f"/dashboard/{change}", urlencode(form), {})
        assert answer.status == 403, change
    assert list(world.store.failures) == ["job-1"]
    assert world.store.jobs == {}


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
@pytest.mark.parametrize("change", CHANGES)
def test_no_header_or_field_makes_a_change_of_what_reads(world: World, name: str, change: str) -> None:
    """Some frameworks take the method from there."""
    world.failed("job-1")
    browser = world.browser()
    browser._asked("GET", f"/dashboard/{change}?id=job-1&_method=POST", None, {name: "POST"})
    assert list(world.store.failures) == ["job-1"]
    assert world.store.jobs == {}


@pytest.mark.parametrize("spelling", ["HEAD", "head"])
def test_head_reads_and_nothing_more(world: World, spelling: str) -> None:
    """A preview that asks for the head of the link leaves it to the person who opens it."""
    browser = world.browser(logged_in=False, one_time_key="the-key")
    assert browser._asked(spelling, "/dashboard/enter?key=the-key", None, {}).cookies == []
    assert browser.get("/dashboard/enter?key=the-key").status == 303
    answer = browser._asked(spelling, "/dashboard", None, {})
    assert (answer.status, answer.html) == (200, "")


@pytest.mark.parametrize("change", CHANGES)
def test_a_read_only_dashboard_changes_nothing(world: World, change: str) -> None:
    """Even where the form is right: what is not shown is not allowed either."""
    world.failed("job-1")
    browser = world.browser(may_change=False)
    answer = browser.change(f"/dashboard/{change}", id="job-1", verb="forget", scope="selected", name="send_email")
    assert (answer.status, "read-only" in answer.text) == (403, True)
    assert list(world.store.failures) == ["job-1"]
    assert world.store.jobs == {}


def test_a_read_only_dashboard_shows_no_button_that_changes_anything(world: World) -> None:
    """What would be refused is not offered."""
    world.failed("job-1")
    world.waiting("job-2")
    browser = world.browser(may_change=False)
    for address in [*SCREENS, "/dashboard/job?id=job-2"]:
        forms = re.findall(r'method="post" action="([^"]+)"', browser.get(address).html)
        assert set(forms) <= {"/dashboard/logout", "/dashboard/failed/plan"}, address
    assert "<button" not in browser.get("/dashboard/failed").html.partition("failed/plan")[2]


def test_a_person_who_logs_out_is_asked_for_the_token_again(world: World) -> None:
    """Also where nothing may be changed."""
    browser = world.browser(may_change=False)
    assert "Token" in browser.change("/dashboard/logout").text
    assert browser.get("/dashboard").status == 303


def test_the_link_opens_once(world: World) -> None:
    """A stranger who reads it later, in a list of processes or a history, is not let in."""
    browser = world.browser(logged_in=False, one_time_key="the-key")
    assert browser.get("/dashboard/enter?key=another").status == 403
    assert browser.get("/dashboard/enter?key=the-key").status == 303
    assert browser.get("/dashboard").status == 200
    assert world.browser(logged_in=False).get("/dashboard/enter?key=").status == 403
    late = browser.get("/dashboard/enter?key=the-key")
    assert (late.status, late.cookies) == (403, [])


@pytest.mark.parametrize("address", [*SCREENS, "/dashboard/login", "/dashboard/nothing", "/dashboard/queue?name=%3C"])
def test_every_page_forbids_what_it_does_not_need(world: World, address: str) -> None:
    """No script or style but its own files, no frame, no cache; and none of its own pages needs more."""
    world.failed("job-1")
    answer = world.browser().get(address)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=|javascript:", answer.html)
    assert not re.search(r"""(?:src|href|action)=["'](?!/dashboard|#)""", answer.html)


def test_static_files_are_kept_by_browsers_and_nothing_else_is_given_out(world: World) -> None:
    """Their address changes with what they hold."""
    browser = world.browser(logged_in=False)
    for address in re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', browser.get("/dashboard/login").html):
        answer = browser.get(address)
        assert (answer.status, "immutable" in answer.headers["Cache-Control"]) == (200, True)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("../templates/base.html", "%2e%2e/session.py", "htmx/LICENSE", ""):
        assert browser.get(f"/dashboard/static/{name}").status in {303, 404}


@pytest.mark.parametrize("body", ["form_token=a&form_token=b", "%", "&" * 5000, "a=1&" * 2000])
def test_a_form_that_makes_no_sense_is_refused(world: World, body: str) -> None:
    """The sender gets an answer, and no exception."""
    assert world.browser()._asked("POST", "/dashboard/cancel", body, {}).status in {400, 403}


def test_a_defect_shows_nothing_of_what_was_being_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text may hold a payload."""

    def broken(job_id: str) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(world.relayq, "get", broken)
    answer = world.browser().get("/dashboard/job?id=job-1")
    assert (answer.status, "hunter2" in answer.html) == (500, False)
