"""Every call to AWS that a principal makes, from real handlers, clients and the worker, on moto.

`python -m tests.surfaces.iam.scenarios OUT.json` writes the questions that IAM would be asked. It runs in a process of
its own: handlers are made at their import, from the environment.
"""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import botocore.client
from moto import mock_aws

from tests.support.paths import ROOT
from tests.surfaces.iam.asking import asked
from tests.surfaces.iam.evaluator import Request
from tests.surfaces.iam.principals import ARNS, NAMES, OWN_RUNNER, PARAMETER, REGION, SECRET, STACK

JOBS, FAILED = NAMES["JobsTable"], NAMES["FailedJobsTable"]
TOKEN = "a-token-of-more-than-16-characters"
JOB_MODULE = """
from relayq_core import JobContext, Snooze, cancel, dispatch, dispatch_many, get, job


@job(queue="q")
def fine(context: JobContext, n: int = 0) -> int:
    context.progress(0.5, "half")
    return n


@job(queue="q", max_attempts=1)
def bad(n: int = 0) -> None:
    raise ValueError("no")


@job(queue="q", max_attempts=3, backoff=3600)
def again(n: int = 0) -> None:
    raise ValueError("no")


@job(queue="q")
def sleepy() -> None:
    raise Snooze(3600)


@job(queue="q")
def parent() -> None:
    dispatch("fine", {"n": 1})
    dispatch("fine", {"n": 1}, unique="window", unique_for=60)
    dispatch("fine", {}, unique="until", queue="reports")
    dispatch_many([("fine", {"n": n}) for n in range(3)])
    made = dispatch("fine", {}, unique="cancelled", delay=3600)
    get(made.job_id)
    cancel(made.job_id)
"""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_LAMBDA_FUNCTION_NAME": NAMES["RunnerFunction"],
    "RELAYQ_JOBS_TABLE": JOBS,
    "RELAYQ_FAILED_TABLE": FAILED,
    "RELAYQ_RUNNER_FUNCTION": NAMES["RunnerFunction"],
    "RELAYQ_RUNNER_FUNCTIONS": json.dumps({"reports": OWN_RUNNER.rpartition(":")[2]}),
    "RELAYQ_EVENT_BUS": "orders",
    "RELAYQ_JOB_MODULES": "iam_jobs,jobs.email",
    "RELAYQ_LOOKAHEAD_SECONDS": "0",
    "RELAYQ_HTTP_TOKEN_SECRET": SECRET,
    "RELAYQ_DASHBOARD": "write",
    "POWERTOOLS_SERVICE_NAME": STACK,
    "POWERTOOLS_METRICS_NAMESPACE": "RelayQ",
    "POWERTOOLS_LOG_LEVEL": "CRITICAL",
    "MAIL_FROM": "shop@example.com",
}
#: Answers of what moto is not asked; an Invoke, for instance, would want the function.
ANSWERS: dict[str, Any] = {
    "GetMetricData": {"MetricDataResults": []},
    "GetSecretValue": {"SecretString": TOKEN},
    "GetParameter": {"Parameter": {"Value": TOKEN}},
    "SendEmail": {"MessageId": "1"},
}


#: Untyped: the method is botocore's own.
_Client: Any = botocore.client.BaseClient


class Recorder:
    """Writes down what is called, and for which principal; what is called for none is preparation."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._who, self._why = "", ""
        self._call = _Client._make_api_call

    @contextmanager
    def acting(self, principal: str, why: str) -> Iterator[None]:
        """What is called inside is called by this principal."""
        self._who, self._why = principal, why
        try:
            with redirect_stdout(io.StringIO()):
                yield
        finally:
            self._who, self._why = "", ""

    def ask(self, principal: str, action: str, resource: str, why: str) -> None:
        """A call that no code of RelayQ's makes."""
        self.requests.append(Request(principal, action, resource, {}, why))

    def hook(self) -> Callable[[Any, str, dict[str, Any]], Any]:
        """A method of clients: a plain function is given the client, a bound one would not be."""

        def call(client: Any, operation: str, given: dict[str, Any]) -> Any:
            return self._answer(client, operation, given)

        return call

    def _answer(self, client: Any, operation: str, given: dict[str, Any]) -> Any:
        if self._who:
            self.requests += asked(self._who, operation, given, self._why)
        match operation:
            case "Invoke":
                return {"Payload": io.BytesIO(), "StatusCode": 202}
            case "PutEvents":
                return {"Entries": [{} for _ in given["Entries"]]}
            case "BatchExecuteStatement":  # moto's parser knows no parameters
                return {"Responses": [{} for _ in given["Statements"]]}
        return ANSWERS[operation] if operation in ANSWERS else self._call(client, operation, given)


class Context:
    """Lambda's, with plenty of time."""

    aws_request_id = "request"
    invoked_function_arn = ARNS["RunnerFunction"]

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


def main() -> None:
    """Write what was asked, each question once."""
    with tempfile.TemporaryDirectory() as folder, mock_aws():
        (Path(folder) / "iam_jobs.py").write_text(JOB_MODULE)
        sys.path[:0] = [folder, str(ROOT / "functions/runner")]
        os.environ.update(ENVIRONMENT)
        recorder = Recorder()
        _Client._make_api_call = recorder.hook()
        Scenarios(recorder).play()
    unique = {json.dumps([r.principal, r.action, r.resource, r.context]): r for r in reversed(recorder.requests)}
    Path(sys.argv[1]).write_text(json.dumps([asdict(request) for request in reversed(unique.values())]))


class Scenarios:
    """What each principal does in a day."""

    def __init__(self, recorder: Recorder) -> None:
        from relayq_core import RelayQ
        from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table

        self._acting, self._ask = recorder.acting, recorder.ask
        self._dynamodb: Any = boto3.client("dynamodb")
        self._dynamodb.create_table(**jobs_table(JOBS))
        self._dynamodb.create_table(**failed_table(FAILED))
        self._new = RelayQ
        self._relayq = RelayQ()
        self._leases = map(str, itertools.count(1))

    def play(self) -> None:
        """All of them."""
        self._dispatcher()
        self._runner()
        self._mail()
        self._sweeper()
        self._worker()
        self._api()
        self._ask("schedule", "lambda:InvokeFunction", ARNS["SweeperFunction"], "a tick")
        for who in ("runner", "sweeper", "api"):
            stream = f"{ARNS[f'{who.capitalize()}Logs'].removesuffix('*')}log-stream:2026/11/28/1"
            self._ask(who, "logs:CreateLogStream", stream, "Lambda writes its log")
            self._ask(who, "logs:PutLogEvents", stream, "Lambda writes its log")

    def _dispatcher(self) -> None:
        relayq = self._new()
        with self._acting("dispatcher", "dispatch"):
            first = relayq.dispatch("fine", {"n": 1}, queue="q").job_id
            relayq.dispatch("fine", {"n": 1}, queue="reports")
        with self._acting("dispatcher", "dispatch with a key for a window, and a duplicate"):
            for _ in range(2):
                relayq.dispatch("fine", {}, queue="q", unique="w", unique_for=60)
        with self._acting("dispatcher", "dispatch with a key until done, a duplicate, and cancel"):
            held = relayq.dispatch("fine", {}, queue="q", unique="u", delay=3600).job_id
            relayq.dispatch("fine", {}, queue="q", unique="u", delay=3600)
            relayq.cancel(held)
        with self._acting("dispatcher", "dispatch with an id of its own, twice"):
            for _ in range(2):
                relayq.dispatch("fine", {}, queue="q", job_id="mine")
        with self._acting("dispatcher", "dispatch_many"):
            relayq.dispatch_many([("fine", {"n": n}) for n in range(3)])
        with self._acting("dispatcher", "get and cancel"):
            relayq.get(first)
            relayq.get("unknown")
            relayq.cancel(first)
        running = relayq.dispatch("fine", {}, queue="q").job_id
        relayq.store.claim(running, self._lease())
        with self._acting("dispatcher", "cancel what runs"):
            relayq.cancel(running)

    def _lease(self, ago: int = 0) -> Any:
        from tests.support.factories import a_lease

        return a_lease(f"lease-{next(self._leases)}", now=int(time.time() * 1000) - ago)

    def _runner(self) -> None:
        runner = importlib.import_module("relayq_core.handlers.runner")

        def run(what: str, name: str, **options: Any) -> None:
            for principal in ("runner", "own-runner"):
                job_id = self._relayq.dispatch(name, {}, queue="q", **options).job_id
                with self._acting(principal, what):
                    runner.handler({"job_id": job_id}, Context())

        run("a job that succeeds", "fine")
        run("one with a key until done", "fine", unique="r1")
        run("one that is buried", "bad")
        run("one that is buried, with a key", "bad", unique="r2")
        run("one that is retried", "again")
        run("one that snoozes", "sleepy")
        run("one that dispatches", "parent")
        with self._acting("runner", "an id that is not known"):
            runner.handler({"job_id": "unknown"}, Context())
        parts = runner._relayq.runner._parts
        runner._relayq.runner._parts = replace(parts, policy=parts.policy.evolve(retention_ms=0))
        run("one that is deleted on success", "fine")
        run("one that is deleted on success, with a key", "fine", unique="r3")
        runner._relayq.runner._parts = parts
        with self._acting("runner", "was it this very write that buried it?"):  # asked where an answer was lost
            runner._relayq.store.get_failed("unknown")

    def _mail(self) -> None:
        from jobs import email

        with self._acting("runner", "the shipped mail jobs"):
            email.send_email("ada@example.com", "Hi", text="Hi", configuration_set="set")
            email.send_templated_email("ada@example.com", "welcome", {})

    def _late(self, job_id: str, **more: Any) -> None:
        """A job that should have run ten minutes ago."""
        from tests.support.factories import a_job

        at = int(time.time() * 1000) - 600_000
        times = {"created_at": at, "updated_at": at, "available_at": at, "due_at": at}
        self._relayq.store.register_queue(more.get("queue", "q"))
        self._relayq.store.add(a_job(**{"id": job_id, "name": "bad", "queue": "q", **times, **more}))

    def _crashed(self, job_id: str, *, exhausted: bool = False, **more: Any) -> None:
        """A job whose runner died; `exhausted`: after its last attempt, and the one that was to bury it died too."""
        self._late(job_id, **more)
        self._relayq.store.claim(job_id, self._lease(500_000))
        self._dynamodb.update_item(
            TableName=JOBS,
            Key={"pk": {"S": f"job#{job_id}"}},
            UpdateExpression="SET lease_until = :then, due_at = :then" + (", next_counts = :zero" if exhausted else ""),
            ExpressionAttributeValues={
                ":then": {"N": str(int(time.time() * 1000) - 400_000)},
                **({":zero": {"N": "0"}} if exhausted else {}),
            },
        )

    def _overdue(self, prefix: str) -> None:
        """All that a sweep may meet."""
        self._late(f"{prefix}-late")
        self._late(f"{prefix}-elsewhere", queue="reports")
        self._crashed(f"{prefix}-crashed", max_attempts=3)
        self._crashed(f"{prefix}-last", max_attempts=1)
        self._crashed(f"{prefix}-exhausted", max_attempts=1, exhausted=True)
        self._crashed(f"{prefix}-keyed", max_attempts=1, exhausted=True, unique_pk=f"unique#bad#{prefix}")
        unreadable = {"pk": {"S": f"job#{prefix}-broken"}, "due_shard": {"S": "q#0"}, "due_at": {"N": "5"}}
        self._dynamodb.put_item(TableName=JOBS, Item=unreadable)

    def _sweeper(self) -> None:
        self._overdue("swept")
        sweeper = importlib.import_module("relayq_core.handlers.sweeper")
        with self._acting("sweeper", "a tick"):
            sweeper.handler({}, Context())
        with self._acting("sweeper", "was it this very write that buried it?"):
            sweeper._relayq.store.get_failed("swept-exhausted")

    def _worker(self) -> None:
        from relayq_core.worker.worker import Worker

        self._overdue("worked")
        relayq = self._new()
        relayq.policy = relayq.policy.evolve(renews=True)
        quiet = self._new(relayq.settings.evolve(handoff="none"))  # due at once, and there is no handoff
        for name in ("fine", "bad", "again", "sleepy", "parent"):
            quiet.dispatch(name, {}, queue="q", unique=f"worked-{name}")
        with self._acting("worker", "relayq work"), relayq.publishing():
            worker = Worker(relayq, _Slots(relayq), stopping=lambda: 0)
            worker.work(once=True)
        for job_id in ("heard-of", "given-back"):
            self._late(job_id)
        held = relayq.store.claim("heard-of", self._lease()).record
        assert held is not None
        with self._acting("worker", "a lease is kept"):
            relayq.store.renew_lease(held, held.updated_at + 60_000)

    def _api(self) -> None:
        for number in range(1, 6):
            self._buried(f"f{number}", unique_pk="unique#send_email#z" if number == 2 else None)
        api = importlib.import_module("relayq_core.handlers.api")

        def answer(method: str, path: str, body: str | None, query: dict[str, str] | None, **headers: str) -> Any:
            event = {
                "version": "2.0",
                "rawPath": path,
                "rawQueryString": urlencode(query or {}),
                "queryStringParameters": query,
                "headers": {name.replace("_", "-"): value for name, value in headers.items()},
                "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
                "body": body,
                "isBase64Encoded": False,
            }
            with self._acting("api", f"{method} {path}"):
                found = api.handler(event, Context())
            assert found["statusCode"] in (200, 202, 303, 503), (method, path, found)
            return found

        def ask(method: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
            text = None if body is None else json.dumps(body)
            found = answer(method, path, text, query, x_relayq_token=TOKEN, content_type="application/json")
            return json.loads(found["body"])

        made = ask("POST", "/jobs", {"name": "fine", "args": {}, "queue": "q"})["job_id"]
        keyed = {"name": "fine", "queue": "reports", "unique": "api", "delay": 600, "job_id": "api-own"}
        ask("POST", "/jobs", keyed)
        ask("POST", "/jobs", {"name": "fine", "queue": "q", "unique": "api2", "unique_for": 60})
        ask("GET", f"/jobs/{made}")
        ask("GET", "/jobs/f1")
        ask("POST", "/jobs/api-own/cancel")
        ask("POST", "/_relayq/run", {"job_id": made})
        ask("GET", "/queues")
        ask("GET", "/failed", query={"queue": "q"})
        ask("GET", "/health")
        ask("POST", "/failed/f1/redrive")
        ask("POST", "/failed/f2/redrive")

        form = "application/x-www-form-urlencoded"
        logged_in = answer("POST", "/dashboard/login", urlencode({"token": TOKEN}), None, content_type=form)
        cookie = logged_in["cookies"][0].split(";")[0]
        for path, query in {
            "": {},
            "/queue": {"name": "q"},
            "/job": {"id": made},
            "/failed": {},
            "/jobs": {},
            "/dispatch": {},
            "/health": {},
        }.items():
            answer("GET", f"/dashboard{path}", None, query or None, cookie=cookie)
        page = answer("GET", "/dashboard/job", None, {"id": "f3"}, cookie=cookie)["body"]
        found = re.search(r'name="form_token" value="([^"]+)"', page)
        assert found is not None
        for path, fields in [
            ("/dispatch", {"name": "fine", "payload": "{}", "queue": "q"}),
            ("/cancel", {"id": made}),
            ("/redrive", {"id": "f3"}),
            ("/forget", {"id": "f4"}),
            ("/failed/plan", {"verb": "redrive", "scope": "all"}),
            ("/failed/step", {"verb": "redrive", "scope": "selected", "id": "f5"}),
        ]:
            body = urlencode({**fields, "form_token": found[1]})
            answer("POST", f"/dashboard{path}", body, None, cookie=cookie, content_type=form)
        other = self._new()
        other.settings = other.settings.evolve(http_token_secret=PARAMETER)
        with self._acting("api-ssm", "the token of an SSM parameter"):
            other.http_tokens.all()

    def _buried(self, job_id: str, **more: Any) -> None:
        from tests.support.factories import a_burial

        self._late(job_id, **more)
        claimed = self._relayq.store.claim(job_id, self._lease()).record
        assert claimed is not None
        self._relayq.store.settle(claimed, a_burial(claimed, now=int(time.time() * 1000)))


class _Slot:
    """A process of the worker's, inside this one."""

    def __init__(self) -> None:
        self.job: Any = None

    @property
    def is_free(self) -> bool:
        return self.job is None

    def assign(self, claimed: Any) -> None:
        self.job = claimed

    def allow_until(self, until: int) -> None:
        """It has no process."""

    def kill(self) -> None:
        """It has no process."""


class _Slots:
    """One slot, whose job is performed when it is asked how that goes."""

    def __init__(self, relayq: Any) -> None:
        self.slots = [_Slot()]
        self._runner = relayq.runner

    def collect(self, seconds: float) -> Iterable[Any]:
        from relayq_core.worker.child import Report

        slot = self.slots[0]
        if (claimed := slot.job) is not None:
            slot.job = None
            yield slot, claimed, Report(self._runner.run_claimed(claimed, lambda: 600_000).ended)


if __name__ == "__main__":
    main()
