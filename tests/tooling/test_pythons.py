"""`make pythons`: what counts as a Python to test on, and what is said where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support import pythons

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder, and nothing made, nor pyenv's, nor uv's."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(pythons, "HOME", tmp_path / "made")
    return tmp_path / "bin"


def command(path: Path, text: str) -> Path:
    """An executable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_one_on_the_path_that_works_is_found(path: Path) -> None:
    made = command(path / f"python{HERE}", f'exec "{sys.executable}" "$@"')
    found = pythons.find(HERE)
    assert found is not None
    assert (found.command, found.root) == (str(made), None)


@pytest.mark.parametrize(
    "text",
    [
        "echo 'pyenv: python: command not found' >&2; exit 127",
        "echo 3.99",
        "exit 0",
        f"echo {HERE}; exit 1",
    ],
)
def test_a_shim_that_does_not_work_is_passed_over_for_one_that_does(path: Path, text: str) -> None:
    command(path / f"python{HERE}", text)
    assert pythons.find(HERE) is None
    works = command(path.parent / f"pyenv/versions/{HERE}.9/bin/python{HERE}", f'exec "{sys.executable}" "$@"')
    command(path.parent / f"pyenv/versions/{HERE}.10/bin/python{HERE}", text)
    found = pythons.find(HERE)
    assert found is not None
    assert found.command == str(works)


def test_the_newest_of_pyenvs_comes_first(path: Path) -> None:
    for number in (9, 10):
        command(path.parent / f"pyenv/versions/{HERE}.{number}/bin/python{HERE}", f'exec "{sys.executable}" "$@"')
    found = pythons.find(HERE)
    assert found is not None
    assert f"{HERE}.10" in found.command


def test_where_there_is_none_and_none_can_be_made_it_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["pythons", "ready", "3.13"])
    assert pythons.main() == 3
    assert capsys.readouterr().out == (
        "Python 3.13: not here; there is no python3.13 on the PATH, nor one of pyenv's or uv's, "
        "and only root on Debian can make one.\n"
    )


def test_a_command_inside_of_a_folder_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    *entering, script = pythons._entering(tmp_path / "it's here", ["python", "-c", "print('a  b', \"$HOME\")"])
    assert entering == ["unshare", "--mount", "sh", "-c"]
    assert script.startswith("set -eu\nmount --rbind /dev ")
    assert script.splitlines()[-1].startswith("exec chroot ")
