"""What the screens show of the jobs, and how little they read for it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import boto3
import pytest
from moto import mock_aws

from relayq_core import RelayQ, Settings, job
from relayq_core.adapters.dynamodb.tables import jobs_table
from relayq_core.dashboard import screens
from relayq_core.dashboard.masking import MASK, format_json, mask_secrets, mask_text
from relayq_core.model.record import SHARDS
from relayq_core.ports import Bin
from tests.surfaces.dashboard.browsing import Browser, World

EVIL = "<script>alert('x')</script>\"'&"


def test_an_empty_system_says_what_to_type(browser: Browser) -> None:
    """A blank page is no help."""
    assert "relayq dispatch NAME" in browser.get("/dashboard").text
    assert "Nothing has failed" in browser.get("/dashboard/failed").text
    assert "relayq registry" in browser.get("/dashboard/jobs").text


def test_the_overview_counts_each_queue_and_says_when_the_oldest_was_due(world: World, browser: Browser) -> None:
    """Live, overdue, and the age of the oldest."""
    world.waiting("job-1", queue="emails")
    world.waiting("job-2", queue="emails", due_at=world.clock.now() + 3_600_000)
    world.waiting("job-3", queue="reports", due_at=world.clock.now() + 3_600_000)
    world.clock.advance(minutes=7)
    text = browser.get("/dashboard").text
    assert "Live 3 Overdue 1 oldest 7 min" in text
    assert "emails 2 1 7 min" in text
    assert "reports 1 0" in text


def test_a_queue_that_was_never_used_is_not_said_to_have_had_jobs(browser: Browser) -> None:
    """It may be a typing error."""
    text = browser.get("/dashboard/queue?name=nosuch").text
    assert "No job in this queue is waiting or running." in text
    assert "has ended" not in text


def test_counting_ends_at_a_thousand(world: World, browser: Browser) -> None:
    """What is more is said to be more."""
    for n in range(1005):
        world.waiting(f"job-{n}", due_at=world.clock.now() + 3_600_000)
    assert "emails 1,000+" in browser.get("/dashboard").text
    assert "Live 1,000+" in browser.get("/dashboard/queue?name=emails").text


def test_the_overview_says_when_the_sweeper_last_ran_and_what_it_did(world: World, browser: Browser) -> None:
    """If the sweeper is late, it says that too."""
    assert "never" in browser.get("/dashboard").text
    world.store.record_tick(world.clock.now(), {"nudged": 3, "released": 0})
    world.clock.advance(seconds=20)
    text = browser.get("/dashboard").text
    assert "on time 20 s ago nudged 3" in text
    assert "released" not in text
    world.clock.advance(minutes=4)
    assert "Last sweep late" in browser.get("/dashboard").text


def test_the_history_is_drawn_and_summed(world: World, browser: Browser) -> None:
    """In the minute it happened."""
    now = world.clock.now()
    for _ in range(3):
        world.history.count(now, "completed")
        world.history.record_duration(now, 250)
    world.history.count(now - 120_000, "failed")
    world.history.count(now - 7_200_000, "completed")
    html = browser.get("/dashboard").html
    assert "3 completed, 0 retried and 1 failed in the last hour" in html
    assert html.count('class="completed-fill"') == 1
    assert "p50 250 ms" in browser.get("/dashboard").text
    assert "4 completed" in browser.get("/dashboard?window=24h").html


class _Broken:
    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        raise TimeoutError("hunter2")


@pytest.mark.parametrize(
    ("history", "said"), [(None, "There is no history here"), (_Broken(), "cannot be read right now")]
)
def test_without_a_history_the_page_says_so_and_shows_the_rest(world: World, history: Any, said: str) -> None:
    """The tables are what matters."""
    world.waiting("job-1")
    text = world.browser(history=history).get("/dashboard").text
    assert said in text
    assert "emails 1" in text
    assert "hunter2" not in text


def test_a_refresh_brings_only_what_changes(browser: Browser) -> None:
    """No head, no navigation."""
    for address in ("/dashboard", "/dashboard/health"):
        part, whole = browser.get(address, hx_request="true"), browser.get(address)
        assert "<html" not in part.html
        assert part.html.strip()[:40] in whole.html


def test_a_queue_is_paged_through_and_each_job_comes_once(world: World, browser: Browser) -> None:
    """By links alone, whatever lies in which shard."""
    for n in range(150):
        world.waiting(f"job-{n}", due_at=world.clock.now() + n)
    seen: Counter[str] = Counter()
    address = "/dashboard/queue?name=emails"
    pages = 0
    while address:
        html = browser.get(address).html
        seen.update(part.partition('"')[0] for part in html.split("/dashboard/job?id=")[1:])
        address = html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        pages += 1
        assert pages < 20
    assert seen == Counter(f"job-{n}" for n in range(150))
    assert pages >= 3


def test_a_queue_in_dynamodb_is_paged_through_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page begins is DynamoDB's own word for it, carried there and back in an address."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        boto3.client("dynamodb").create_table(**jobs_table("jobs"))
        relayq = RelayQ(Settings(jobs_table="jobs", handoff="none"))
        ids = {relayq.dispatch("far_away", {"n": n}, queue="emails", delay=n).job_id for n in range(90)}
        page = screens.read_queue_page(relayq, "emails", None)
        seen = [job.id for job in page.jobs]
        while page.cursor is not None:
            page = screens.read_queue_page(relayq, "emails", page.cursor)
            seen += [job.id for job in page.jobs]
    assert (len(seen), set(seen)) == (90, ids)


@pytest.mark.parametrize("cursor", ["x", "e30", "W10=", "eyJlbWFpbHMjMCI6IDF9", "é", "A" * 9000])
def test_a_cursor_that_leads_nowhere_is_a_sentence(browser: Browser, cursor: str) -> None:
    """It stands in an address, where anyone can change it."""
    assert browser.get("/dashboard/queue").status == 400
    assert browser._asked("GET", f"/dashboard/queue?name=emails&cursor={cursor}", None, {}).status in {200, 400}


def test_a_queue_of_100_000_jobs_is_read_no_further_than_its_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits: 8 shards are counted up to 1,000, one page is read, and no more."""
    asked: list[tuple[str, int]] = []
    real_due, real_many = world.store.list_due, world.store.get_many

    def due(shard: str, until: int, limit: int, cursor: object | None = None) -> Any:
        page = real_due(shard, until, limit, cursor)
        asked.append(("keys", len(page.rows)))
        return page

    def get_many(job_ids: Any) -> Any:
        found = real_many(list(job_ids))
        asked.append(("rows", len(found)))
        return found

    monkeypatch.setattr(world.store, "list_due", due)
    monkeypatch.setattr(world.store, "get_many", get_many)
    # rows as a store of that many would hold them; due() of the memory store sorts them all, so they are few to ask
    template = world.waiting("job-0")
    world.store.jobs.update({f"job-{n}": template.evolve(id=f"job-{n}") for n in range(100_000)})
    assert world.browser().get("/dashboard/queue?name=emails").status == 200
    keys = sum(count for what, count in asked if what == "keys")
    rows = sum(count for what, count in asked if what == "rows")
    assert keys <= 2 * 1000 + SHARDS + SHARDS * 7  # a count that ends within a shard has read that one's page
    assert rows <= SHARDS * 7
    assert len(asked) <= 3 * SHARDS + 1


def test_a_job_shows_its_life_and_where_it_came_from(world: World, browser: Browser) -> None:
    """From dispatch to end, with links to the jobs before it."""
    world.failed("job-1", parent_id="job-parent", root_id="job-root", depth=2)
    page = browser.get("/dashboard/job?id=job-1")
    text = page.text
    assert text.index("dispatched") < text.index("attempt 1 started") < text.index("attempt 1 failed")
    assert "ValueError: no" in text
    assert 'href="/dashboard/job?id=job-parent"' in page.html
    assert 'href="/dashboard/job?id=job-root"' in page.html


def test_a_job_that_is_not_there_is_said_to_be_missing(browser: Browser) -> None:
    """A link may be older than the row."""
    assert browser.get("/dashboard/job?id=job-9").status == 404
    assert browser.get("/dashboard/job?id=..%2F").status == 400


def test_progress_is_shown_while_the_job_runs(world: World, browser: Browser) -> None:
    """How far, and what it said."""
    world.waiting("job-1", progress_json=json.dumps({"fraction": 0.4, "note": "page 4"}))
    page = browser.get("/dashboard/job?id=job-1")
    assert "40 % page 4" in page.text
    assert 'value="0.4"' in page.html


def test_all_that_a_job_can_hold_is_escaped(world: World, browser: Browser) -> None:
    """Payload, error, note, key: a job's data may come from anyone."""
    evil = json.dumps({EVIL: EVIL})
    world.failed(
        "job-1",
        payload_json=evil,
        result_json=evil,
        progress_json=json.dumps({"fraction": 0.1, "note": EVIL}),
        unique_pk=f"unique#send_email#{EVIL}",
        error=EVIL,
    )
    world.waiting("job-2", progress_json=json.dumps({"fraction": 0.1, "note": EVIL}))
    for address in ("/dashboard/job?id=job-1", "/dashboard/job?id=job-2", "/dashboard/failed"):
        page = browser.get(address)
        assert (page.status, "<script>alert" in page.html) == (200, False)
        assert "alert" in page.text


def test_what_is_asked_for_is_escaped_where_it_is_repeated(browser: Browser) -> None:
    """An address can be sent to anyone."""
    for address in (
        "/dashboard/failed?error=",
        "/dashboard/failed?job=",
        "/dashboard/dispatch?name=",
        "/dashboard?notice=",
    ):
        page = browser.get(address + "%3Cscript%3Ealert(1)%3C/script%3E%22")
        assert (page.status, "<script>alert" in page.html) == (200, False)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "dbPassword",
        "passwd",
        "api_key",
        "apiKey",
        "X-Api-Key",
        "token",
        "accessToken",
        "Authorization",
        "client_secret",
        "Cookie",
        "private_key",
        "credentials",
        "session_id",
        "card_number",
        "otp",
        "user_pin",
    ],
)
def test_values_under_names_of_secrets_are_masked(name: str) -> None:
    """However they are written, and however deep they lie."""
    assert "hunter2" not in json.dumps(mask_secrets({"a": [{name: "hunter2"}, {name: {"b": "hunter2"}}]}))


@pytest.mark.parametrize(
    "text",
    ["Bearer hunter2hunter2", "basic aHVudGVyMmh1bnRlcjI=", "postgres://bob:hunter2@db/x", "https://:hunter2@host"],
)
def test_what_looks_like_a_secret_is_masked_under_any_name(text: str) -> None:
    """In payloads and in errors."""
    assert "hunter2" not in mask_text(f"it was {text} there").lower().replace("ahvudgvymmh1bnrlcji", "hunter2")


@pytest.mark.parametrize("name", ["auth", "basic_auth", "oauth", "sig", "X-Auth"])
def test_short_names_of_secrets_are_masked_too(name: str) -> None:
    """Where they stand alone or as a word of a name."""
    assert mask_secrets({name: "hunter2"}) == {name: MASK}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET https://a.b/c?api_key=hunter2&page=3&sig=hunter2 timed out", "&page=3&sig="),
        ('{"password": "hunter2", "to": "ada"}', '", "to": "ada"}'),
        ('{"pin": 1234567, "body": "hello"}', ', "body": "hello"}'),
        ('"{\\"password\\": \\"hunter2 hunter2\\", \\"to\\": 1}"', '\\", \\"to\\": 1}"'),
        ("{'db_password': 'hunter2 and hunter2', 'to': 'ada'}", "', 'to': 'ada'}"),
        ("Authorization: Token hunter2\nTo: ada", "\nTo: ada"),
        ("Cookie: sid=hunter2; b=hunter2\nTo: ada", "\nTo: ada"),
        ("X-Api-Key: hunter2\nTo: ada", "\nTo: ada"),
        ("password=hunter2; to=ada", "; to=ada"),
        ("Password = hunter2\nTo: ada", "\nTo: ada"),
        ("password: hunter2\nTo: ada", "\nTo: ada"),
        ("the api key: hunter2, to: ada", ", to: ada"),
        ("logged in with secret: hunter2 as ada", " as ada"),
        ("AccountName=x;AccountKey=hunter2==;EndpointSuffix=y", ";EndpointSuffix=y"),
        ("Endpoint=sb://x/;SharedAccessKey=hunter2=;To=ada", ";To=ada"),
        ("[(b'authorization', b'hunter2'), (b'to', b'ada')]", "'), (b'to', b'ada')]"),
        ('[["x-api-key", "hunter2"], ["to", "ada"]]', '"], ["to", "ada"]]'),
        ("{b'x-api-key': b'hunter2', b'to': b'ada'}", "', b'to': b'ada'}"),
        ("<password>hunter2</password><to>ada</to>", "</password><to>ada</to>"),
        ("mysqldump --password hunter2 --to ada", " --to ada"),
        ("client --api-key hunter2 --to ada", " --to ada"),
        ("postgres://bob:hun/ter2@db:5432/x?a=1".replace("hun/ter2", "a/hunter2"), "@db:5432/x?a=1"),
        ("postgres://bob:hunter2@hunter2@db/x", "@db/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2-hunter2\n-----END RSA PRIVATE KEY-----\nTo: ada", "\nTo: ada"),
        ("to ada: -----BEGIN PRIVATE KEY-----\\nhunter2 and no end", "to ada: "),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nhunter2\n-----END PGP PRIVATE KEY BLOCK----- ada", " ada"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY----- ada", " ada"),
        *(
            (f"it was {beginning}hunter2hunter2hunter2 there", " there")
            for beginning in (
                *("ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "xapp-", "sk_live_", "rk_live_"),
                *(
                    "sk_test_",
                    "sk-proj-",
                    "whsec_",
                    "AIza",
                    "npm_",
                    "pypi-",
                    "hf_",
                    "dop_v1_",
                    "shpat_",
                    "SG.",
                    "ya29.",
                ),
            )
        ),
        *((f"it was {key}HUNTER2HUNTER2XX there", " there") for key in ("AKIA", "ASIA")),
        ("token-eyJhbGciOiJIUzI1NiJ9.eyJodW50ZXIyIjoxfQ.c2ln said no", "token-"),
    ],
)
def test_secrets_within_a_text_are_masked_and_what_stands_beside_them_is_shown(text: str, left: str) -> None:
    """Addresses, JSON within a string, a dict in an error's message, headers."""
    shown = mask_text(text)
    assert "hunter2" not in shown.lower()
    assert "1234567" not in shown
    assert "eyJ" not in shown
    assert left in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'password'",
        "InvalidPayload: token: expected a string",
        "the author: Ada, opinion=good, compass=north",
        "https://a.b/c?page=3#top",
        "password: Field required",
        "password: expected at most so many characters",
        "the secret: it is not kept here",
        "http://host:8080/path?email=ada@example.com",
        "ask npm_config, and hf_hub; ghp is a name",
        "('password', 'to', 'subject')",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "a token is missing, and so is the secret",
    ],
)
def test_a_text_that_only_speaks_of_secrets_is_shown(text: str) -> None:
    """Names alone are none."""
    assert mask_text(text) == text


def test_a_value_beside_the_name_of_a_secret_is_masked() -> None:
    """As headers and variables are often written: as pairs, and as name and value."""
    value = [["Authorization", "hunter2"], {"name": "API_KEY", "value": "hunter2"}, {"key": "to", "value": "ada"}]
    assert mask_secrets(value) == [
        ["Authorization", MASK],
        {"name": "API_KEY", "value": MASK},
        {"key": "to", "value": "ada"},
    ]
    for naming in ("name", "Name", "NAME", "key", "Key", "k", "K", "header", "Header", "n", "field"):
        for named in ("value", "Value", "VALUE", "v", "V", "val"):
            for name in ("Authorization", "DB_PASSWORD", "x-api-key"):
                assert mask_secrets([{naming: name, named: "hunter2"}]) == [{naming: name, named: MASK}]
                assert mask_secrets({named: {"deep": "hunter2"}, naming: name}) == {named: MASK, naming: name}
            assert mask_secrets({naming: "to", named: "ada"}) == {naming: "to", named: "ada"}
    assert mask_secrets(["Authorization", "hunter2", "accept", "*/*"]) == ["Authorization", MASK, "accept", "*/*"]
    assert mask_secrets(["token", "to", "subject"]) == ["token", "to", "subject"]


@pytest.mark.parametrize(
    "pattern",
    [
        *("-eyJ", "eyJ-", "eyJ.", "-eyJ.x", "basic ", "a:/", "a://b:", "token", "token=", '"pin":\\"', "auth:"),
        *(
            "a://b:c/",
            "a://:@",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\n-",
            "-----BEGIN ",
            "sk-",
            "SG.",
        ),
        *(
            "--a-",
            "--token ",
            "password: ",
            "password: a",
            "pin>",
            "pin>a",
            "'pin','",
            "'pin','a",
            "'pin', b'a')",
            "key = ",
        ),
        *("api key", "secret:   a", "secret : 1", "\\", "\\'pin", "a@", "SG.-"),
    ],
)
def test_the_time_that_masking_takes_grows_with_the_text_and_not_with_its_square(pattern: str) -> None:
    """A payload may have 300 KB, and comes from anyone."""
    # with the square of it this would take minutes, and the developer who runs it would give up
    assert len(mask_text(pattern * (500_000 // len(pattern)))) > 0


@pytest.mark.parametrize(
    "name",
    [
        "to",
        "subject",
        "amount",
        "passenger",
        "keyboard",
        "author",
        "authority",
        "signal",
        "compass",
        "opinion",
        "classname",
    ],
)
def test_other_names_are_shown(name: str) -> None:
    """Masking everything would show nothing."""
    assert mask_secrets({name: "plain"}) == {name: "plain"}


def test_a_payload_nested_too_deep_to_read_is_cut() -> None:
    """Python would run out of stack."""
    value: Any = "hunter2"
    for _ in range(500):
        value = [value]
    assert "hunter2" not in json.dumps(mask_secrets(value))


def _nested(value: Any, depth: int) -> Any:
    return _nested([value], depth - 1) if depth else value


#: 6 MB, with room for what a function wraps around a page.
_ANSWER_BYTES = 5_900_000


@pytest.mark.parametrize(
    "value",
    [
        {"a": _nested([1] * 100_000, 30)},
        {"a": _nested([[]] * 90_000, 35)},
        {"a": '"' * 140_000},
        {"a": "😀" * 70_000},
        [{"id": n, "ok": True} for n in range(12_000)],
    ],
    ids=["lists", "empty lists", "quotes", "faces", "rows"],
)
def test_a_page_is_never_larger_than_a_function_may_answer_with(world: World, browser: Browser, value: Any) -> None:
    """However its payload and its result are nested, and whatever they have to be written as."""
    payload = json.dumps({"payload": value}, separators=(",", ":"), ensure_ascii=False)
    result = json.dumps(_nested([0] * 16_000, 38), separators=(",", ":"))
    assert len(payload.encode()) <= 300 * 1024
    world.waiting("job-1", payload_json=payload, result_json=result)
    page = browser.get("/dashboard/job?id=job-1")
    assert page.status == 200
    assert len(json.dumps(page.raw)) < _ANSWER_BYTES
    assert len(page.raw["body"].encode()) < _ANSWER_BYTES


def test_a_result_that_is_not_kept_is_reported_with_the_reason(world: World, browser: Browser) -> None:
    """Nothing at all would look as if the handler had returned nothing."""
    world.waiting("job-1", result_problem="TypeError: Object of type set is not JSON serializable")
    text = browser.get("/dashboard/job?id=job-1").text
    assert "Result Not kept: TypeError: Object of type set is not JSON serializable" in text


def test_json_that_is_cut_says_so_and_where_the_whole_is() -> None:
    """The beginning must not be taken for all."""
    shown = format_json([0] * 100_000)
    assert shown.startswith("[\n  0,\n  0,")
    assert "only the first 200,000 characters" in shown
    assert "relayq status ID --json" in shown
    value = {"n": list(range(1000)), "é": {"a": None}}
    assert format_json(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_health_says_what_is_wrong(world: World, browser: Browser) -> None:
    """In sentences."""
    assert "the sweeper has not run yet" in browser.get("/dashboard/health").text
    world.store.record_tick(world.clock.now(), {})
    assert "All is well" in browser.get("/dashboard/health").text


def test_registered_jobs_show_what_they_take(world: World, browser: Browser) -> None:
    """By field, and as a schema."""

    @job(queue="emails", max_attempts=7)
    def welcome(to: str, copies: int = 1) -> None: ...

    text = browser.get("/dashboard/jobs").text
    assert "welcome queue emails · 7 attempts" in text
    assert "to text copies? number" in text


def test_a_job_whose_payload_is_unknown_is_shown_with_the_reason(world: World, browser: Browser) -> None:
    """The others are shown as ever; and it is dispatched with JSON."""

    class Client:
        """JSON knows nothing of it."""

    def fetch(url: str, client: Client | None = None) -> None: ...

    fetch.__annotations__["client"] = Client | None
    job(fetch)

    @job
    def welcome(to: str) -> None: ...

    text = browser.get("/dashboard/jobs").text
    assert "welcome queue default" in text
    assert "Its payload is unknown: " in text
    form = browser.get("/dashboard/dispatch?name=fetch")
    assert (form.status, "Its payload is unknown: " in form.text) == (200, True)
    assert form.hidden()[-1] == ("name", "fetch")
    browser.change("/dashboard/dispatch", name="fetch", payload='{"url": "x"}')
    assert [(row.name, row.payload) for row in world.store.jobs.values()] == [("fetch", {"url": "x"})]
