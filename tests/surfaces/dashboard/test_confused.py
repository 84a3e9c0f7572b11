"""Addresses, forms and rows that hold something of another kind: a page says so, and none is a defect."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from relayq_core import job
from relayq_core.dashboard.screens import read_queue_page
from relayq_core.errors import InvalidOption
from relayq_core.ports import Page
from tests.surfaces.dashboard.browsing import Browser, World

ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**400, "", "x", "1", "\x1b[31m", [], [None], [1, "x"], ["x", 1], [[]], {}),
    *({"fraction": "x"}, {"fraction": None}, {"fraction": [1]}, {"fraction": 10**400, "note": {"a": 1}}, {"note": 5}),
]
KEY: dict[str, Any] = {"pk": {"S": "job#1"}, "due_shard": {"S": "emails#0"}, "due_at": {"N": "1"}}
PLACES: list[Any] = [
    *(odd for odd in ODD if odd != [1, "x"]),
    *(KEY | {name: odd} for name in KEY for odd in (None, 1, "x", {}, {"S": 1}, {"S": ["x"]}, {"S": "x", "N": "1"})),
    *(KEY | {"due_at": {"N": text}} for text in ("x", "-1", "1e9", "1" * 16, "\u0663")),
    {**KEY, "more": {"S": "x"}},
    {**KEY, "due_shard": {"S": "emails#1"}},
    [True, "x"],
    [1, 2],
    [1, "x", "y"],
]
TEXTS = [
    "",
    "x",
    "0",
    "-1",
    "1e400",
    "9" * 5000,
    "NaN",
    "null",
    "[]",
    "{}",
    "\0",
    "%00",
    "\u00b2",
    "\u0663",
    "1.5",
    "../..",
]
PARAMETERS = [
    *("name", "cursor", "id", "notice", "queue", "job", "error", "hours", "before", "window", "verb", "scope", "rate"),
    *("place", "done", "gone", "refused", "table_errors", "payload", "delay", "unique", "field.to", "form_token"),
]


def cursor(value: Any) -> str:
    """As the pages write it."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.fixture
def full(world: World) -> Browser:
    """A browser at a dashboard with a job of each kind, and one whose code is there."""

    @job(name="send")
    def send(to: str, number: int = 1, more: dict[str, int] | None = None) -> None: ...

    world.failed("job-1", queue="emails")
    world.waiting("job-2", queue="emails")
    return world.browser()


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_no_parameter_of_a_screen_is_taken_for_what_it_is_not(full: Browser, parameter: str) -> None:
    """An operator may write anything into an address: it is a 400, or a page without it."""
    screens = {"": {}, "/queue": {"name": "emails"}, "/job": {"id": "job-1"}}
    for screen in ("", "/queue", "/job", "/failed", "/jobs", "/dispatch", "/health"):
        for text in [*TEXTS, *map(json.dumps, ODD), *map(cursor, ODD)]:
            asked = urlencode({**screens.get(screen, {}), parameter: text})
            assert full.get(f"/dashboard{screen}?{asked}").status in {200, 400, 404}, (screen, text)


@pytest.mark.parametrize("parameter", PARAMETERS)
@pytest.mark.parametrize("change", ["dispatch", "cancel", "redrive", "forget", "failed/plan", "failed/step"])
def test_no_field_of_a_form_is_taken_for_what_it_is_not(full: Browser, change: str, parameter: str) -> None:
    """A form may be filled in by hand, too."""
    forms = (
        {"id": "job-1", "verb": "redrive", "scope": "selected", "rate": "10", "name": "send"},
        {"verb": "forget", "scope": "all", "rate": "10", "name": "unknown"},
    )
    for text in [*TEXTS, *map(json.dumps, ODD)]:
        for form in forms:
            answer = full.change(f"/dashboard/{change}", **{**form, parameter: text})
            assert answer.status in {200, 400, 403, 404, 409, 422}, text


@pytest.mark.parametrize("place", PLACES)
def test_a_cursor_that_no_page_wrote_leads_nowhere(world: World, place: Any) -> None:
    """It is refused before a table is asked: DynamoDB's own words for it are no answer to a user."""
    with pytest.raises(InvalidOption, match="begin at the first page again"):
        read_queue_page(world.relayq, "emails", cursor({"emails#0": place}))
    assert world.browser().get(f"/dashboard/queue?name=emails&cursor={cursor({'emails#0': place})}").status == 400


@pytest.mark.parametrize("place", [KEY, [1, "job-1"]])
def test_a_cursor_that_a_store_wrote_is_taken(world: World, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of DynamoDB's kind, and of the memory's."""
    seen: list[object] = []
    due = world.store.list_due

    def spied(shard: str, until: int, limit: int, at: object) -> Page:
        seen.append(at)
        return due(shard, until, limit)

    monkeypatch.setattr(world.store, "list_due", spied)
    read_queue_page(world.relayq, "emails", cursor({"emails#0": place}))
    assert seen == [tuple(place) if isinstance(place, list) else place]


@pytest.mark.parametrize("field", ["progress_json", "payload_json", "result_json", "errors_json"])
@pytest.mark.parametrize("odd", [*ODD, "nested", "no json"], ids=lambda odd: str(odd)[:20])
def test_a_row_that_was_edited_by_hand_is_shown(world: World, field: str, odd: Any) -> None:
    """As far as it makes sense."""
    text = {"nested": "[" * 9000, "no json": "{"}.get(odd, json.dumps(odd)) if isinstance(odd, str) else json.dumps(odd)
    if field == "errors_json":  # whose shape is checked when the row is read
        text = json.dumps([{"attempt": odd, "at": odd, "error": odd}, {"attempt": 1, "at": 1, "error": odd}])
    buried = world.failed("job-1", queue="emails").evolve(**{field: text})
    world.store.failures["job-1"] = buried
    world.store.jobs["job-2"] = world.waiting("job-2", queue="emails").evolve(**{field: text})
    browser = world.browser()
    for address in ("/job?id=job-1", "/job?id=job-2", "/failed", "/queue?name=emails", ""):
        assert browser.get(f"/dashboard{address}").status == 200, address
