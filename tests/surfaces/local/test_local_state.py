"""What .relayq/ keeps between two commands."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE
from relayq_core.local.environ import isolate
from relayq_core.local.state import NoState, UnreadableState, delete, exists, hold_file, open_state
from tests.support.paths import ROOT

ROW = {"pk": {"S": "job#1"}, "due_shard": {"S": "q#1"}, "due_at": {"N": "5"}, "names": {"SS": ["a", "b"]}}


def test_rows_are_there_again_for_the_next_command(tmp_path: Path) -> None:
    """Of both tables, whatever their types, and more than one page of a batch."""
    with open_state(tmp_path / "state", begin=True) as (aws, _):
        aws.fill(JOBS_TABLE, [ROW, *({"pk": {"S": f"job#{n}"}} for n in range(2, 60))])
        aws.fill(FAILED_TABLE, [{"id": {"S": "9"}}])
    with open_state(tmp_path / "state") as (aws, _):
        rows = {row["pk"]["S"]: row for row in aws.read_rows(JOBS_TABLE)}
        assert len(rows) == 59
        assert {**rows["job#1"], "names": {"SS": sorted(rows["job#1"]["names"]["SS"])}} == ROW
        assert aws.read_rows(FAILED_TABLE) == [{"id": {"S": "9"}}]


def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Rows hold payloads. Also in a folder that was made before, and whatever the umask says."""
    folder = tmp_path / ".relayq"
    folder.mkdir(mode=0o755)
    (folder / "state.json").write_text('{"version": 1, "environ": {}, "tables": {}}')
    former = os.umask(0)
    try:
        with open_state(folder), hold_file(folder, "dev.lock", "a command"):
            pass
    finally:
        os.umask(former)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert {"state.json", "dev.lock", "lock", ".gitignore"} <= modes.keys()


def test_what_a_failed_command_changed_is_kept_too(tmp_path: Path) -> None:
    """The rows are the truth, also after an error."""

    def fail() -> None:
        with open_state(tmp_path, begin=True) as (aws, _):
            aws.fill(JOBS_TABLE, [ROW])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with open_state(tmp_path) as (aws, _):
        assert len(aws.read_rows(JOBS_TABLE)) == 1


def test_a_folder_without_state_is_reported_as_such(tmp_path: Path) -> None:
    """In the wrong folder a command does not show empty tables."""
    with pytest.raises(NoState, match="run `relayq demo` in this folder first"), open_state(tmp_path / "nothing"):
        pass
    assert not (tmp_path / "nothing").exists()
    assert not delete(tmp_path)


def test_state_that_cannot_be_read_is_reported_and_left_alone(tmp_path: Path) -> None:
    """Half a file, or another version's, is not taken for an empty one."""
    for text in ("{", json.dumps({"version": 99}), json.dumps([])):
        (tmp_path / "state.json").write_text(text)
        with pytest.raises(UnreadableState, match="run `relayq demo` again"), open_state(tmp_path):
            pass
        assert (tmp_path / "state.json").read_text() == text


def test_the_folder_keeps_itself_out_of_version_control(tmp_path: Path) -> None:
    """A demo is not committed by mistake."""
    with open_state(tmp_path / "state", begin=True):
        pass
    assert (tmp_path / "state" / ".gitignore").read_text() == "*\n"
    assert exists(tmp_path / "state")
    assert delete(tmp_path / "state")
    assert not exists(tmp_path / "state")


#: Two commands, by a RelayQ that was installed from a clone whose folder of jobs is the first argument.
_COMMANDS = """
import sys
from pathlib import Path
from relayq_core.cli.main import main
from relayq_core.local import stack
stack.shipped_jobs = lambda: Path(sys.argv[1])
sys.exit(main(["--local", "tables", "create"]) or main(["--local", "registry"]))
"""


@pytest.mark.parametrize("own", [False, True])
def test_a_folder_knows_its_own_jobs_or_those_that_relayq_comes_with(tmp_path: Path, own: bool) -> None:
    """The jobs that were added to the clone RelayQ was installed from are never among them."""
    clone, here = tmp_path / "clone", tmp_path / "here"
    shutil.copytree(ROOT / "functions/runner/jobs", clone / "jobs")
    (clone / "jobs/added.py").write_text("from relayq_core import job\n\n\n@job\ndef added() -> None: ...\n")
    (here / "jobs" if own else here).mkdir(parents=True)
    if own:
        (here / "jobs/mine.py").write_text("from relayq_core import job\n\n\n@job\ndef mine() -> None: ...\n")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _COMMANDS, str(clone)],
        cwd=here,
        env=isolate({"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}, os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = {line.split()[0] for line in ran.stdout.splitlines()[2:]}
    assert found == ({"mine"} if own else {"post_webhook", "send_email", "send_templated_email"})
