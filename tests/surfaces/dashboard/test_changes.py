"""What can be done from the dashboard, and what is said of it."""

from __future__ import annotations

from typing import Literal

import pytest

from relayq_core import Status, job
from tests.surfaces.dashboard.browsing import Answer, Browser, World


@pytest.fixture
def welcome(world: World) -> None:
    """A job whose code is there."""

    @job(queue="emails")
    def welcome(
        to: str,
        copies: int = 1,
        polite: bool = True,
        tone: Literal["warm", "dry"] = "warm",
        tags: list[str] | None = None,
    ) -> None: ...


@pytest.mark.usefixtures("welcome")
def test_a_form_dispatches_a_job_with_its_types(world: World, browser: Browser) -> None:
    """Numbers are numbers, choices are choices, and what was left empty is left out."""
    form = {
        "field.to": "a@b.c",
        "field.copies": "3",
        "field.polite": "false",
        "field.tone": '"dry"',
        "field.tags": '["x"]',
    }
    page = browser.change("/dashboard/dispatch", name="welcome", **form, delay="60")
    assert "Dispatched." in page.text
    [found] = world.store.jobs.values()
    assert found.payload == {"to": "a@b.c", "copies": 3, "polite": False, "tone": "dry", "tags": ["x"]}
    assert (found.queue, found.available_at) == ("emails", world.clock.now() + 60_000)


@pytest.mark.usefixtures("welcome")
@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"field.to": "a@b.c", "field.copies": "many"}, "expected JSON"),
        ({"field.to": "a@b.c", "field.copies": "1.5"}, "copies"),
        ({"field.to": "a@b.c", "delay": "soon"}, "expected seconds"),
        ({"field.to": "a@b.c", "delay": "-5"}, "delay"),
        ({"field.to": "a@b.c", "queue": "no such name"}, "queue"),
    ],
)
def test_what_cannot_be_dispatched_is_shown_again_with_the_reason(
    world: World, browser: Browser, form: dict[str, str], said: str
) -> None:
    """Nothing of what was typed is lost."""
    page = browser.change("/dashboard/dispatch", name="welcome", **form)
    assert (page.status, said in page.text) == (422, True)
    assert 'value="a@b.c"' in page.html
    assert world.store.jobs == {}


def test_a_job_whose_code_is_elsewhere_is_dispatched_by_name(world: World, browser: Browser) -> None:
    """Its payload is typed as JSON."""
    page = browser.change("/dashboard/dispatch", name="far_away", payload='{"n": 1}', queue="reports")
    assert "Dispatched." in page.text
    [found] = world.store.jobs.values()
    assert (found.name, found.queue, found.payload) == ("far_away", "reports", {"n": 1})
    wrong = browser.change("/dashboard/dispatch", name="far_away", payload="[1]")
    assert (wrong.status, "expected a JSON object" in wrong.text, "[1]" in wrong.html) == (422, True, True)


def test_a_duplicate_leads_to_the_job_that_has_the_key(world: World, browser: Browser) -> None:
    """The page says that nothing was dispatched."""
    browser.change("/dashboard/dispatch", name="far_away", payload="{}", unique="only-one")
    page = browser.change("/dashboard/dispatch", name="far_away", payload="{}", unique="only-one")
    assert "Not dispatched" in page.text
    assert len(world.store.jobs) == 1


def test_a_waiting_job_is_cancelled(world: World, browser: Browser) -> None:
    """At once."""
    world.waiting("job-1")
    assert "Cancelled." in browser.change("/dashboard/cancel", id="job-1").text
    assert world.store.jobs["job-1"].status is Status.CANCELLED
    assert "nothing was changed" in browser.change("/dashboard/cancel", id="job-1").text


def test_a_failed_job_is_redriven_or_forgotten(world: World, browser: Browser) -> None:
    """Each once; the operator who comes second hears so."""
    world.failed("job-1")
    world.failed("job-2")
    assert "Redriven: its attempts restart at 1" in browser.change("/dashboard/redrive", id="job-1").text
    assert world.store.jobs["job-1"].attempt == 0
    assert "Forgotten" in browser.change("/dashboard/forget", id="job-2").text
    assert "no longer in the failed table" in browser.change("/dashboard/forget", id="job-2").text
    assert world.store.failures == {}


def test_after_the_last_failure_is_forgotten_nothing_has_failed(world: World, browser: Browser) -> None:
    """There is no filter that nothing could fit."""
    world.failed("job-1")
    text = browser.change("/dashboard/forget", id="job-1").text
    assert "Nothing has failed" in text
    assert "matches this filter" not in text


def test_a_key_that_another_job_has_is_a_sentence(world: World, browser: Browser) -> None:
    """Nothing is changed."""
    key = "unique#send_email#k"
    world.failed("job-1", unique_pk=key)
    world.waiting("job-2", unique_pk=key)
    page = browser.change("/dashboard/redrive", id="job-1")
    assert (page.status, "job-2" in page.text) == (409, True)
    assert "job-1" in world.store.failures


# ---------------------------------------------------------------- many at once


def test_nothing_is_done_before_it_was_shown(world: World, browser: Browser) -> None:
    """The plan says how many, which, and how long it takes."""
    for n in range(30):
        world.failed(f"job-{n}", error="Timeout: no answer" if n % 3 else "KeyError: 'id'")
    plan = browser.change("/dashboard/failed/plan", verb="redrive", scope="all", rate="10", error="timeout")
    assert "Redrive 20 jobs?" in plan.text
    assert "Timeout: no answer 20" in plan.text
    assert "10 a second, about 2.0 s" in plan.text
    assert len(world.store.failures) == 30


def _to_the_end(browser: Browser, page: Answer) -> Answer:
    for _ in range(40):
        if "failed/step" not in page.html:
            return page
        page = browser.post("/dashboard/failed/step", page.hidden())
    raise AssertionError("it never ends")


@pytest.mark.parametrize("verb", ["redrive", "forget"])
def test_all_that_match_are_done_step_by_step(world: World, browser: Browser, verb: str) -> None:
    """Also more than one page; and no others."""
    for n in range(70):
        world.failed(f"job-{n}", error="Timeout: no answer" if n < 60 else "KeyError: 'id'")
        world.clock.advance(milliseconds=n % 2)  # two of them in one millisecond
    plan = browser.change("/dashboard/failed/plan", verb=verb, scope="all", rate="25", error="timeout")
    end = _to_the_end(browser, plan)
    assert f"{'Redriven' if verb == 'redrive' else 'Forgotten'} 60" in end.text
    assert sorted(world.store.failures) == [f"job-{n}" for n in range(60, 70)]
    assert len(world.store.jobs) == (60 if verb == "redrive" else 0)


def test_they_are_done_at_the_pace_that_was_asked_for(world: World, browser: Browser) -> None:
    """Ten a second: a hundred ms from one to the next, and no request lasts long."""
    for n in range(50):
        world.failed(f"job-{n}")
    page = browser.change("/dashboard/failed/plan", verb="redrive", scope="all", rate="5")
    longest = 0
    while "failed/step" in page.html:
        began = world.clock.now()
        page = browser.post("/dashboard/failed/step", page.hidden())
        longest = max(longest, world.clock.now() - began)
    assert 3000 <= longest <= 5000
    assert world.store.failures == {}


def test_a_job_that_fails_again_during_a_redrive_is_not_brought_back_again(world: World, browser: Browser) -> None:
    """It would go round without end."""
    for n in range(40):
        world.failed(f"job-{n}")
    page = browser.change("/dashboard/failed/plan", verb="redrive", scope="all", rate="5")
    for _ in range(30):
        if "failed/step" not in page.html:
            break
        page = browser.post("/dashboard/failed/step", page.hidden())
        for job_id in list(world.store.jobs):
            del world.store.jobs[job_id]
            world.failed(job_id)
    assert "Redriven 40" in page.text
    assert len(world.store.failures) == 40


def test_those_that_are_refused_are_passed_and_reported_with_the_reason(world: World, browser: Browser) -> None:
    """One that has lost its key must not stand in the way of the rest."""
    for n in range(30):
        world.failed(f"job-{n}", unique_pk=f"unique#send_email#{n}")
        world.clock.advance(milliseconds=1)
    world.waiting("job-x", unique_pk="unique#send_email#7")
    end = _to_the_end(browser, browser.change("/dashboard/failed/plan", verb="redrive", scope="all", rate="25"))
    assert "Redriven 29" in end.text
    assert "Refused 1" in end.text
    assert list(world.store.failures) == ["job-7"]


def test_only_those_that_were_ticked_are_done(world: World, browser: Browser) -> None:
    """Whatever the filter."""
    for n in range(60):
        world.failed(f"job-{n}")
    ticked = [f"job-{n}" for n in range(0, 60, 2)]
    plan = browser.change("/dashboard/failed/plan", verb="forget", scope="selected", rate="50", id=ticked)
    assert "Forget 30 jobs?" in plan.text
    assert "Forgotten 30" in _to_the_end(browser, plan).text
    assert sorted(world.store.failures) == sorted(f"job-{n}" for n in range(1, 60, 2))


@pytest.mark.parametrize(
    "form",
    [
        {"verb": "redrive", "scope": "selected"},
        {"verb": "drop", "scope": "all"},
        {"verb": "redrive", "scope": "all", "rate": "0"},
        {"verb": "redrive", "scope": "all", "rate": "fast"},
        {"verb": "redrive", "scope": "all", "place": "yesterday"},
        {"verb": "redrive", "scope": "all", "hours": "-1"},
        {"verb": "redrive", "scope": "selected", "id": "../x"},
    ],
)
@pytest.mark.parametrize("at", ["plan", "step"])
def test_a_plan_that_makes_no_sense_is_a_sentence(
    world: World, browser: Browser, at: str, form: dict[str, str]
) -> None:
    """Nothing is changed."""
    world.failed("job-1")
    assert browser.change(f"/dashboard/failed/{at}", **form).status == 400
    assert list(world.store.failures) == ["job-1"]


def test_failures_are_grouped_filtered_and_paged(world: World, browser: Browser) -> None:
    """The largest group first; each failure once, newest first."""
    for n in range(120):
        world.clock.advance(seconds=1)
        world.failed(f"job-{n}", name="send_email" if n % 4 else "report", error="A: b" if n % 2 else "C: d")
    first = browser.get("/dashboard/failed")
    assert "120 in all" in first.text
    assert first.text.index("A: b 60") < first.text.index("C: d 30")
    seen: list[str] = []
    address = "/dashboard/failed"
    while address:
        html = browser.get(address).html
        seen += [part.partition('"')[0] for part in html.split("/dashboard/job?id=")[1:]]
        address = html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert seen == [f"job-{n}" for n in reversed(range(120))]
    assert "30 match" in browser.get("/dashboard/failed?job=report").text
    assert "60 match" in browser.get("/dashboard/failed?error=a:+B").text
    assert "Nothing matches" in browser.get("/dashboard/failed?job=nobody").text
