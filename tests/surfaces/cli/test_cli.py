"""The command line: what each command does, says and exits with, on DynamoDB as moto has it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relayq_core import RelayQ, job
from relayq_core.cli.render import show_ended, show_job
from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.environ import isolate
from relayq_core.local.server import Server
from relayq_core.model.record import Status
from relayq_core.operations import jobs as operations
from relayq_core.operations.serialize import job_shape
from tests.support.factories import a_job, a_lease
from tests.support.harmless import is_harmless
from tests.support.paths import ROOT
from tests.surfaces.cli.commands import (
    Relayq,
    dispatched,
)

# --- exit codes ---


def test_a_command_that_did_what_was_asked_exits_0(relayq: Relayq) -> None:
    """Scripts go on after a 0."""
    assert relayq("dispatch", "send_email", '{"to": "a@b.c"}').code == 0


def test_an_error_is_one_sentence_on_stderr_and_exits_1(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger reads what is wrong and what to do, and no traceback."""
    monkeypatch.setenv("RELAYQ_JOBS_TABLE", "nowhere")
    ran = relayq("list")
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert "'nowhere' does not exist" in ran.err
    assert "Traceback" not in ran.err
    assert ran.err.count("\n") == 1


def test_a_wrong_command_line_exits_2(relayq: Relayq) -> None:
    """A program can distinguish a usage error from a failure."""
    ran = relayq("dispatch", "send_email", "{to: 1}")
    assert ran.code == 2
    assert "not valid JSON" in ran.err


def test_a_job_that_failed_exits_3(project: Relayq) -> None:
    """`relayq run` says how the job went."""
    ran = project("run", "--id", dispatched(project, "cli.refuse"))
    assert ran.code == 3
    assert "failed at attempt 1: Bury: never" in ran.out


def test_an_unknown_id_exits_4(relayq: Relayq) -> None:
    """A missing job is no error of the command."""
    for argv in (
        ("status", "01NOWHERE"),
        ("cancel", "01NOWHERE"),
        ("run", "--id", "01NOWHERE"),
        ("failed", "show", "01NOWHERE"),
        ("failed", "redrive", "01NOWHERE"),
        ("failed", "forget", "01NOWHERE"),
    ):
        ran = relayq(*argv)
        assert ran.code == 4, argv
        assert "there is no job '01NOWHERE'" in ran.err


def test_a_job_that_has_not_ended_exits_5(relayq: Relayq) -> None:
    """--wait gives up, the job does not."""
    ran = relayq("dispatch", "send_email", "--wait", "0.2")
    assert ran.code == 5
    assert "still pending after 0.2 s" in ran.out


def test_errors_are_json_where_json_was_asked_for(relayq: Relayq) -> None:
    """A program finds the same three members, whatever went wrong."""
    unknown = relayq("status", "01NOWHERE", "--json")
    assert unknown.json == {"error": "there is no job '01NOWHERE' in either table", "type": "NotFound", "exit_code": 4}
    usage = relayq("--json", "status")
    assert (usage.code, usage.json["type"], usage.json["exit_code"]) == (2, "UsageError", 2)
    assert usage.err == ""


# --- dispatch ---


def test_a_dispatched_job_is_in_the_table_as_it_was_asked_for(relayq: Relayq) -> None:
    """Every option arrives."""
    job_id = dispatched(
        relayq,
        "send_email",
        '{"to": "a@b.c"}',
        *("--queue", "vip", "--delay", "1h30m", "--unique", "welcome", "--unique-for", "2d", "--max-attempts", "9"),
    )
    job = relayq("status", job_id, "--json").json
    assert (job["name"], job["queue"], job["max_attempts"], job["unique"]) == ("send_email", "vip", 9, "welcome")
    assert job["payload"] == {"to": "a@b.c"}
    assert job["available_at_ms"] - job["created_at_ms"] == 5_400_000
    assert job["available_at"].endswith("Z")


def test_an_id_given_twice_is_one_job(relayq: Relayq) -> None:
    """A caller that does not know whether a dispatch was taken dispatches again."""
    again = [dispatched(relayq, "x", "--job-id", "order-7", "--timeout", "90s") for _ in range(2)]
    assert again == ["order-7", "order-7"]
    assert [job["id"] for job in relayq("list", "--json").json["jobs"]] == ["order-7"]
    assert relayq("status", "order-7", "--json").json["timeout"] == 90


def test_at_takes_a_moment_with_its_zone(relayq: Relayq) -> None:
    """Nine o'clock in Berlin is eight in UTC."""
    job = relayq("status", dispatched(relayq, "later", "--at", "2030-01-31T09:00+01:00"), "--json").json
    assert job["available_at"] == "2030-01-31T08:00:00.000Z"


def test_a_payload_comes_from_a_file_or_from_stdin(
    relayq: Relayq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large payloads need no shell quoting."""
    (tmp_path / "payload.json").write_text('{"from": "file"}')
    from_file = relayq("status", dispatched(relayq, "x", "@payload.json"), "--json").json
    assert from_file["payload"] == {"from": "file"}
    with (tmp_path / "payload.json").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        from_stdin = relayq("status", dispatched(relayq, "x", "-"), "--json").json
    assert from_stdin["payload"] == {"from": "file"}


def test_a_duplicate_prints_the_first_jobs_id(relayq: Relayq) -> None:
    """The caller learns which job has the key."""
    first = dispatched(relayq, "x", "--unique", "k")
    again = relayq("dispatch", "x", "--unique", "k", "--json").json
    assert again == {"job_id": first, "duplicate": True, "handed_off": False}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["x", "[1]"], "expected a JSON object"),
        (["x", '{"a": NaN}'], "NaN is not JSON"),
        (["x", "@nowhere.json"], "nowhere.json: No such file"),
        (["bad name"], "expected 1 to 128 letters"),
        (["x", "--queue", "a b"], "expected 1 to 64 letters"),
        (["x", "--delay", "soon"], "expected a duration like 5, 90s, 5m or 2h, got 'soon'"),
        (["x", "--delay", "-5"], "expected a duration"),
        (["x", "--at", "tomorrow"], "expected a time like"),
        (["x", "--at", "2030-01-31"], "has no time zone; write 2030-01-31T00:00Z"),
        (["x", "--at", "2030-01-31T09:00Z", "--delay", "5"], "either --delay or --at"),
        (["x", "--unique-for", "5"], "--unique-for needs --unique"),
        (["x", "--max-attempts", "0"], "from 1 to 1000, got 0"),
        (["x", "--max-attempts", "many"], "from 1 to 1000, got 'many'"),
        (["x", "--nonsense"], "No such option"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_a_mistyped_dispatch_is_refused_in_a_sentence(relayq: Relayq, argv: list[str], sentence: str) -> None:
    """Nothing is dispatched."""
    ran = relayq("dispatch", *argv)
    assert ran.code == 2
    assert sentence in ran.err
    assert relayq("queues", "--json").json["queues"] == []


def test_the_payload_is_checked_where_the_jobs_code_is_there(project: Relayq) -> None:
    """The mistake is found before the job is written, and its type's options count."""
    wrong = project("dispatch", "cli.greet", '{"nam": "Ada"}')
    assert (wrong.code, "field 'nam': the job has no such field" in wrong.err) == (1, True)
    right = project("status", dispatched(project, "cli.greet", '{"name": "Ada"}'), "--json").json
    assert (right["queue"], right["max_attempts"]) == ("greetings", 4)


def test_a_name_that_is_not_known_here_is_dispatched_with_a_warning(project: Relayq) -> None:
    """The runner may know more jobs than this folder."""
    ran = project("dispatch", "cli.gret")
    assert ran.code == 0
    assert "warning: no job named 'cli.gret' here. Did you mean \"cli.greet\"?" in ran.err
    assert "it fails after 15 min" in ran.err


def test_a_queue_that_is_not_the_jobs_own_is_warned_of(project: Relayq) -> None:
    """A mistyped one would stay among the queues, and its jobs might be overlooked."""
    ran = project("dispatch", "cli.greet", '{"name": "Ada"}', "--queue", "greeting")
    assert ran.code == 0
    assert (
        "warning: cli.greet belongs to queue 'greetings'; this one goes to 'greeting'. Did you mean \"greetings\"?"
        in ran.err
    )
    assert project("dispatch", "cli.greet", '{"name": "Ada"}', "--queue", "greetings").err == ""
    assert project("dispatch", "cli.stumble", "--queue", "default").err == ""


def test_a_job_without_a_handoff_is_said_to_start_when_it_will(relayq: Relayq) -> None:
    """A job without a delay has no time that comes."""
    assert relayq("dispatch", "x").out.endswith("dispatched; the sweeper starts it\n")
    assert relayq("dispatch", "x", "--delay", "5m").out.endswith("the sweeper starts it when it is due\n")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["dispatc"], "No such command 'dispatc'. Did you mean 'dispatch'? See relayq --help"),
        (["failed", "lst"], "No such command 'lst'. Did you mean 'list'? See relayq failed --help"),
        (["make-job", "--queue"], "Option '--queue' requires an argument. See relayq make-job --help"),
        (["failed", "list", "--job"], "Option '--job' requires an argument. See relayq failed list --help"),
        (["--stack"], "Option '--stack' requires an argument. See relayq --help"),
        (
            ["run", "greet", "{}"],
            "Missing option '--id': The job's id, which `relayq dispatch` prints. See relayq run --help",
        ),
        (["dispatch"], "Missing argument 'NAME': The job's name; `relayq registry` lists them. See relayq dispatch"),
    ],
)
def test_a_usage_error_reads_as_a_sentence_and_names_its_help(relayq: Relayq, argv: list[str], told: str) -> None:
    """It says what the missing argument is."""
    ran = relayq(*argv)
    assert (ran.code, told in ran.err) == (2, True), ran.err


def test_shared_options_count_within_a_groups_name_too(relayq: Relayq) -> None:
    """Before the command, after it, and between the two words of one."""
    assert relayq("failed", "--json", "list").json == {"jobs": []}
    assert "no region" not in relayq("failed", "--region", "eu-west-1", "list").err
    assert relayq("failed").code == 2


def test_a_dispatch_without_a_runner_to_hand_it_to_is_refused_first(
    relayq: Relayq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten setting is found before anything is written."""
    monkeypatch.delenv("RELAYQ_HANDOFF")
    ran = relayq("dispatch", "x")
    assert ran.code == 1
    assert "RELAYQ_RUNNER_FUNCTION: it is not set" in ran.err


# --- run ---


def test_run_performs_a_job_here(project: Relayq) -> None:
    """What it prints and what it returns are seen."""
    job_id = dispatched(project, "cli.greet", '{"name": "Ada"}')
    ran = project("run", "--id", job_id)
    assert ran.code == 0
    assert ran.out == 'this is the handler\ncompleted: "Hello, Ada!"\n'
    assert project("status", job_id, "--json").json["status"] == "completed"


def test_what_a_job_prints_is_no_part_of_the_json(project: Relayq) -> None:
    """A program can read the output of `run --json`."""
    ran = project("run", "--id", dispatched(project, "cli.greet", '{"name": "Ada"}'), "--json")
    assert (ran.json["ended"], ran.json["job"]["result"]) == ("completed", "Hello, Ada!")
    assert "this is the handler" in ran.err


def test_run_says_when_a_failed_try_comes_again(project: Relayq) -> None:
    """A retry is called a retry."""
    ran = project("run", "--id", dispatched(project, "cli.stumble"))
    assert ran.code == 3
    assert "attempt 1 failed: ValueError: not this time" in ran.out
    assert re.search(r"the next attempt starts in \d+ s", ran.out)


def test_run_of_a_job_whose_time_has_not_come_runs_nothing(project: Relayq) -> None:
    """Never early, not by hand either."""
    ran = project("run", "--id", dispatched(project, "cli.greet", '{"name": "Ada"}', "--delay", "2h"))
    assert ran.code == 5
    assert "not run: it is due in 1 h" in ran.out


def test_run_of_a_job_that_snoozes_is_not_over(project: Relayq) -> None:
    """A snooze is neither success nor failure."""
    assert project("run", "--id", dispatched(project, "cli.nap")).code == 5


def test_run_of_a_completed_job_runs_nothing_and_exits_0(project: Relayq) -> None:
    """It is done, whichever runner did it."""
    job_id = dispatched(project, "cli.greet", '{"name": "Ada"}')
    project("run", "--id", job_id)
    again = project("run", "--id", job_id)
    assert (again.code, again.out) == (0, f"{job_id} is completed: there is nothing to run\n")


def test_run_of_an_unknown_name_leaves_the_job_alone(project: Relayq) -> None:
    """No attempt is lost to a folder that lacks the code."""
    job_id = dispatched(project, "elsewhere")
    ran = project("run", "--id", job_id)
    assert (ran.code, "no job named 'elsewhere'" in ran.err) == (1, True)
    assert project("status", job_id, "--json").json["status"] == "pending"


def test_job_modules_that_do_not_import_are_reported_in_a_sentence(
    relayq: Relayq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own mistake is named, without a traceback."""
    (tmp_path / "cli_broken.py").write_text("import no_such_package\n")
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "cli_broken")
    ran = relayq("registry")
    assert ran.code == 1
    assert "cannot import the job modules cli_broken: ModuleNotFoundError: No module named 'no_such_package'" in ran.err
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "cli_nowhere")
    assert "no module named 'cli_nowhere'" in relayq("registry").err


def test_a_malformed_id_is_a_usage_error(relayq: Relayq) -> None:
    """It is not looked for."""
    for argv in (("status", "no id!"), ("run", "--id", "no id!"), ("failed", "show", "no id!")):
        ran = relayq(*argv)
        assert ran.code == 2
        assert "expected 1 to 64 letters, digits, '_', '-', '.' or ':', not beginning with '.', got 'no id!'" in ran.err


# --- look ---


def test_list_shows_what_waits_with_whole_ids(relayq: Relayq) -> None:
    """An id can be copied from any table."""
    now, later = dispatched(relayq, "x"), dispatched(relayq, "y", "--queue", "q", "--delay", "5m")
    out = relayq("list").out
    assert now in out
    assert later in out
    assert "starts in 4 min" in out or "starts in 5 min" in out
    assert [job["id"] for job in relayq("list", "--queue", "q", "--json").json["jobs"]] == [later]
    assert relayq("list", "--status", "processing", "--json").json == {
        "jobs": [],
        "looked_at": 2,
        "capped": False,
    }


def test_list_says_where_it_stops(relayq: Relayq) -> None:
    """The first page cannot be taken for the whole."""
    for _ in range(3):
        dispatched(relayq, "x")
    assert "the first 2; --limit N shows more" in relayq("list", "--limit", "2").out
    assert "--limit" not in relayq("list", "--limit", "3").out, "these are all"


def test_list_says_how_far_it_looked_for_a_status(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """That none is among the first is not that there is none."""
    for _ in range(3):
        dispatched(relayq, "x", "--queue", "q")
    assert relayq("list", "--status", "retrying").out == "no job is retrying\n"
    assert relayq("list", "--status", "retrying", "--queue", "q").out == "no job in queue q is retrying\n"
    monkeypatch.setattr(operations, "LIVE_LOOKED_AT", 2)
    narrow = ("list", "--status", "retrying", "--limit", "1")
    assert relayq(*narrow).out == "no job is retrying among the first 2; a larger --limit searches more\n"
    assert relayq(*narrow, "--json").json == {"jobs": [], "looked_at": 2, "capped": True}
    client = RelayQ()
    for waiting in client.live(limit=1):
        client.store.claim(waiting.id, a_lease(now=client.clock.now()))
    out = relayq("list", "--status", "processing", "--limit", "2").out
    assert out.splitlines()[-1] == "among the first 2; a larger --limit searches more"


def test_a_status_that_cannot_be_listed_is_refused(relayq: Relayq) -> None:
    """Of ended jobs there is no index."""
    ran = relayq("list", "--status", "failed")
    assert ran.code == 2
    assert "expected pending, processing, retrying, got 'failed' (`relayq failed list` lists those)" in ran.err


def test_an_unknown_queue_is_reported_with_the_known_ones(relayq: Relayq) -> None:
    """A typing mistake does not look like an empty queue."""
    dispatched(relayq, "x", "--queue", "emails")
    for argv in (("list",), ("failed", "list"), ("sweep",)):
        ran = relayq(*argv, "--queue", "email")
        assert ran.code == 4
        assert "there is no queue 'email'. Did you mean \"emails\"? Known: emails" in ran.err


def test_queues_counts_what_waits_and_what_is_overdue(relayq: Relayq) -> None:
    """One look shows whether anything is stuck."""
    assert "no queues yet" in relayq("queues").out
    dispatched(relayq, "x", "--queue", "emails")
    dispatched(relayq, "x", "--queue", "emails", "--delay", "1h")
    found = relayq("queues", "--json").json
    [queue] = found["queues"]
    assert (queue["queue"], queue["live"], queue["overdue"], queue["capped"]) == ("emails", 2, 1, False)
    assert found["swept_at"] is None
    relayq("sweep")
    assert relayq("queues", "--json").json["swept_at"].endswith("Z")


def test_status_shows_a_job_whole(project: Relayq) -> None:
    """Payload, attempts and errors are in one place."""
    job_id = dispatched(project, "cli.stumble")
    project("run", "--id", job_id)
    out = project("status", job_id).out
    assert re.search(r"status +retrying", out)
    assert re.search(r"attempts +1/3", out)
    assert "attempt 1 failed" in out
    assert "ValueError: not this time" in out


def test_registry_lists_jobs_with_their_payloads(project: Relayq) -> None:
    """One sees what can be dispatched, and with what."""
    out = project("registry").out
    assert re.search(r"cli\.greet +greetings +4 +name, greeting\?", out)
    [greet] = project("registry", "cli.greet", "--json").json["jobs"]
    assert greet["payload"]["required"] == ["name"]
    assert greet["origin"]["qualname"] == "greet"
    unknown = project("registry", "cli.gret")
    assert (unknown.code, 'Did you mean "cli.greet"?' in unknown.err) == (1, True)


def test_registry_lists_a_job_whose_payload_has_no_schema(project: Relayq, job_folder: Path) -> None:
    """The list says why, and shows the others."""

    class Client:
        """JSON knows nothing of it."""

    def fetch(url: str, client: Any = None) -> None: ...

    fetch.__annotations__["client"] = Client | None
    job(name="cli.fetch")(fetch)
    out = " ".join(project("registry").out.split())
    assert "cli.greet" in out
    assert re.search(r"cli\.fetch .*unknown: Cannot generate a JsonSchema", out)
    [found] = project("registry", "cli.fetch", "--json").json["jobs"]
    assert "properties" not in found["payload"]
    assert found["payload"]["$comment"].startswith("unknown: Cannot generate a JsonSchema")


# --- act ---


def test_cancel_ends_a_job_that_waits(project: Relayq) -> None:
    """A second cancel says so once more; a job that has ended otherwise stays as it is."""
    waiting = dispatched(project, "x")
    assert (project("cancel", waiting).out, project("cancel", waiting).code) == (f"{waiting} cancelled\n", 0)
    done = dispatched(project, "cli.greet", '{"name": "Ada"}')
    project("run", "--id", done)
    ran = project("cancel", done)
    assert (ran.code, "is completed already" in ran.err) == (1, True)


def test_a_failed_job_is_listed_shown_redriven_and_forgotten(project: Relayq) -> None:
    """The whole way of a failure."""
    job_id = dispatched(project, "cli.refuse", "--queue", "doomed")
    assert "no job has failed" in project("failed", "list").out
    project("run", "--id", job_id)
    assert re.search(rf"{job_id}  cli\.refuse +doomed +1 +(now|.* ago) +Bury: never", project("failed", "list").out)
    [listed] = project("failed", "list", "--queue", "doomed", "--json").json["jobs"]
    assert (listed["id"], listed["error"]) == (job_id, "Bury: never")
    assert "Bury: never" in project("failed", "show", job_id).out
    assert project("failed", "redrive", job_id).out == f"{job_id} is pending again\n"
    gone = project("failed", "show", job_id)
    assert (gone.code, "in the failed table: it is pending" in gone.err) == (4, True)
    redriven = project("status", job_id).out
    assert re.search(
        r"^attempt 1 failed .*: Bury: never\nredriven: attempts are counted from 1 again$", redriven, re.MULTILINE
    )
    project("run", "--id", job_id)
    again = project("failed", "show", job_id).out
    lines = r"^attempt 1 failed .*\nredriven: attempts are counted from 1 again\nattempt 1 failed .*$"
    assert re.search(lines, again, re.MULTILINE)
    assert again.count("redriven") == 1
    assert project("failed", "forget", job_id, "--json").json == {"id": job_id, "forgotten": True}
    assert project("status", job_id).code == 4


@pytest.mark.parametrize(
    ("failed", "attempt", "status", "told"),
    [
        ([1, 2], 2, Status.RETRYING, []),
        ([1, 2], 3, Status.PROCESSING, []),
        ([1, 2], 3, Status.COMPLETED, []),
        ([1, 2, 3], 3, Status.FAILED, []),
        ([1, 2, 3], 0, Status.PENDING, [3]),
        ([1, 2, 3], 1, Status.PROCESSING, [3]),
        ([1], 1, Status.COMPLETED, [1]),
        ([1, 2, 1], 1, Status.RETRYING, [2]),
        ([3, 1, 2, 3], 2, Status.COMPLETED, [1, 4]),
    ],
)
def test_status_says_where_the_attempts_begin_to_count_again(
    failed: list[int], attempt: int, status: Status, told: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """`attempts 1/3` above a failed third one would be a riddle."""
    errors = json.dumps([{"attempt": number, "at": 0, "error": "ValueError: no"} for number in failed])
    show_job(a_job(attempt=attempt, status=status, errors_json=errors), 0)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("attempt ", "redriven"))]
    places = [place - before for before, place in enumerate(n for n, line in enumerate(lines) if "redriven" in line)]
    assert places == told


def test_a_result_that_is_not_kept_is_reported_with_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    """The handler's return value is looked for, and a log line is far away."""
    job = a_job(status=Status.COMPLETED, result_problem="40000 bytes, the limit is 32768")
    show_job(job, 0)
    assert re.search(r"^result +not kept: 40000 bytes, the limit is 32768$", capsys.readouterr().out, re.MULTILINE)
    show_ended(job, 0)
    assert capsys.readouterr().out == "completed; its result is not kept: 40000 bytes, the limit is 32768\n"
    assert job_shape(job, whole=True)["result_problem"] == "40000 bytes, the limit is 32768"


def test_a_redrive_is_refused_while_another_job_has_the_key(project: Relayq) -> None:
    """The sentence names the holder."""
    first = dispatched(project, "cli.refuse", "--unique", "k")
    project("run", "--id", first)
    second = dispatched(project, "cli.refuse", "--unique", "k")
    ran = project("failed", "redrive", first)
    assert ran.code == 1
    assert f"its unique key is held by job '{second}'" in ran.err


def test_a_dry_sweep_says_what_a_real_one_then_does(relayq: Relayq) -> None:
    """It changes nothing."""
    job_id = dispatched(relayq, "x")
    planned = relayq("sweep", "--dry-run", "--json").json
    assert (planned["dry_run"], planned["counts"]) == (True, {"nudged": 1})
    assert planned["jobs"] == [{"id": job_id, "queue": "default", "action": "nudged"}]
    assert f"{job_id}  default  nudged\n1 nudged\n" in relayq("sweep").out
    assert relayq("sweep").out == "no job is overdue\n"


# --- tables ---


def test_tables_are_created_once_and_deleted_only_on_request(
    relayq: Relayq, aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On whatever endpoint the environment names; ended rows expire there."""
    monkeypatch.setenv("RELAYQ_JOBS_TABLE", "made")
    monkeypatch.setenv("RELAYQ_FAILED_TABLE", "made-failed")
    assert [table["created"] for table in relayq("tables", "create", "--json").json["tables"]] == [True, True]
    assert "made exists already" in relayq("tables", "create").out
    ttl = aws.dynamodb.describe_time_to_live(TableName="made")["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")
    assert relayq("list").code == 0
    unasked = relayq("tables", "delete")
    assert (unasked.code, "use --yes" in unasked.err) == (2, True)
    assert [table["deleted"] for table in relayq("tables", "delete", "--yes", "--json").json["tables"]] == [True, True]
    assert "made did not exist" in relayq("tables", "delete", "--yes").out


def test_a_service_endpoint_of_its_own_is_used_for_tables(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL_DYNAMODB counts before AWS_ENDPOINT_URL."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
    assert relayq("tables", "create", "--json").json["endpoint"] == endpoint


# --- settings ---


def test_a_missing_setting_is_reported_with_what_to_do(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing a stranger meets."""
    monkeypatch.delenv("RELAYQ_JOBS_TABLE")
    ran = relayq("queues")
    assert ran.code == 1
    assert "RELAYQ_JOBS_TABLE: it is not set" in ran.err
    assert "--stack" in ran.err


def test_dotenv_of_this_folder_is_read_and_the_environment_wins(
    relayq: Relayq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is exported is stronger than what lies in a file; and the file's values are gone afterwards."""
    monkeypatch.delenv("RELAYQ_FAILED_TABLE")
    monkeypatch.delenv("RELAYQ_JOBS_TABLE")
    (tmp_path / ".env").write_text("RELAYQ_JOBS_TABLE=relayq-jobs\nRELAYQ_FAILED_TABLE=elsewhere\nRELAYQ_QUEU=x\n")
    wrong = relayq("queues")
    assert "RELAYQ_QUEU: there is no such setting" in wrong.err
    (tmp_path / ".env").write_text("RELAYQ_JOBS_TABLE=relayq-jobs\nRELAYQ_FAILED_TABLE=elsewhere\n")
    assert relayq("queues").code == 0
    dispatched(relayq, "x")
    assert "table 'elsewhere' does not exist" in relayq("failed", "list").err
    monkeypatch.setenv("RELAYQ_FAILED_TABLE", "relayq-failed")
    assert relayq("failed", "list").code == 0
    assert "RELAYQ_JOBS_TABLE" not in os.environ


@pytest.mark.parametrize(
    "name",
    [
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_CA_BUNDLE",
        "AWS_DATA_PATH",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "PYTHONPATH",
        "LD_PRELOAD",
        "BASH_ENV",
        "HTTPS_PROXY",
        "POWERTOOLS_DEV",
    ],
)
def test_dotenv_says_nothing_but_where_the_jobs_are(
    relayq: Relayq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A folder may be a stranger's: a file that names a program to run is not read by that name."""
    monkeypatch.delenv(name, raising=False)
    seen: list[str | None] = []

    def look(relayq: RelayQ) -> list[Any]:
        seen.append(os.environ.get(name))
        return []

    monkeypatch.setattr(RelayQ, "queues", look)
    (tmp_path / ".env").write_text(f"{name}=./aws.cfg\n")
    ran = relayq("queues")
    assert (ran.code, seen) == (0, [None])
    assert (name in ran.err) is name.startswith("AWS_")


def test_dotenv_replaces_no_names(relayq: Relayq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint in it would carry a secret of the environment away."""
    monkeypatch.setenv("THE_SECRET", "hunter2")
    monkeypatch.delenv("RELAYQ_JOBS_TABLE")
    (tmp_path / ".env").write_text("RELAYQ_JOBS_TABLE=${THE_SECRET}\n")
    assert "hunter2" not in relayq("queues").err


#: What a terminal obeys, in every way to begin it.
EVIL = "a\x1b]0;PWNED\x07\x1b[31mb\x9b31mc\u202ed\u2066e\x85f\rg"


def with_evil(value: Any, kept: frozenset[str]) -> Any:
    """DynamoDB's JSON with something evil at the end of every text that is free, also within JSON."""
    match value:
        case {"S": text}:
            try:
                inner = json.loads(text)
            except ValueError:
                return {"S": text + EVIL}
            return {
                "S": json.dumps({"k" + EVIL: [inner, EVIL]}) if isinstance(inner, dict) else json.dumps([inner, EVIL])
            }
        case {"M": parts}:
            return {"M": {key: part if key in kept else with_evil(part, kept) for key, part in parts.items()}}
        case {"L": parts}:
            return {"L": [with_evil(part, kept) for part in parts]}
    return value


def test_nothing_that_is_stored_is_obeyed_by_the_terminal(project: Relayq, aws: EmbeddedAws) -> None:
    """Any text of any row may come from a stranger who may write there; no command prints one as it is."""
    done = dispatched(project, "cli.greet", '{"name": "Ada"}', "--unique", "welcome:ada")
    project("run", "--id", done)
    broken = dispatched(project, "cli.refuse")
    project("run", "--id", broken)
    waiting = dispatched(project, "cli.greet", '{"name": "Bo"}')
    shape = frozenset({"pk", "id", "status", "queue", "version", "qk", "queue_shard", "unique_pk"})
    for table in (JOBS_TABLE, FAILED_TABLE):
        for row in aws.read_rows(table):
            if row.get("id"):
                aws.fill(table, [with_evil({"M": row}, shape)["M"]])
    for argv in (
        ("status", done),
        ("status", broken),
        ("status", waiting),
        ("list",),
        ("failed", "list"),
        ("failed", "show", broken),
        ("failed", "redrive", "--all", "--dry-run"),
        ("queues",),
        ("health",),
        ("cancel", waiting),
        ("run", "--id", waiting),
    ):
        for options in ((), ("--json",), ("--debug",)):
            ran = project(*argv, *options)
            assert [char for char in ran.out + ran.err if not is_harmless(char)] == [], argv


@pytest.fixture
def cloudformation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CloudFormation with the stacks `relayq` and `other`; the latter has no outputs."""
    outputs = "".join(
        f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
        for key, value in {
            "JobsTableName": "relayq-jobs",
            "FailedJobsTableName": "relayq-failed",
            "RunnerFunctionName": "the-runner",
        }.items()
    )

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
        name = re.search(r"StackName=([^&]+)", body)
        if name and name[1] in {"relayq", "other"}:
            found = f"<Outputs>{outputs}</Outputs>" if name[1] == "relayq" else ""
            text = (
                "<DescribeStacksResponse><DescribeStacksResult><Stacks><member>"
                f"<StackName>{name[1]}</StackName><StackStatus>CREATE_COMPLETE</StackStatus>"
                f"<CreationTime>2026-01-01T00:00:00Z</CreationTime>{found}"
                "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
            )
            start_response("200 OK", [("Content-Type", "text/xml")])
        else:
            text = (
                "<ErrorResponse><Error><Code>ValidationError</Code>"
                "<Message>Stack with id nope does not exist</Message></Error></ErrorResponse>"
            )
            start_response("400 Bad Request", [("Content-Type", "text/xml")])
        return [text.encode()]

    server = Server(answer)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", server.url)
    for variable in ("RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE"):
        monkeypatch.delenv(variable)
    yield
    server.close()


@pytest.mark.usefixtures("relayq", "cloudformation")
def test_a_stack_names_the_tables_and_the_runner(relayq: Relayq, monkeypatch: pytest.MonkeyPatch) -> None:
    """--stack stands before the command or after it; the environment wins, and says so."""
    assert relayq("queues", "--stack", "relayq").code == 0
    assert relayq("--stack", "relayq", "--region", "us-east-1", "queues").code == 0
    elsewhere = relayq("queues", "--stack", "relayq", "--region", "eu-west-1")
    assert "table 'relayq-jobs' does not exist" in elsewhere.err
    monkeypatch.setenv("RELAYQ_FAILED_TABLE", "mine")
    ran = relayq("queues", "--stack", "relayq")
    assert ran.code == 0
    assert "RELAYQ_FAILED_TABLE=mine from the environment wins over relayq-failed of stack relayq" in ran.err


@pytest.mark.usefixtures("relayq", "cloudformation")
def test_a_foreign_stack_is_reported_in_a_sentence(relayq: Relayq) -> None:
    """A typing mistake or a foreign stack does not end in a traceback."""
    missing = relayq("queues", "--stack", "nope")
    assert (missing.code, "there is no stack 'nope'" in missing.err) == (1, True)
    foreign = relayq("queues", "--stack", "other")
    assert "stack 'other' has no output JobsTableName" in foreign.err


def test_a_profile_that_is_not_configured_is_reported_in_a_sentence(relayq: Relayq) -> None:
    """The keys of the environment do not silently stand in for it."""
    ran = relayq("queues", "--profile", "nope")
    assert (ran.code, "The config profile (nope) could not be found" in ran.err) == (1, True)


# --- looks ---


def test_every_command_has_help_with_an_example(relayq: Relayq) -> None:
    """`--help` is where people look first."""
    for argv in (
        *(("demo",), ("dispatch",), ("run",), ("queues",), ("list",), ("status",), ("cancel",), ("sweep",)),
        *(("registry",), ("clear",), ("health",), ("doctor",), ("logs",), ("tables", "create"), ("tables", "delete")),
        *(("failed", command) for command in ("list", "show", "redrive", "forget")),
    ):
        ran = relayq(*argv, "--help")
        assert ran.code == 0
        assert "Example: " in ran.out
        assert "--json" in ran.out
        assert "JSON: " in ran.out


def test_the_bare_command_shows_what_there_is(relayq: Relayq) -> None:
    """A stranger types `relayq` and sees the commands; a group alone likewise."""
    assert (relayq().code, "dispatch" in relayq().out) == (2, True)
    assert (relayq("failed").code, "redrive" in relayq("failed").out) == (2, True)
    assert relayq("--version").out.startswith("relayq ")


def in_terminal(*argv: str, columns: int = 100, cwd: Path, **environ: str) -> str:
    """What a command writes on a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "relayq_core.cli", *argv]
    inherited = isolate({}, {key: value for key, value in os.environ.items() if key != "NO_COLOR"})
    with subprocess.Popen(
        command,
        stdout=slave,
        stderr=slave,
        stdin=slave,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": str(columns), **environ},
    ):
        os.close(slave)
        seen = b""
        while piece := _piece(master):
            seen += piece
    os.close(master)
    return seen.decode()


def _piece(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux ends a terminal like this
        return b""


def test_a_terminal_gets_colours_unless_its_user_does_not_want_them(tmp_path: Path) -> None:
    """NO_COLOR takes the lines of boxes away as well."""
    coloured = in_terminal("failed", cwd=tmp_path)
    assert "\x1b[" in coloured
    assert "╭" in coloured
    plain = in_terminal("failed", cwd=tmp_path, NO_COLOR="1")
    assert "\x1b[" not in plain
    assert "╭" not in plain


def test_an_id_is_whole_on_the_narrowest_terminal(aws: EmbeddedAws, relayq: Relayq, tmp_path: Path) -> None:
    """A table that does not fit becomes a block for each row."""
    job_id = dispatched(relayq, "x", "--queue", "a-queue-with-a-rather-long-name")
    seen = in_terminal("list", columns=30, cwd=tmp_path, **aws.environ)
    assert job_id in seen
    assert "a-queue-with-a-rather-long-name" in seen
