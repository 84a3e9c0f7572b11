"""What is not installed: a sentence says which extra brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ENVIRON = {"RELAYQ_JOBS_TABLE": "jobs", "RELAYQ_FAILED_TABLE": "failed", "AWS_DEFAULT_REGION": "eu-west-1"}


def _ran(script: str, *, without: tuple[str, ...], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python in which these modules are not there."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({without!r})); sys.argv[1:] = ['demo']\n"
    command = [sys.executable, "-c", hidden + script]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=_ENVIRON)


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_the_command_without_its_extra_is_one_sentence(module: str, tmp_path: Path) -> None:
    """`pip install relayq` installs the command too."""
    ran = _ran("from relayq_core.__main__ import main; sys.exit(main())", without=(module,), cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    assert "pip install 'relayq[cli]'" in ran.stderr


@pytest.mark.parametrize(
    ("script", "module", "extra"),
    [
        ("from relayq_core.testing import on_moto\nwith on_moto(): pass", "moto", "testing"),
        ("import relayq_core.handlers.runner", "aws_lambda_powertools", "lambda"),
        ("import relayq_core.handlers.sweeper", "aws_lambda_powertools", "lambda"),
        ("import relayq_core.handlers.api", "aws_lambda_powertools", "api"),
        ("import relayq_core.dashboard.render", "jinja2", "api"),
        ("from relayq_core.adapters.redis import _create_client\n_create_client('redis://x')", "redis", "redis"),
    ],
)
def test_a_part_without_its_extra_says_which(script: str, module: str, extra: str, tmp_path: Path) -> None:
    """It is an import that failed, or a setting that cannot be used; the last line says what to install."""
    ran = _ran(script, without=(module,), cwd=tmp_path)
    assert ran.returncode == 1
    assert f"pip install 'relayq[{extra}]'" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("module", ["flask", "moto", "werkzeug", "flask_cors"])
def test_a_command_that_needs_another_extra_says_which(module: str, tmp_path: Path) -> None:
    """`relayq demo`, with the command line's own extra alone."""
    ran = _ran("from relayq_core.__main__ import main; sys.exit(main())", without=(module,), cwd=tmp_path)
    assert ran.returncode == 1, ran.stdout
    assert "pip install 'relayq[" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_old_pydantic_is_recognised(tmp_path: Path) -> None:
    """A function's own requirements may bring version 1 in front of the layer's."""
    old = tmp_path / "pydantic"
    old.mkdir()
    (old / "__init__.py").write_text(
        "VERSION = '1.10.2'\nclass BaseModel: ...\nclass ValidationError(Exception): ...\n"
    )
    (tmp_path / "pydantic-1.10.2.dist-info").mkdir()
    (tmp_path / "pydantic-1.10.2.dist-info" / "METADATA").write_text("Name: pydantic\nVersion: 1.10.2\n")
    script = "sys.path.insert(0, '.')\nfrom relayq_core import dispatch\nfrom relayq_core import job"
    ran = _ran(script, without=(), cwd=tmp_path)
    assert "jobs need pydantic 2.10 or newer, and pydantic 1.10.2 is found" in ran.stderr.splitlines()[-1]
    ran = _ran("from relayq_core import job", without=("pydantic",), cwd=tmp_path)
    assert "jobs need pydantic 2.10 or newer" in ran.stderr.splitlines()[-1]


def test_the_package_can_be_run(tmp_path: Path) -> None:
    """The distribution is relayq, the package relayq_core: both names lead to the command."""
    ran = subprocess.run(
        [sys.executable, "-m", "relayq_core", "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0
    assert "relayq demo" in ran.stdout
