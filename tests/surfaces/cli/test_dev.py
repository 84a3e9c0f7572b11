"""`relayq dev` as a process: a second process dispatches to it, and what is saved is live."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor

import pytest

from relayq_core.cli.dev_output import _fold
from relayq_core.client import RelayQ
from relayq_core.local.environ import apply_environ, isolate
from relayq_core.local.file_watch import FileWatcher, find_syntax_error
from tests.support.paths import ROOT
from tests.surfaces.cli.dev_process import CLIENT, JOB, Dev
from tests.surfaces.docs.blocks import blocks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/greetings.py").write_text(JOB)
    return tmp_path


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    """`relayq dev` in it."""
    running = Dev(folder, "--dashboard-port", "0")
    yield running
    running.close()


def client(folder: Path, environment: dict[str, str], name: str) -> str:
    """What the second process prints."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, name],
        cwd=folder.parent,
        env=isolate(environment, os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def refused(folder: Path, *options: str, **environ: str) -> str:
    """What `relayq dev` says in this folder, where it cannot begin."""
    done = subprocess.run(
        [sys.executable, "-m", "relayq_core.cli", "dev", *options],
        cwd=folder,
        env=isolate(environ, os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    return done.stderr


def test_a_second_process_dispatches_to_it_and_what_is_saved_is_live(dev: Dev) -> None:
    """One story: ready, a job, a retry, a change, a mistake, a mend, a deletion, an end."""
    ready = dev.until(lambda line: line["event"] == "ready")
    environment = ready["environment"]
    assert client(dev.folder, environment, "Ada") == "completed Hello, Ada!"
    done = dev.until(lambda line: line["event"] == "completed")
    assert (done["job_name"], done["attempt"]) == ("greet", 1)
    events = {line["event"] for line in dev.told}
    assert {"handed off", "printed", "info"} <= events
    said = dev.until(lambda line: line["event"] == "info")
    assert said["duration_ms"] == "long", "a field of the handler's own is no time of ours"

    assert client(dev.folder, environment, "Nobody") == "completed Hello, Nobody!"
    failed = dev.until(lambda line: line["event"] == "retrying")
    assert f"nobody is here, at {dev.folder}/jobs/greetings.py:10 in greet; " in failed["message"]
    assert {line["job_name"] for line in dev.told if line["event"] == "handed off"} == {"greet"}

    job = dev.folder / "jobs/greetings.py"
    job.write_text(JOB.replace("Hello", "Good morning"))
    dev.until(lambda line: line["event"] == "reloaded")
    assert client(dev.folder, environment, "Ada") == "completed Good morning, Ada!"

    job.write_text(JOB + "\ndef broken(:\n")
    refused = dev.until(lambda line: line["event"] == "not loaded")
    assert "greetings.py:13: invalid syntax\n    def broken(:" in refused["problem"]
    assert client(dev.folder, environment, "Ada") == "completed Good morning, Ada!"

    (dev.folder / "jobs/more.py").write_text("import nothing_like_it\n")
    job.write_text(JOB.replace("Hello", "Bye"))
    refused = dev.until(lambda line: line["event"] == "not loaded" and "nothing_like_it" in line["problem"])
    assert "more.py:1" in refused["problem"]
    (dev.folder / "jobs/more.py").unlink()
    dev.until(lambda line: line["event"] == "reloaded" and line["files"][0].endswith("more.py"))
    assert client(dev.folder, environment, "Ada") == "completed Bye, Ada!"

    exports = (dev.folder / ".relayq/dev.env").read_text()
    kept = [*(dev.folder / ".relayq").rglob("*")]
    assert {oct(file.stat().st_mode & 0o077) for file in kept} == {"0o0"}, "it holds the key of this run"
    assert all(f"export {name}=" in exports for name in environment)
    with urllib.request.urlopen(ready["dashboard"], timeout=10) as page:
        assert b"RelayQ" in page.read()
    with pytest.raises(HTTPError, match="403") as used, urllib.request.urlopen(ready["dashboard"], timeout=10):
        pass
    assert b"<code>relayq dev</code>" in used.value.read()
    login = ready["dashboard"].partition("/enter")[0] + "/login"
    form = urlencode({"username": "relayq", "token": ready["token"]}).encode()
    with urllib.request.build_opener(HTTPCookieProcessor()).open(login, form, timeout=10) as page:
        assert b"/dashboard/logout" in page.read()
    assert dev.end() == ""
    assert dev.process.returncode == 0
    left = json.loads((dev.folder / "output").read_text().splitlines()[-1])
    assert left == {"event": "left", "counts": {"completed": 5, "retried": 2}}
    assert not (dev.folder / ".relayq/dev.env").exists()


def test_the_jobs_that_newcomers_have_run_in_it(tmp_path: Path) -> None:
    """Those of the README, and what make-job writes: class and function; and a mistyped name is reported once."""
    for name in ("SendInvoice", "send_reminder"):
        subprocess.run(
            [sys.executable, "-m", "relayq_core.cli", "make-job", name],
            cwd=tmp_path,
            env=isolate({}, os.environ),
            capture_output=True,
            check=True,
        )
    shown = [block for block in blocks(ROOT / "README.md") if block.file and "/jobs/" in block.file]
    for block in shown:
        assert block.file is not None
        (tmp_path / "src/jobs" / Path(block.file).name).write_text(block.text)
    jobs: list[tuple[str, dict[str, Any]]] = [
        ("SendInvoice", {"name": "Ada"}),
        ("send_reminder", {"name": "Ada"}),
        ("SendNotification", {"user_id": 1, "title": "Hi"}),
        ("greet", {"name": "Ada"}),
    ]
    with closing(Dev(tmp_path, "--no-dashboard")) as running:
        environment = running.until(lambda line: line["event"] == "ready")["environment"]
        with apply_environ(environment):
            relayq = RelayQ()
            relayq.dispatch("SendInvoic")
            running.until(lambda line: line["event"] == "warning")
            running.until(lambda _: [line["event"] for line in running.told].count("handed off") == 2)
            for name, args in jobs:
                relayq.dispatch(name, args)
        running.until(lambda line: line["event"] == "failed" or running.completed() == {name for name, _ in jobs})
        assert running.completed() == {name for name, _ in jobs}
        warned = [line for line in running.told if line["event"] in {"warning", "error"}]
        assert ["SendInvoice" in line["message"] for line in warned] == [True], warned


def test_a_folder_without_jobs_gets_advice(tmp_path: Path) -> None:
    """In a sentence, with the command that makes the first one."""
    told = refused(tmp_path, RELAYQ_JOB_MODULES="my_jobs")
    assert "there is no module 'my_jobs' here" in told
    assert "make-job" in told


def test_its_dashboard_has_a_form_for_each_job_as_it_is_now(dev: Dev) -> None:
    """Saved ones too; what does not import leaves those that were there."""
    ready = dev.until(lambda line: line["event"] == "ready")
    browser = urllib.request.build_opener(HTTPCookieProcessor())

    def jobs() -> str:
        with browser.open(ready["dashboard"].partition("/enter")[0] + "/jobs", timeout=10) as page:
            return str(page.read().decode())

    browser.open(ready["dashboard"], timeout=10).close()
    assert "greet" in jobs()
    saved = dev.folder / "jobs/greetings.py"
    saved.write_text(JOB.replace("def greet(", "def welcome("))
    dev.until(lambda line: line["event"] == "reloaded")
    assert "welcome" in jobs()
    assert "greet<" not in jobs()
    saved.write_text("import nothing_like_it\n")
    dev.until(lambda line: line["event"] == "not loaded")
    assert "welcome" in jobs()


def test_a_port_that_is_taken_is_reported(dev: Dev, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The message says how to get out of it."""
    ready = dev.until(lambda line: line["event"] == "ready")
    port = ready["environment"]["AWS_ENDPOINT_URL"].rpartition(":")[2]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "jobs").mkdir()
    told = refused(elsewhere, "--port", port)
    assert f"port {port} cannot be used" in told
    assert "--port 0" in told


def test_a_second_one_in_the_same_folder_is_refused_and_the_first_goes_on(dev: Dev, folder: Path) -> None:
    """The first process goes on; what it says and how one dispatches to it are as they were."""
    environment = dev.until(lambda line: line["event"] == "ready")["environment"]
    exports = (folder / ".relayq/dev.env").read_text()
    told = refused(folder, "--port", "0", "--dashboard-port", "0")
    assert f"`relayq dev` is running here already (process {dev.process.pid})" in told
    assert (folder / ".relayq/dev.env").read_text() == exports
    assert client(folder, environment, "Ada") == "completed Hello, Ada!"
    dev.until(lambda line: line["event"] == "completed")


def test_a_process_that_dies_is_reported_with_its_job(tmp_path: Path) -> None:
    """As a warning, with the job's name: what it had begun is the sweeper's to find."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/fatal.py").write_text(
        "import os\n\nfrom relayq_core import job\n\n\n@job(timeout=1)\ndef die() -> None:\n    os._exit(9)\n"
    )
    with closing(Dev(tmp_path, "--no-dashboard")) as running:
        with apply_environ(running.until(lambda line: line["event"] == "ready")["environment"]):
            job_id = RelayQ().dispatch("die").job_id
        warned = running.until(lambda line: line["event"] == "warning")
    assert "ended in the middle of its event" in warned["message"]
    assert (warned["job_name"], warned["job_id"]) == ("die", job_id)


def test_a_line_is_folded_between_words_and_below_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal; in a pipe it is one line."""
    monkeypatch.setenv("COLUMNS", "60")
    text = "word " * 20 + "x" * 50
    assert _fold(text) == text
    monkeypatch.setattr("relayq_core.cli.dev_output.is_fancy", lambda stream: True)
    first, *others, last = _fold(text).split("\n")
    assert set(first.split()) == {"word"}
    assert len(first) <= 38
    assert all(line.startswith(" " * 22 + "word") for line in others)
    assert last == " " * 22 + "x" * 50, "what has no spaces, such as a path, can be selected whole"
    monkeypatch.setenv("COLUMNS", "40")
    assert _fold(text) == text, "there is no room for it"


# --- watching ---


def test_files_that_are_written_made_or_deleted_are_seen_once(tmp_path: Path) -> None:
    """Whatever is no Python is left alone."""
    kept, gone = tmp_path / "kept.py", tmp_path / "gone.py"
    for path in (kept, gone):
        path.write_text("1")
    watcher = FileWatcher([tmp_path])
    assert watcher.list_changes() == []
    kept.write_text("12")
    gone.unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/made.py").write_text("1")
    (tmp_path / "notes.txt").write_text("1")
    assert set(watcher.list_changes()) == {kept, gone, tmp_path / "new/made.py"}
    assert watcher.list_changes() == []


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path) -> None:
    """As Python shows it, on one's own screen."""
    path = tmp_path / "bad.py"
    path.write_text("a = 1\nif a\n")
    assert find_syntax_error(path) == f"{path}:2: expected ':'\n    if a\n        ^"
    path.write_text("a = 1\n")
    assert find_syntax_error(path) is None
    assert find_syntax_error(tmp_path / "gone.py") is None
