"""Commands that look at jobs and act on them, and what they print."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relayq_core import RelayQ, job
from relayq_core.cli.render import show_ended, show_job
from relayq_core.local.aws import EmbeddedAws
from relayq_core.local.environ import isolate
from relayq_core.model.record import Status
from relayq_core.operations import jobs as operations
from relayq_core.operations.serialize import serialize_job
from tests.support.factories import a_job, a_lease
from tests.support.paths import ROOT
from tests.surfaces.cli.commands import (
    Relayq,
    dispatched,
)

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
    assert serialize_job(job, whole=True)["result_problem"] == "40000 bytes, the limit is 32768"


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
