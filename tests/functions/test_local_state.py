"""What .relayq/ keeps between two commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE
from relayq_core.local.state import NoState, UnreadableState, delete, exists, kept

ROW = {"pk": {"S": "job#1"}, "due_shard": {"S": "q#1"}, "due_at": {"N": "5"}, "names": {"SS": ["a", "b"]}}


def test_rows_are_there_again_for_the_next_command(tmp_path: Path) -> None:
    """Of both tables, whatever their types, and more than one page of a batch."""
    with kept(tmp_path / "state", begin=True) as (aws, _):
        aws.fill(JOBS_TABLE, [ROW, *({"pk": {"S": f"job#{n}"}} for n in range(2, 60))])
        aws.fill(FAILED_TABLE, [{"id": {"S": "9"}}])
    with kept(tmp_path / "state") as (aws, _):
        rows = {row["pk"]["S"]: row for row in aws.rows(JOBS_TABLE)}
        assert len(rows) == 59
        assert {**rows["job#1"], "names": {"SS": sorted(rows["job#1"]["names"]["SS"])}} == ROW
        assert aws.rows(FAILED_TABLE) == [{"id": {"S": "9"}}]


def test_what_a_failed_command_changed_is_kept_too(tmp_path: Path) -> None:
    """The rows are the truth, also after an error."""

    def fail() -> None:
        with kept(tmp_path, begin=True) as (aws, _):
            aws.fill(JOBS_TABLE, [ROW])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with kept(tmp_path) as (aws, _):
        assert len(aws.rows(JOBS_TABLE)) == 1


def test_a_folder_without_state_is_told_as_such(tmp_path: Path) -> None:
    """In the wrong folder nobody is shown empty tables."""
    with pytest.raises(NoState, match="run `relayq demo` in this folder first"), kept(tmp_path / "nothing"):
        pass
    assert not (tmp_path / "nothing").exists()
    assert not delete(tmp_path)


def test_state_that_cannot_be_read_is_told_and_left_alone(tmp_path: Path) -> None:
    """Neither half a file nor another version's is taken for an empty one."""
    for text in ("{", json.dumps({"version": 99}), json.dumps([])):
        (tmp_path / "state.json").write_text(text)
        with pytest.raises(UnreadableState, match="run `relayq demo` again"), kept(tmp_path):
            pass
        assert (tmp_path / "state.json").read_text() == text


def test_the_folder_keeps_itself_out_of_version_control(tmp_path: Path) -> None:
    """Nobody commits a demo by mistake."""
    with kept(tmp_path / "state", begin=True):
        pass
    assert (tmp_path / "state" / ".gitignore").read_text() == "*\n"
    assert exists(tmp_path / "state")
    assert delete(tmp_path / "state")
    assert not exists(tmp_path / "state")
