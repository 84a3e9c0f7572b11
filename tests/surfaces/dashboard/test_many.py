"""Many failures: how little is read to go through them, and what becomes of work that the table does not let go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relayq_core.dashboard import failures
from relayq_core.errors import StoreError
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.jobs import Failures
from relayq_core.testing import MemoryStore
from tests.support.factories import a_job
from tests.surfaces.dashboard.browsing import Answer, Browser, World

STEP = "/dashboard/failed/step"


class Rows:
    """The failures of one queue as an index holds them, newest first; counts what is read of them."""

    def __init__(self, world: World, number: int, *, rare: int) -> None:
        now = world.clock.now()
        base = a_job(id="x").evolve(status=Status.FAILED)
        self.rows = [
            base.evolve(id=f"job-{n}", finished_at=now - n, error="E: rare" if n % rare == rare - 1 else "E: no")
            for n in range(number)
        ]
        self.read = 0
        self.forgotten: list[str] = []

    def failed(self, queue: str, limit: int, until: int | None = None) -> Iterator[JobRecord]:
        """Of any queue the same; a row that is passed over is not read, as a key condition does it."""
        for row in self.rows:
            if row.id in self.forgotten or (until is not None and (row.finished_at or 0) > until):
                continue
            self.read += 1
            yield row

    def forget(self, job_id: str) -> bool:
        """Nothing is deleted, so that the rows stay as they are counted."""
        self.forgotten.append(job_id)
        return True


@pytest.fixture
def rows(world: World, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """20,000 failures, each hundredth of them rare."""
    made = Rows(world, 20_000, rare=100)
    world.store.register_queue("emails")
    monkeypatch.setattr(world.store, "list_failed", made.failed)
    monkeypatch.setattr(world.store, "forget", made.forget)
    return made


@pytest.mark.parametrize("asked", ["", "?error=nothing+like+it", "?job=nobody", "?error=rare"])
def test_a_page_of_failures_reads_no_further_than_it_says(browser: Browser, rows: Rows, asked: str) -> None:
    """Whatever the filter fits."""
    assert browser.get(f"/dashboard/failed{asked}").status == 200
    assert rows.read <= failures.SCANNED + 1


def test_a_later_page_reads_nothing_of_those_before_it(world: World, rows: Rows) -> None:
    """It begins at its place, and not at the newest."""
    found = failures.scan_failures(world.relayq, Failures(), failures.format_place(rows.rows[15_000]), limit=50)
    assert found.jobs[0].id == "job-15001"
    assert rows.read <= 52


def test_a_filter_that_fits_little_is_looked_through_a_thousand_at_a_time(browser: Browser, rows: Rows) -> None:
    """It says how far it has come, and all are found by links alone."""
    assert "Nothing matches so far None of the newest 1,000" in browser.get("/dashboard/failed?job=nobody").text
    first = browser.get("/dashboard/failed?error=rare")
    assert "10 match among the newest 1,000" in first.text
    seen: list[str] = []
    address = "/dashboard/failed?error=rare"
    pages = 0
    while address:
        html = browser.get(address).html
        seen += [part.partition('"')[0] for part in html.split("/dashboard/job?id=")[1:]]
        address = html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        pages += 1
        assert pages <= 21
    assert seen == [f"job-{n}" for n in range(99, 20_000, 100)]


def test_forgetting_few_among_many_reads_the_list_once(browser: Browser, rows: Rows) -> None:
    """Every step goes on where the last one ended."""
    plan = browser.change("/dashboard/failed/plan", verb="forget", scope="all", rate="50", error="rare")
    assert "Forget 10+ jobs?" in plan.text
    assert "among the newest 1,000 failures" in plan.text
    rows.read = steps = 0
    page = plan
    while "failed/step" in page.html:
        page = browser.post(STEP, page.hidden())
        steps += 1
        assert steps <= 40
    assert "Forgotten 200" in page.text
    assert len(rows.forgotten) == len(set(rows.forgotten)) == 200
    assert rows.read <= 20_000 + 3 * steps


def test_a_plan_whose_filter_fits_only_older_ones_can_be_carried_out(browser: Browser, rows: Rows) -> None:
    """That the newest thousand hold none does not mean that there is none."""
    rows.rows = [row.evolve(error="E: no") if n < 1500 else row for n, row in enumerate(rows.rows)]
    plan = browser.change("/dashboard/failed/plan", verb="forget", scope="all", rate="50", error="rare")
    assert "Forget all that match?" in plan.text
    assert "None of the newest 1,000 matches" in plan.text
    page = browser.post(STEP, plan.hidden())
    assert "It has reached the jobs that failed" in page.text
    assert "Forgotten 0" in page.text
    assert "Forgotten 5" in browser.post(STEP, page.hidden()).text


# ---------------------------------------------------------------- trouble


class Trouble:
    """A table that refuses writes while it is set to, any number of times."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: int | None = None
        self.asked = 0
        self._real: dict[str, Callable[..., Any]] = {"forget": store.forget, "redrive": store.redrive}
        for verb in self._real:
            monkeypatch.setattr(store, verb, lambda *given, verb=verb: self._answer(verb, *given))

    def _answer(self, verb: str, *given: Any) -> Any:
        self.asked += 1
        if self.after is not None and self.asked > self.after:
            raise StoreError("the table is throttled", "wait a moment")
        return self._real[verb](*given)


@pytest.fixture
def trouble(world: World, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """None yet."""
    return Trouble(world.store, monkeypatch)


def _begun(browser: Browser, **form: Any) -> Answer:
    return browser.change("/dashboard/failed/plan", **{"verb": "forget", "scope": "all", "rate": "25", **form})


@pytest.mark.parametrize("verb", ["redrive", "forget"])
@pytest.mark.parametrize("scope", ["all", "selected"])
def test_a_step_that_the_table_refuses_says_so_and_goes_on_when_asked(
    world: World, browser: Browser, trouble: Trouble, verb: str, scope: str
) -> None:
    """What was done is counted, and what was not is selected again: at the end each was done once."""
    for n in range(60):
        world.failed(f"job-{n}")
        world.clock.advance(milliseconds=n % 2)
    page = _begun(browser, verb=verb, scope=scope, id=[f"job-{n}" for n in range(60)])
    trouble.after = 30
    page = browser.post(STEP, page.hidden(), hx_request="true")
    assert 'hx-trigger="load, submit"' in page.html
    page = browser.post(STEP, page.hidden(), hx_request="true")
    assert page.status == 200  # a script takes no other for a page
    assert "<html" not in page.html
    assert "the table is throttled" in page.text
    assert f"{'Redriven' if verb == 'redrive' else 'Forgotten'} 30" in page.text
    assert "Refused 0" in page.text
    assert 'hx-trigger="submit"' in page.html
    assert "<progress" not in page.html
    assert '<button class="first">Continue' in page.html
    trouble.after = None
    while "failed/step" in page.html:
        page = browser.post(STEP, page.hidden(), hx_request="true")
    assert f"{'Redriven' if verb == 'redrive' else 'Forgotten'} 60" in page.text
    assert "Already gone 0 Refused 0" in page.text
    assert world.store.failures == {}


def test_without_scripts_the_page_of_a_step_that_was_refused_has_a_way_on_as_well(
    world: World, browser: Browser, trouble: Trouble
) -> None:
    """It is called what it is: not a success."""
    for n in range(10):
        world.failed(f"job-{n}")
    page = _begun(browser)
    trouble.after = 4
    page = browser.post(STEP, page.hidden())
    assert (page.status, "Forgotten 4" in page.text, "Continue" in page.text) == (503, True, True)
    trouble.after = None
    assert "Forgotten 10" in browser.post(STEP, page.hidden()).text


def test_a_list_that_cannot_be_read_is_reported_too(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was done in that step, and nothing of the work is lost."""
    for n in range(30):
        world.failed(f"job-{n}")
    page = browser.post(STEP, _begun(browser).hidden())

    def failed(*_: Any) -> Any:
        raise StoreError("the table is throttled", "wait a moment")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "list_failed", failed)
        page = browser.post(STEP, page.hidden(), hx_request="true")
    assert (page.status, "Forgotten 25" in page.text, "throttled" in page.text) == (200, True, True)
    assert "Forgotten 30" in browser.post(STEP, page.hidden()).text


def test_refusals_in_a_row_are_counted_over_steps(world: World, browser: Browser, trouble: Trouble) -> None:
    """At one a second a step is four jobs: a table that refuses all must end it nevertheless."""
    for n in range(20):
        world.failed(f"job-{n}")
    page = _begun(browser, rate="1")
    trouble.after = 2
    steps = 0
    while "Continue" not in page.html.replace("hidden>Continue", "").replace("<noscript><button>Continue", ""):
        page = browser.post(STEP, page.hidden(), hx_request="true")
        steps += 1
        assert steps < 5
    assert trouble.asked <= 2 + 8
    assert "Forgotten 2" in page.text
    assert "the table is throttled" in page.text


def test_one_that_the_table_refuses_among_others_does_not_stop_them(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted and reported; it alone stays."""
    for n in range(30):
        world.failed(f"job-{n}")
        world.clock.advance(milliseconds=1)
    real = world.store.forget

    def forget(job_id: str) -> bool:
        if job_id == "job-7":
            raise StoreError("the item is too large", "look at it")
        return real(job_id)

    monkeypatch.setattr(world.store, "forget", forget)
    page = _begun(browser)
    while "failed/step" in page.html:
        page = browser.post(STEP, page.hidden())
    assert "Forgotten 29" in page.text
    assert "Refused 1" in page.text
    assert list(world.store.failures) == ["job-7"]


def test_no_job_is_begun_late_in_a_request(world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that takes seconds for each would outlast the function, and its result would never be shown."""
    for n in range(20):
        world.failed(f"job-{n}")
    real = world.store.forget

    def slow(job_id: str) -> bool:
        world.clock.advance(seconds=3)
        return real(job_id)

    page = _begun(browser)
    monkeypatch.setattr(world.store, "forget", slow)
    page = browser.post(STEP, page.hidden())
    assert "Forgotten 3" in page.text
    steps = 1
    while "failed/step" in page.html:
        page = browser.post(STEP, page.hidden())
        steps += 1
        assert steps <= 8
    assert "Forgotten 20" in page.text
