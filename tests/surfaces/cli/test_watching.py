"""Commands that look again and again, and the one that reads logs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import boto3.session
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.cli import jobs as jobs_module
from relayq_core.cli import logs, watch
from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.client import RelayQ
from relayq_core.model.leases import LEAST_TIME_MS
from relayq_core.model.record import JobRecord
from relayq_core.ports import JobStore
from tests.support.factories import a_burial, a_deletion, a_lease, completion
from tests.support.harmless import is_harmless
from tests.surfaces.cli.commands import Relayq, dispatched


@pytest.fixture
def store(relayq: Relayq) -> JobStore:
    """The tables that the commands work on."""
    return RelayQ().store


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What happens while a command waits between two looks: one thing at each wait, and nothing more at the last."""

    def happens(*steps: Callable[[], Any]) -> None:
        rest: Iterator[Callable[[], Any]] = iter(steps)

        def sleep(seconds: float) -> None:
            next(rest)()

        clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
        monkeypatch.setattr(watch, "time", clock)

    return happens


def stop() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


# --- status --follow ---


def claimed(store: JobStore, job_id: str) -> JobRecord:
    """A runner has the job."""
    record = store.claim(job_id, a_lease(now=SystemClock().now(), budget_ms=LEAST_TIME_MS)).record
    assert record is not None
    return record


def complete_and_delete(store: JobStore, job_id: str) -> None:
    """A runner completes the job, and its settings keep no completed jobs."""
    running = claimed(store, job_id)
    store.settle(running, a_deletion(running))


def test_a_job_is_followed_to_its_end(relayq: Relayq, store: JobStore, meanwhile: Callable[..., None]) -> None:
    """Each change is printed once, its progress too; at the end the job is shown whole."""
    job_id = dispatched(relayq, "import_file")
    running: list[JobRecord] = []
    meanwhile(
        lambda: None,
        lambda: running.append(claimed(store, job_id)),
        lambda: store.save_progress(running[0], '{"fraction": 0.4, "note": "rows read"}'),
        lambda: store.settle(running[0], completion(running[0], '"done"', now=SystemClock().now())),
    )
    ran = relayq("status", job_id, "--follow")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[:3] == ["pending, attempt 0", "processing, attempt 1", "processing, attempt 1, 40% rows read"]
    assert lines[3].split() == ["job", job_id]
    assert any(line.split() == ["status", "completed"] for line in lines)


def test_a_job_that_fails_while_it_is_followed_exits_3(
    relayq: Relayq, store: JobStore, meanwhile: Callable[..., None]
) -> None:
    """A script sees it by the exit code; with --json nothing but the job is printed."""
    job_id = dispatched(relayq, "import_file")

    def fail() -> None:
        running = claimed(store, job_id)
        store.settle(running, a_burial(running, now=SystemClock().now()))

    meanwhile(fail)
    ran = relayq("status", job_id, "--follow", "--json")
    assert (ran.code, ran.json["status"]) == (3, "failed")
    assert relayq("status", job_id).code == 0, "without --follow it was asked for, and shown"


def test_a_job_that_is_not_kept_once_it_has_ended_is_followed_all_the_same(
    relayq: Relayq, store: JobStore, meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If retention is 0 its row is gone, and nothing is said of it that is no longer so."""
    monkeypatch.setenv("RELAYQ_RETENTION_SECONDS", "0")
    for flags in ((), ("--json",)):
        job_id = dispatched(relayq, "import_file")
        meanwhile(lambda job_id=job_id: complete_and_delete(store, job_id))
        ran = relayq("status", job_id, "--follow", *flags)
        assert ran.code == 0
        if flags:
            assert ran.json == {"id": job_id, "status": None}
        else:
            assert ran.out.splitlines()[-1] == "the job has ended and is not kept (RELAYQ_RETENTION_SECONDS)"


@pytest.mark.parametrize("follow", [("status", "--follow"), ("dispatch", "--wait")])
def test_a_job_that_failed_and_was_forgotten_while_it_was_followed_did_not_end_well(
    relayq: Relayq, store: JobStore, meanwhile: Callable[..., None], follow: tuple[str, str]
) -> None:
    """Completed jobs are kept here, and it is not among them: exit code 4, and no state from before."""

    def fail_and_forget() -> None:
        running = claimed(store, "job-1")
        store.settle(running, a_burial(running, now=SystemClock().now()))
        assert store.forget("job-1")

    command, flag = follow
    given = ("--job-id", "job-1") if command == "dispatch" else ()
    if command == "status":
        dispatched(relayq, "import_file", "--job-id", "job-1")
    meanwhile(fail_and_forget)
    ran = relayq(command, "job-1" if command == "status" else "import_file", *given, flag)
    assert ran.code == 4
    assert "job 'job-1' is gone: it failed and was forgotten, or it completed under" in ran.err
    assert "it has ended" not in ran.out


def test_a_job_that_vanishes_while_it_is_followed_has_no_state_for_a_program(
    relayq: Relayq, store: JobStore, meanwhile: Callable[..., None]
) -> None:
    """The one it was last seen in is over."""
    job_id = dispatched(relayq, "import_file")
    meanwhile(lambda: complete_and_delete(store, job_id))
    ran = relayq("status", job_id, "--follow", "--json")
    assert (ran.code, ran.json["exit_code"], "status" in ran.json) == (4, 4, False)


def test_a_job_that_is_not_there_cannot_be_followed(relayq: Relayq) -> None:
    """Exit code 4, at once."""
    assert relayq("status", "01NOWHERE", "--follow").code == 4


def test_nothing_is_followed_where_no_runner_runs_it(relayq: Relayq) -> None:
    """It would never end."""
    ran = relayq("--local", "status", "job-1", "--follow")
    assert (ran.code, "--follow needs a runner, and --local has none" in ran.err) == (2, True)


# --- queues --watch ---


def test_queues_are_watched_until_ctrl_c(
    relayq: Relayq, meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen is drawn again with what has happened since."""
    monkeypatch.setattr(jobs_module, "is_fancy", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("TERM", "dumb")
    meanwhile(lambda: relayq_dispatch("emails"), lambda: relayq_dispatch("emails"), stop)

    def relayq_dispatch(queue: str) -> None:
        RelayQ().dispatch("greet", queue=queue)

    ran = relayq("queues", "--watch")
    assert ran.code == 0
    head, emails, foot = ran.out.rstrip().splitlines()[-3:]
    assert head.split() == ["QUEUE", "LIVE", "OVERDUE", "OLDEST", "DUE"]
    assert emails.split()[:2] == ["emails", "2"]
    assert "not swept yet" in foot
    assert "Ctrl-C to quit" in foot


def test_watching_is_refused_where_there_is_no_terminal(relayq: Relayq) -> None:
    """A log would grow without an end."""
    for more in ((), ("--json",)):
        ran = relayq("queues", "--watch", *more)
        assert ran.code == 2
        assert "--watch needs a terminal" in (ran.json["error"] if more else ran.err)


# --- logs ---


@pytest.fixture
def cloudwatch(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """CloudWatch with scripted answers; the tables are moto's."""
    session = boto3.Session()
    client = boto3.session.Session("test", "test", region_name="eu-west-1").client("logs")

    class Session:
        def client(self, service: str, **options: Any) -> Any:
            return client if service == "logs" else session.client(service, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(boto3, "Session", Session)
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def line(at: int, **fields: Any) -> dict[str, Any]:
    """An event as powertools writes it."""
    return {"timestamp": at, "message": json.dumps(fields)}


class NotBefore(int):
    """Equals every moment from this one until now, less the same two hours."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) <= int(other) <= SystemClock().now() - 7_200_000

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def asked(group: str, job_id: str, **more: Any) -> dict[str, Any]:
    """What CloudWatch has to be asked."""
    return {"logGroupName": group, "filterPattern": f'"{job_id}"', "startTime": ANY, **more}


def test_the_lines_of_a_job_are_gathered_from_its_groups_in_order(relayq: Relayq, cloudwatch: Stubber) -> None:
    """Page after page, JSON or not; a log group that is not there has nothing to say."""
    job_id = dispatched(relayq, "greet")
    now = 1_764_000_000_000
    first = line(now + 2_000, level="WARNING", message="job failed: ValueError: no", job_id=job_id, attempt=1)
    plain = {"timestamp": now + 3_000, "message": f"Task timed out, {job_id}\n"}
    last = line(now, level="INFO", message="nudged", job_id=job_id)
    cloudwatch.add_response("filter_log_events", {"events": [first], "nextToken": "t"}, asked("one", job_id))
    cloudwatch.add_response("filter_log_events", {"events": [plain]}, asked("one", job_id, nextToken="t"))
    cloudwatch.add_client_error("filter_log_events", "ResourceNotFoundException", expected_params=asked("two", job_id))
    cloudwatch.add_response("filter_log_events", {"events": [last]}, asked("/relayq/x/sweeper", job_id))
    groups = ("--group", "one", "--group", "two", "--group", "/relayq/x/sweeper")
    ran = relayq("logs", job_id, *groups)
    assert ran.code == 0
    assert [line.split("UTC")[1].split() for line in ran.out.splitlines()] == [
        ["sweeper", "INFO", "nudged"],
        ["one", "WARNING", "job", "failed:", "ValueError:", "no"],
        ["one", "Task", "timed", "out,", job_id],
    ]


def test_the_lines_of_a_job_are_json_with_all_their_fields(relayq: Relayq, cloudwatch: Stubber) -> None:
    """They are for programs that want more than the message."""
    told = line(1_764_000_000_000, level="INFO", message="started", job_id="job-1", attempt=2)
    cloudwatch.add_response("filter_log_events", {"events": [told]}, asked("mine", "job-1"))
    ran = relayq("logs", "job-1", "--group", "mine", "--since", "2d", "--json")
    assert ran.json["groups"] == ["mine"]
    (found,) = ran.json["lines"]
    assert (found["level"], found["message"], found["fields"]) == ("INFO", "started", {"job_id": "job-1", "attempt": 2})
    assert found["at_ms"] == 1_764_000_000_000


def test_what_a_handler_logged_cannot_take_over_the_terminal(relayq: Relayq, cloudwatch: Stubber) -> None:
    """Control sequences, in a message, in a level and in a line that is no JSON; a program gets the message as safe."""
    told = [
        line(1_764_000_000_000, level="IN\x1b[2JFO", message="he said \x1b]0;owned\x07 \ud800 hello"),
        {"timestamp": 1_764_000_000_001, "message": "plain \x1b[31mred\x9b2J"},
    ]
    for _ in range(2):
        cloudwatch.add_response("filter_log_events", {"events": told}, asked("mine", "job-1"))
    ran = relayq("logs", "job-1", "--group", "mine")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
    assert all(map(is_harmless, ran.out))
    assert "hello" in ran.out
    ran = relayq("logs", "job-1", "--group", "mine", "--json")
    assert (ran.code, [each["level"] for each in ran.json["lines"]]) == (0, ["IN\N{REPLACEMENT CHARACTER}[2JFO", ""])
    assert "\x9b" not in ran.out


def test_what_no_stream_can_encode_is_escaped_for_programs(relayq: Relayq, cloudwatch: Stubber) -> None:
    """A program that reads the JSON gets what was logged, to the letter."""
    odd = "\ud800 \x9b2J \x7f \N{SNOWMAN}"
    told = line(1_764_000_000_000, level="INFO", message="started", user=odd)
    cloudwatch.add_response("filter_log_events", {"events": [told]}, asked("mine", "job-1"))
    ran = relayq("logs", "job-1", "--group", "mine", "--json")
    assert (ran.code, ran.json["lines"][0]["fields"]) == (0, {"user": odd})
    assert (ran.out.isascii(), "\x9b" in ran.out, "\N{SNOWMAN}" in ran.out) == (False, False, True)
    ran.out.encode()


def a_stack(monkeypatch: pytest.MonkeyPatch, *, functions: dict[str, Any]) -> None:
    """A stack `x` whose runner knows what has a runner of its own; `functions` as Lambda describes them."""
    described = boto3.Session().client("logs").meta.region_name  # the session of the fixture
    outputs = {
        "JobsTableName": os.environ["RELAYQ_JOBS_TABLE"],
        "FailedJobsTableName": os.environ["RELAYQ_FAILED_TABLE"],
        "RunnerFunctionName": "runner",
    }
    monkeypatch.setattr(
        Aws, "describe_stack", lambda self, name: DescribedStack(name=name, outputs=outputs, created_at=None)
    )
    get_client = Aws.get_client

    class Lambda:
        def get_function_configuration(self, FunctionName: str) -> Any:
            if FunctionName not in functions:
                error = {"Error": {"Code": "AccessDeniedException", "Message": f"not for {described}"}}
                raise ClientError(error, "GetFunctionConfiguration")  # type: ignore[arg-type]
            return functions[FunctionName]

    monkeypatch.setattr(Aws, "get_client", lambda self, name: Lambda() if name == "lambda" else get_client(self, name))


@pytest.mark.parametrize(
    ("own", "group"),
    [
        ({"LoggingConfig": {"LogGroup": "/relayq/own-jobs/runner"}}, "/relayq/own-jobs/runner"),
        ({}, "/aws/lambda/own-jobs-runner"),
        (None, "/aws/lambda/own-jobs-runner"),  # it may not be asked about
    ],
)
def test_a_job_on_a_runner_of_its_queues_own_is_looked_for_there(
    relayq: Relayq, cloudwatch: Stubber, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any] | None, group: str
) -> None:
    """The stack's runner knows which that is, and that one where it logs."""
    named = {"RELAYQ_RUNNER_FUNCTIONS": '{"rep*": "own-jobs-runner:live", "films": "film-runner"}'}
    functions: dict[str, Any] = {"runner": {"Environment": {"Variables": named}}}
    if own is not None:
        functions["own-jobs-runner:live"] = own
    a_stack(monkeypatch, functions=functions)
    job_id = relayq("dispatch", "greet", "--queue", "reports", "--json").json["job_id"]
    found = line(1_764_000_000_000, level="INFO", message="started", job_id=job_id)
    for each in ("/relayq/x/runner", "/relayq/x/sweeper", "/relayq/x/api"):
        cloudwatch.add_response("filter_log_events", {}, asked(each, job_id))
    cloudwatch.add_response("filter_log_events", {"events": [found]}, asked(group, job_id))
    ran = relayq("logs", job_id, "--stack", "x")
    assert (ran.code, "started" in ran.out) == (0, True)
    assert ("cannot read where" in ran.err) == (own is None)


def test_where_the_stack_may_not_be_asked_about_its_runners_it_is_said(
    relayq: Relayq, cloudwatch: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else "no line" would stand for "not looked"."""
    a_stack(monkeypatch, functions={})
    job_id = relayq("dispatch", "greet", "--queue", "reports", "--json").json["job_id"]
    for each in ("/relayq/x/runner", "/relayq/x/sweeper", "/relayq/x/api"):
        cloudwatch.add_response("filter_log_events", {}, asked(each, job_id))
    ran = relayq("logs", job_id, "--stack", "x")
    assert (ran.code, "cannot read whether the queue has its own runner" in ran.err) == (4, True)


def test_logs_look_back_to_the_dispatch_or_as_far_as_is_said(relayq: Relayq, cloudwatch: Stubber) -> None:
    """They do not go through all that was ever logged."""
    job_id = dispatched(relayq, "greet")
    created = relayq("status", job_id, "--json").json["created_at_ms"]
    cloudwatch.add_response("filter_log_events", {}, {**asked("g", job_id), "startTime": created - 60_000})
    assert relayq("logs", job_id, "--group", "g").code == 4
    before = SystemClock().now() - 7_200_000
    cloudwatch.add_response("filter_log_events", {}, {**asked("g", job_id), "startTime": NotBefore(before)})
    assert relayq("logs", job_id, "--group", "g", "--since", "2h").code == 4


def test_logs_of_a_job_that_has_ended_are_looked_for_until_an_hour_later(
    relayq: Relayq, store: JobStore, cloudwatch: Stubber
) -> None:
    """They do not go through all that was logged since; --since sets another limit."""
    job_id = dispatched(relayq, "greet")
    running, ended = claimed(store, job_id), SystemClock().now()
    store.settle(running, a_burial(running, now=ended))
    until = {**asked("g", job_id), "endTime": ended + 3_600_000}
    cloudwatch.add_response("filter_log_events", {"nextToken": "t"}, until)
    cloudwatch.add_response("filter_log_events", {}, {**until, "nextToken": "t"})
    assert relayq("logs", job_id, "--group", "g").code == 4
    cloudwatch.add_response("filter_log_events", {}, asked("g", job_id))
    assert relayq("logs", job_id, "--group", "g", "--since", "2h").code == 4


def test_a_search_that_was_given_up_is_no_answer(
    relayq: Relayq, cloudwatch: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudWatch had not looked through all: what was found is shown, and that there may be more; exit code 1."""
    monkeypatch.setattr(logs, "_PAGES", 2)

    def endless(*events: dict[str, Any]) -> None:
        for _ in range(2):
            cloudwatch.add_response("filter_log_events", {"events": events, "nextToken": "t"})
        cloudwatch.add_response("filter_log_events", {}, asked("whole", "job-1"))

    groups = ("--group", "mine", "--group", "whole")
    endless()
    ran = relayq("logs", "job-1", *groups)
    assert (ran.code, ran.out) == (1, "")
    assert (
        "error: mine: the search was given up after 2 pages, so lines may be missing; search less with --since TIME"
        in ran.err
    )
    endless(line(1_764_000_000_000, level="INFO", message="job started"))
    ran = relayq("logs", "job-1", *groups)
    assert (ran.code, ran.out.count("job started"), "given up after 2 pages" in ran.err) == (1, 2, True)
    endless()
    ran = relayq("logs", "job-1", *groups, "--json")
    assert (ran.code, ran.json["given_up"], ran.json["lines"]) == (1, ["mine"], [])


def test_no_line_at_all_is_said_plainly_and_exits_4(relayq: Relayq, cloudwatch: Stubber) -> None:
    """Where it looked, and since when."""
    cloudwatch.add_response("filter_log_events", {"events": []}, asked("mine", "job-1"))
    ran = relayq("logs", "job-1", "--group", "mine")
    assert (ran.code, ran.out) == (4, "no line about job job-1 since 24 h ago, in mine\n")


def test_logs_of_groups_that_are_not_there_are_an_error(relayq: Relayq, cloudwatch: Stubber) -> None:
    """A wrong stack, or a wrong region."""
    cloudwatch.add_client_error("filter_log_events", "ResourceNotFoundException")
    ran = relayq("logs", "job-1", "--group", "mine")
    assert (ran.code, "there is no log group mine in this account and region" in ran.err) == (1, True)


def test_logs_need_to_know_whose(relayq: Relayq) -> None:
    """A stack, or a group."""
    ran = relayq("logs", "job-1")
    assert (ran.code, "say whose logs: --stack NAME, or --group GROUP" in ran.err) == (2, True)
