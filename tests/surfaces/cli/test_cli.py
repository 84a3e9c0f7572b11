"""The command line as a whole: its exit codes, its settings, and where it finds the jobs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relayq_core import RelayQ
from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.server import Server
from tests.support.harmless import is_harmless
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
