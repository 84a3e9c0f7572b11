"""`relayq dispatch` and `relayq run`: what they do, say and exit with, on DynamoDB as moto has it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.surfaces.cli.commands import (
    Relayq,
    dispatched,
)

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
    assert "not run: it is due in 119 min" in ran.out


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
