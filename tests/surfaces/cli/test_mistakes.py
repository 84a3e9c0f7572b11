"""What a newcomer's shell and folders do to `relayq dev` and --local, and what each of them is answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relayq_core.cli.main import main
from relayq_core.local.environ import isolate
from relayq_core.local.state import open_state
from tests.support.clone import copy_functions
from tests.support.paths import ROOT
from tests.surfaces.cli.dev_process import CLIENT, JOB, Dev
from tests.surfaces.docs.blocks import Way, blocks

SHELLS = [shell for shell in ("sh", "bash", "zsh") if shutil.which(shell)]
#: What a shell may hold of AWS and of another RelayQ; each would lead a dispatch elsewhere, or fail it.
LEFTOVERS = {
    "AWS_PROFILE": "mycompany",
    "AWS_DEFAULT_PROFILE": "mycompany",
    "AWS_SESSION_TOKEN": "of-somebody",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "RELAYQ_HANDOFF": "none",
    "RELAYQ_RUNNER_FUNCTIONS": '{"greetings": "of-another-stack"}',
    "RELAYQ_REDIS_URL": "redis://127.0.0.1:9/0",
    "RELAYQ_EVENT_BUS": "of-another-stack",
}


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """`relayq dev` with a job."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/greetings.py").write_text(JOB)
    with closing(Dev(tmp_path, "--no-dashboard")) as running:
        running.until(lambda line: line["event"] == "ready")
        yield running


def in_shell(shell: str, line: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shell, "-eu", "-c", line],
        cwd=folder,
        env=isolate(environ, os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_whatever_a_shell_knows_of_aws_its_dispatches_go_to_the_dev_it_was_pointed_at(dev: Dev, shell: str) -> None:
    (dev.folder / "client.py").write_text(CLIENT)
    for leftovers in (LEFTOVERS, {}):
        done = in_shell(shell, f". .relayq/dev.env; {sys.executable} client.py Ada", dev.folder, **leftovers)
        assert (done.stdout, done.returncode) == ("completed Hello, Ada!\n", 0), done.stderr


def test_a_profile_that_comes_after_it_is_reported_with_what_hides_it(dev: Dev) -> None:
    """The profile exists, and `aws configure list-profiles` would not help."""
    command = f". .relayq/dev.env; AWS_PROFILE=mycompany {sys.executable} -m relayq_core.cli list"
    for client in (command, f"{command.partition(' -m')[0]} -c 'import relayq_core; relayq_core.get(\"x\")'"):
        told = in_shell("sh", client, dev.folder).stderr
        assert "while AWS_CONFIG_FILE is /dev/null, as `relayq dev` sets it: unset AWS_PROFILE" in told
        assert "list-profiles" not in told


def test_a_folder_that_is_deleted_beneath_it_is_said_once_and_at_its_end(dev: Dev) -> None:
    shutil.rmtree(dev.folder / ".relayq")
    warned = dev.until(lambda line: line["event"] == "warning")
    assert "was deleted: jobs still run, but their ends can no longer be shown" in warned["problem"]
    assert dev.end() == ""
    assert [line["event"] for line in dev.told].count("warning") == 1


def test_the_readmes_dispatches_can_be_followed_from_the_readme_alone(tmp_path: Path) -> None:
    """Its files, `relayq dev` in one terminal, and its lines in another."""
    copy_functions(tmp_path)
    shown = blocks(ROOT / "README.md")
    for block in shown:
        if block.file is not None and "/jobs/" in block.file:
            (tmp_path / block.file).write_text(block.text)
    (second,) = (block for block in shown if ". .relayq/dev.env" in block.commands)
    entering = [line for line in second.commands if not line.endswith("activate")]
    with closing(Dev(tmp_path, "--no-dashboard")) as running:
        running.until(lambda line: line["event"] == "ready")
        pages = [block for block in shown if block.way is Way.PYTHON]
        assert len(pages) >= 2
        for number, block in enumerate(pages):
            (tmp_path / f"prompt{number}.py").write_text(block.text)
            lines = "; ".join(f"{line} prompt{number}.py" if line == "python" else line for line in entering)
            environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = in_shell("sh", lines, tmp_path, **environ)
            assert done.returncode == 0, done.stderr
    assert done.stdout == "completed Hello, Ada!\n"


def test_a_command_that_waits_for_the_local_tables_says_for_whom(tmp_path: Path) -> None:
    with open_state(tmp_path / ".relayq", begin=True):
        """Something is kept."""
    with open_state(tmp_path / ".relayq"):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "relayq_core.cli", "--local", "failed", "list"],
            cwd=tmp_path,
            env=isolate({}, os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        assert line.startswith(
            f"waiting: process {os.getpid()} is using the tables in .relayq; this continues when it ends"
        )
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, err) == (0, "")
    assert "no job has failed" in out


def test_health_on_this_machine_names_no_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is none between two commands."""
    monkeypatch.chdir(tmp_path)
    assert main(["--local", "tables", "create"]) == 0
    assert main(["--local", "health"]) == 1
    assert "the sweeper has not run yet: on this machine only `relayq --local sweep` runs it" in capsys.readouterr().out
    assert main(["--local", "sweep"]) == 0
    assert main(["--local", "health"]) == 0


@pytest.mark.parametrize("there", [False, True])
def test_a_registry_without_jobs_names_the_command_that_writes_one(
    tmp_path: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the package is missing or empty."""
    if there:
        (tmp_path / "jobs").mkdir()
    done = in_shell("sh", f"{sys.executable} -m relayq_core.cli registry", tmp_path)
    assert "relayq make-job hello" in done.stdout + done.stderr


def test_a_setting_that_is_missing_on_ones_machine_is_reported_with_relayq_dev(tmp_path: Path) -> None:
    """By Python as by the command line; but not in a Lambda, where there is none."""
    line = f"{sys.executable} -c 'import relayq_core; relayq_core.get(\"x\")'"
    assert (
        "or `. .relayq/dev.env` in this shell while `relayq dev` runs in another"
        in in_shell("sh", line, tmp_path).stderr
    )
    assert "relayq dev" not in in_shell("sh", line, tmp_path, AWS_LAMBDA_FUNCTION_NAME="f").stderr
