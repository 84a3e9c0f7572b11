"""The demo: its story comes true, everything it prints works, and it says so when the story does not come true."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from relayq_core.cli.demo import get_program
from relayq_core.local.environ import isolate
from tests.support.paths import ROOT


@dataclass(frozen=True)
class Stranger:
    """A newcomer with a terminal, whose shell leads to some AWS account."""

    #: what Python has compiled is kept for the next command, as it is where pip installed it
    cache: Path

    def runs(self, command: Sequence[str], folder: Path, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run a command there; RelayQ is on Python's path."""
        account = {"AWS_PROFILE": "production", "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1"}
        python = {"PYTHONPATH": str(path), "PYTHONPYCACHEPREFIX": str(self.cache), "PYTHONDONTWRITEBYTECODE": ""}
        environ = {**isolate(account, os.environ), **python}
        return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)

    def plays(self, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
        """Play the demo there."""
        python = [sys.executable, "-W", "error::ResourceWarning"]
        return self.runs([*python, "-m", "relayq_core.cli", "demo", *argv], folder)


@dataclass(frozen=True)
class Played:
    """A demo that has been played, and the folder it was played in."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def commands(self) -> list[str]:
        """The commands it suggests, as they are printed."""
        _, _, after = self.done.stdout.partition("Try next:")
        return [line.strip() for line in after.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """A newcomer who tries RelayQ for the first time."""
    return Stranger(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def played(stranger: Stranger, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demo, played without a terminal in an empty folder."""
    folder = tmp_path_factory.mktemp("demo")
    return Played(folder, stranger.plays(folder))


def test_the_story_comes_true(played: Played) -> None:
    """Exit code 0, and nothing to complain about."""
    assert played.done.returncode == 0, played.done.stdout + played.done.stderr
    assert played.done.stderr == ""
    assert "Every promise was kept" in played.done.stdout
    assert "4 jobs completed, 1 failed, 1 refused as a duplicate" in played.done.stdout


def test_without_a_terminal_the_story_is_printed_line_by_line(played: Played) -> None:
    """Plain text: no colours, no boxes; each chapter can be followed."""
    out = played.done.stdout
    assert "\x1b" not in out
    assert not re.search("[\u2500-\u257f]", out)
    for line in (
        r"a plain job +completed +1/3  'Hello, Ada!'",
        r"a delayed job +completed +1/3  'Tea is ready'",
        r"a duplicate +duplicate +refused",
        r"a flaky webhook +completed +3/5  503, 503, 200",
        r"a killed runner +processing +\d/3  runner \d+ killed",
        r"a killed runner +completed +\d/3  its runner was killed, the sweeper saved it",
        r"a poison job +failed +3/3  failed table: no printer in the cloud",
    ):
        assert re.search(rf"^ +\d+\.\d s  {line}", out, re.MULTILINE), line


def test_every_command_it_prints_works_after_it_has_exited(stranger: Stranger, played: Played) -> None:
    """In the order they are printed: look, find out why, bring back, run here, look again."""
    assert [command.partition("--local ")[2].split()[0] for command in played.commands] == [
        *("failed", "failed", "failed", "run", "status")
    ]
    said = {}
    for command in played.commands:
        done = stranger.runs(["sh", "-c", command], played.folder)
        assert (done.returncode, done.stderr) == (0, ""), f"{command}\n{done.stdout}{done.stderr}"
        said[" ".join(shlex.split(command.partition("--local ")[2])[:2])] = done.stdout
    assert "demo.label" in said["failed list"]
    assert "NoPrinter: no printer in the cloud" in said["failed show"]
    assert "is pending again" in said["failed redrive"]
    assert "| fragile |" in said["run --id"]
    assert 'completed: "printed"' in said["run --id"]
    killed = next(text for key, text in said.items() if key.startswith("status"))
    assert re.search(r"JobCrashed: the runner of attempt \d ended without settling", killed)


def test_a_story_that_does_not_come_true_exits_1(stranger: Stranger, tmp_path: Path) -> None:
    """Without the sweeper the killed runner's job is not found; the tables say so, and so does the demo."""
    done = stranger.plays(tmp_path, "--no-sweeper", "--patience", "4s", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["came_true"] is False
    broken = [check["promise"] for check in told["checks"] if not check["kept"]]
    assert "a job whose runner was killed is found by the sweeper, and completes" in broken
    assert {line["key"]: line["status"] for line in told["lines"]}["killed"] != "completed"
    assert all("--local" in hint["command"] for hint in told["next"])


@pytest.mark.parametrize(
    ("called", "folder", "printed"),
    [
        ("{home}/.venv/bin/relayq", "{home}", ".venv/bin/relayq"),
        ("{home}/.venv/bin/relayq", "{home}/else where", "'{home}/.venv/bin/relayq'"),
        ("{home}/on path/relayq", "{home}", "relayq"),
    ],
)
def test_commands_are_printed_as_this_program_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, folder: str, printed: str
) -> None:
    """`make demo` puts nothing on the PATH, and a path with a space has to be quoted."""
    home = tmp_path / "my home"
    for name in (".venv/bin", "on path"):
        (home / name).mkdir(parents=True)
        (home / name / "relayq").touch(mode=0o755)
    (home / "else where").mkdir()
    monkeypatch.setenv("PATH", str(home / "on path"))
    monkeypatch.setattr(sys, "argv", [called.format(home=home)])
    monkeypatch.chdir(folder.format(home=home))
    assert get_program() == printed.format(home=home)


def test_an_installed_relayq_brings_the_demos_webhook(stranger: Stranger, tmp_path: Path) -> None:
    """Outside of the repository the jobs are where the wheel puts them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for source, target in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items():
        shutil.copytree(ROOT / source, tmp_path / target)
    shutil.copytree(ROOT / "relayq_core", tmp_path / "relayq_core", dirs_exist_ok=True)
    code = "from relayq_core.local.stack import find_shipped_jobs as found; print(found() / 'jobs' / 'webhook.py')"
    done = stranger.runs([sys.executable, "-P", "-c", code], tmp_path, path=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
    assert Path(done.stdout.strip()).is_file()
