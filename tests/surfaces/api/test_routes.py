"""The routes of the API: dispatch, look, cancel, redrive, health."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relayq_core import Status
from tests.support.factories import a_job
from tests.surfaces.api.calling import (
    ROUTES,
    TOKEN,
    Api,
    Load,
    browsed,
    request,
)
from tests.surfaces.template.grants import grants, needed

# ---------------------------------------------------------------- the other routes


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_method_is_answered_with_the_right_one(api: Api, method: str, path: str) -> None:
    """405 and Allow; every route is in the table that this comes from."""
    right = {"GET", "HEAD"} if method == "GET" else {method}
    for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"} - right:
        for spelling in (wrong, wrong.lower(), wrong.title()):
            answer = api.raw(request(spelling, path))
            assert (answer["statusCode"], answer["headers"]["Allow"]) == (405, method)


@pytest.mark.parametrize("spelling", ["HEAD", "head", "Head"])
def test_head_is_get_without_its_body(api: Api, spelling: str) -> None:
    """Monitors ask so; they want the status."""
    for path in ("/health", "/queues", "/failed", "/jobs/unknown"):
        head, get = api.raw(request(spelling, path)), api.raw(request("GET", path))
        assert (head["statusCode"], head["body"], head["headers"]) == (get["statusCode"], "", get["headers"])


@pytest.mark.parametrize(
    "event",
    [
        {"httpMethod": "GET", "path": "/health", "resource": "/health", "requestContext": {"httpMethod": "GET"}},
        {"httpMethod": "GET", "path": "/health", "requestContext": {"elb": {"targetGroupArn": "arn"}}},
        {"httpMethod": "GET", "path": "/health", "rawPath": "/health"},
        {"requestContext": {"http": {"method": 5}}, "rawPath": "/health"},
        {"requestContext": {"http": None}},
        {"requestContext": []},
        {},
    ],
)
def test_an_event_of_another_kind_is_answered_with_what_is_read_here(api: Api, event: dict[str, Any]) -> None:
    """A REST API or a load balancer in front is a mistake of the deployment, and no defect."""
    answer = api.raw({**event, "headers": {"x-relayq-token": TOKEN}})
    assert answer["statusCode"] == 400
    assert "Function URL" in json.loads(answer["body"])["message"]
    assert "defect" not in api.log.getvalue()


@pytest.mark.parametrize(
    "path", ["/", "", "/jobs/", "/jobs/a/b", "/jobs/a/cancel/b", "/failed/a", "/favicon.ico", "/job"]
)
def test_any_other_path_is_not_found(api: Api, path: str) -> None:
    """In JSON, like everything."""
    for method in ("GET", "POST"):
        status, told = api.ask(method, path)
        assert (status, told["error"]) == (404, "NotFound")


def test_a_job_is_dispatched_with_its_options(api: Api) -> None:
    """By name: the row holds what the call says and nothing else."""
    body = {
        "name": "send_email",
        "args": {"to": "ada@example.com"},
        "queue": "emails",
        "at": "2030-01-01T00:00:00+01:00",
        "max_attempts": 5,
        "backoff": "exponential:5,cap=60",
        "timeout": 30,
        "unique": "welcome:7",
        "unique_for": 300,
        "job_id": "job-1",
    }
    first = api.ask("POST", "/jobs", body)
    assert first == (202, {"job_id": "job-1", "duplicate": False, "handed_off": False})
    assert api.ask("POST", "/jobs", {**body, "job_id": "job-2"}) == (
        202,
        {"job_id": "job-1", "duplicate": True, "handed_off": False},
    )
    record = api.relayq.get("job-1")
    assert (record.name, record.queue, record.payload) == ("send_email", "emails", {"to": "ada@example.com"})
    assert (record.max_attempts, str(record.backoff), record.timeout_ms) == (5, "exponential:5,cap=60", 30_000)
    assert record.available_at == 1_893_452_400_000
    assert api.lambda_.invoked == []


def test_a_job_without_delay_is_handed_off(api: Api) -> None:
    """As by dispatch() itself; null means that nothing was said."""
    status, told = api.ask("POST", "/jobs", {"name": "tidy_up", "args": None, "queue": None, "delay": 0})
    assert (status, told["handed_off"]) == (202, True)
    assert api.lambda_.invoked[0][1]["job_id"] == told["job_id"]
    assert api.relayq.get(told["job_id"]).payload == {}


BAD_JOBS: dict[str, tuple[int, str, Any]] = {
    "no name": (400, "InvalidOption", {"args": {}}),
    "a number as its name": (400, "InvalidOption", {"name": 7}),
    "a bad name": (400, "InvalidOption", {"name": "os.system('x')"}),
    "an unknown field": (400, "InvalidOption", {"name": "x", "quue": "emails"}),
    "a long field": (400, "InvalidOption", {"name": "x", "f" * 10_000: 1}),
    "a list of args": (400, "InvalidPayload", {"name": "x", "args": [1]}),
    "args with a lone surrogate": (400, "InvalidPayload", '{"name": "x", "args": {"a": "\\ud800"}}'),
    "endless args": (400, "InvalidPayload", '{"name": "x", "args": {"a": 1e999}}'),
    "a bad queue": (400, "InvalidOption", {"name": "x", "queue": "my queue"}),
    "a delay in words": (400, "InvalidOption", {"name": "x", "delay": "5"}),
    "a delay into the past": (400, "InvalidOption", {"name": "x", "delay": -1}),
    "delay and at": (400, "InvalidOption", {"name": "x", "delay": 1, "at": "2030-01-01T00:00:00Z"}),
    "a moment without a zone": (400, "InvalidOption", {"name": "x", "at": "2030-01-01T00:00:00"}),
    "no moment": (400, "InvalidOption", {"name": "x", "at": "tomorrow"}),
    "a number as a moment": (400, "InvalidOption", {"name": "x", "at": 1_893_452_400}),
    "a window without a key": (400, "InvalidOption", {"name": "x", "unique_for": 5}),
    "a key that is none": (400, "InvalidOption", {"name": "x", "unique": 5}),
    "a backoff that is none": (400, "InvalidOption", {"name": "x", "backoff": "exponental:10"}),
    "a backoff of texts": (400, "InvalidOption", {"name": "x", "backoff": ["10"]}),
    "a backoff object": (400, "InvalidOption", {"name": "x", "backoff": {"base": 10}}),
    "attempts that are none": (400, "InvalidOption", {"name": "x", "max_attempts": True}),
    "a bad id": (400, "InvalidOption", {"name": "x", "job_id": "a/b"}),
    "a large payload": (413, "PayloadTooLarge", {"name": "x", "args": {"a": "x" * 310_000}}),
    "a huge body": (413, "RequestEntityTooLarge", {"name": "x", "args": {"a": "x" * 600_000}}),
    "no object": (400, "BadRequest", [1]),
    "no body": (400, "BadRequest", None),
}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_a_dispatch_that_cannot_be_is_refused_with_its_sentence(api: Api, case: str) -> None:
    """The same sentence that dispatch() raises, and never a traceback; nothing is written."""
    status, error, body = BAD_JOBS[case]
    answered, told = api.ask("POST", "/jobs", body)
    assert (answered, told["error"].replace("Content", "RequestEntity")) == (status, error)
    assert 10 < len(told["message"]) < 500
    assert "Traceback" not in told["message"]
    assert api.relayq.queues() == []


def test_a_misspelt_field_is_refused_with_the_nearest(api: Api) -> None:
    """As everywhere."""
    assert 'Did you mean "queue"?' in api.ask("POST", "/jobs", {"name": "x", "quue": "emails"})[1]["message"]


def test_a_job_is_shown_with_its_payload(api: Api) -> None:
    """A caller who holds the token sees it."""
    job_id = api.relayq.dispatch("send_email", {"to": "ada"}, queue="emails", delay=3600).job_id
    status, told = api.ask("GET", f"/jobs/{job_id}")
    assert status == 200
    expected = {"id": job_id, "name": "send_email", "queue": "emails", "status": "pending", "attempt": 0}
    assert {name: told[name] for name in expected} == expected
    assert (told["payload"], told["result"], told["errors"]) == ({"to": "ada"}, None, [])
    assert told["available_at_ms"] == told["created_at_ms"] + 3_600_000
    assert told["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel"), ("POST", "/failed/{}/redrive")]
)
def test_an_unknown_job_is_not_found_and_a_bad_id_is_refused(api: Api, method: str, path: str) -> None:
    """They are 404 and 400: neither is a defect."""
    assert api.ask(method, path.format("unknown"))[0] == 404
    for bad in (".a", "a%2Fb", "x" * 65, "a b"):
        assert api.ask(method, path.format(bad))[0] == 400
    assert api.ask(method, path.format('a"b'))[0] in {400, 404}


def test_a_job_is_cancelled(api: Api) -> None:
    """The answer is the job after the cancel; an empty object counts as no body."""
    job_id = api.relayq.dispatch("send_email", delay=3600).job_id
    assert api.ask("POST", f"/jobs/{job_id}/cancel", {})[1]["status"] == "cancelled"
    assert api.ask("POST", f"/jobs/{job_id}/cancel", {"force": True})[0] == 400
    assert api.relayq.get(job_id).status is Status.CANCELLED


def test_failed_jobs_are_listed_without_payload_and_redriven(api: Api) -> None:
    """By queue, and no more than was asked for."""
    for number in range(3):
        api.bury(f"job-{number}", payload_json='{"to": "ada"}')
    status, told = api.ask("GET", "/failed", query={"queue": "emails", "limit": "2"})
    assert (status, len(told["failed"])) == (200, 2)
    assert "payload" not in told["failed"][0]
    assert told["failed"][0]["status"] == "failed"
    status, redriven = api.ask("POST", "/failed/job-1/redrive")
    assert (status, redriven["status"], redriven["attempt"], redriven["payload"]) == (200, "pending", 0, {"to": "ada"})
    assert {job["id"] for job in api.ask("GET", "/failed")[1]["failed"]} == {"job-0", "job-2"}


@pytest.mark.parametrize("limit", ["0", "-1", "101", "1e1", "", "ten", "\N{ARABIC-INDIC DIGIT SIX}"])
def test_a_limit_is_a_number_up_to_a_hundred(api: Api, limit: str) -> None:
    """Each failed job is a read."""
    assert api.ask("GET", "/failed", query={"limit": limit})[0] == 400
    assert api.ask("GET", "/failed", query={"queue": "my queue"})[0] == 400


def test_a_redrive_whose_key_is_taken_is_a_conflict(api: Api) -> None:
    """The sentence has the holder's id."""
    api.bury("job-1", unique_pk="unique#send_email#k")
    holder = api.relayq.dispatch("send_email", unique="k", delay=3600).job_id
    status, told = api.ask("POST", "/failed/job-1/redrive")
    assert (status, told["error"], holder in told["message"]) == (409, "KeyTaken", True)


def test_queues_are_shown_with_their_counts(api: Api) -> None:
    """As `relayq queues` shows them."""
    api.relayq.dispatch("send_email", queue="emails", delay=3600)
    (view,) = api.ask("GET", "/queues")[1]["queues"]
    assert (view["queue"], view["live"], view["overdue"]) == ("emails", 1, 0)


def test_health_is_good_while_the_sweeper_ticks(api: Api) -> None:
    """A monitor asks for this: the sweeper ticks, and nothing is overdue."""
    api.relayq.store.record_tick(api.relayq.clock.now(), {})
    api.relayq.dispatch("send_email", delay=3600)
    status, told = api.ask("GET", "/health")
    assert (status, told["healthy"], told["problems"], told["oldest_due_age_ms"]) == (200, True, [], 0)
    assert told["last_sweep_age_ms"] < 60_000


def test_health_is_bad_without_a_sweeper_or_with_an_old_job(api: Api) -> None:
    """Each with its sentence."""
    status, told = api.ask("GET", "/health")
    (problem,) = told.pop("problems")
    assert problem.startswith("the sweeper has not run yet; it ticks each minute")
    assert (status, told) == (
        503,
        {
            "healthy": False,
            "last_sweep_age_ms": None,
            "sweep_is_late": True,
            "oldest_due_age_ms": 0,
            "queues": [],
        },
    )
    long_ago = api.relayq.clock.now() - 600_000
    api.relayq.store.record_tick(long_ago, {})
    api.relayq.store.register_queue("emails")
    api.relayq.store.add(a_job(due_at=long_ago, available_at=long_ago, created_at=long_ago, updated_at=long_ago))
    status, told = api.ask("GET", "/health")
    assert (status, len(told["problems"]), told["oldest_due_age_ms"] >= 600_000) == (503, 2, True)


@pytest.mark.usefixtures("aws")
def test_health_says_which_table_is_missing(load: Load) -> None:
    """The sentence of the StoreError, with what to do."""
    status, told = load(on_aws=True, RELAYQ_FAILED_TABLE="nowhere").ask("GET", "/health")
    assert (status, told["healthy"]) == (503, False)
    assert "table 'nowhere' does not exist" in told["problems"][0]


@pytest.mark.usefixtures("aws")
def test_the_function_is_granted_what_it_calls_and_no_more(load: Load) -> None:
    """Every route once, on tables; the calls that were recorded are the grants of the template, both ways."""
    api = load(on_aws=True, RELAYQ_EVENT_BUS="default")
    recorded = {("runners", "lambda:InvokeFunction"), ("token", "secretsmanager:GetSecretValue")}
    recorded |= {("own logs", "logs:CreateLogStream"), ("own logs", "logs:PutLogEvents")}  # Lambda writes them
    recorded |= {("token", "ssm:GetParameter")}  # those have tests of their own

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        recorded.update(needed(model.name, params, jobs_table="jobs-table", failed_table="failed-table"))

    for service in ("dynamodb", "events", "cloudwatch"):
        api.relayq.clients.get(service).meta.events.register(f"before-parameter-build.{service}", record)
    body = {"name": "send_email", "queue": "emails", "unique": "k", "delay": 3600}
    job_id = api.ask("POST", "/jobs", body)[1]["job_id"]
    assert api.ask("POST", "/_relayq/run", {"job_id": job_id})[0] == 202
    recorded |= {("runner", "lambda:InvokeFunction") for _ in api.lambda_.invoked}
    assert api.ask("GET", f"/jobs/{job_id}")[0] == 200
    assert api.ask("GET", "/queues")[0] == 200
    assert api.ask("GET", "/health")[0] == 503
    assert api.ask("POST", f"/jobs/{job_id}/cancel")[1]["status"] == "cancelled"
    kept = set(recorded)
    api.bury("failed-1", unique_pk="unique#send_email#l")
    recorded = kept  # a burial is the runner's
    assert api.ask("GET", "/failed")[1]["failed"][0]["id"] == "failed-1"
    assert api.ask("POST", "/failed/failed-1/redrive")[0] == 200
    cookie = browsed(api, "POST", "/dashboard/login", {"token": TOKEN})["cookies"][0].partition(";")[0]
    for screen in ("", "/queue?name=emails", "/failed", "/health", f"/job?id={job_id}"):
        assert browsed(api, "GET", f"/dashboard{screen}", cookie=cookie)["statusCode"] == 200
    assert recorded == grants("api")
