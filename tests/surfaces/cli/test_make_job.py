"""`relayq make-job`: what it writes passes as it stands, wherever it is written; and it overwrites nothing."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from relayq_core.cli.main import main
from relayq_core.cli.project_layout import list_code_folders
from relayq_core.cli.scaffold import find_layout, parse_names, render_files
from relayq_core.errors import InvalidOption
from relayq_core.local.environ import isolate
from relayq_core.testing import isolated_registry
from tests.support.clone import copy_functions
from tests.support.paths import ROOT
from tests.surfaces.cli.dev_process import Dev

TOOLS = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make an empty folder the current one; the jobs that a command imports from it are forgotten with it."""
    for name in list(os.environ):
        if name.startswith(("RELAYQ_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "jobs"}
    with isolated_registry():
        yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "jobs"]:
        del sys.modules[name]
    sys.modules.update(kept)


def in_repository(folder: Path) -> None:
    """As much of RelayQ's own repository as its checks look at."""
    copy_functions(folder)
    (folder / "tests/functions").mkdir(parents=True)
    shutil.copy(ROOT / "tests/functions/conftest.py", folder / "tests/functions/conftest.py")
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
    (folder / "relayq_core").symlink_to(ROOT / "relayq_core")


def in_own_jobs(folder: Path) -> None:
    """A repository as examples/own-jobs is."""
    shutil.copytree(ROOT / "examples/own-jobs", folder, dirs_exist_ok=True)


def in_nothing(folder: Path) -> None:
    """A folder where a newcomer begins."""


def run(folder: Path, *command: str, path: Sequence[str] = ()) -> None:
    """A tool of this environment, which must be content."""
    environ = {**isolate({}, os.environ), "MYPYPATH": os.pathsep.join(path)}
    environ.pop("CI", None)
    done = subprocess.run(
        [TOOLS / command[0], *command[1:]], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("begin", "jobs", "tests"),
    [
        (in_repository, "functions/runner/jobs", "tests/functions"),
        (in_own_jobs, "src/jobs", "tests"),
        (in_nothing, "src/jobs", "tests"),
    ],
)
def test_what_it_writes_passes_as_it_stands(folder: Path, begin: object, jobs: str, tests: str) -> None:
    """Class and function: lint, format, strict types and the tests themselves, in all three layouts."""
    begin(folder)  # type: ignore[operator]
    run(folder, "relayq", "make-job", "SendInvoice", "--queue", "billing")
    run(folder, "relayq", "make-job", "send_reminder")
    written = [f"{jobs}/send_invoice.py", f"{tests}/test_send_invoice.py", f"{tests}/test_send_reminder.py"]
    assert all((folder / path).exists() for path in written)
    assert json.loads((folder / "events/dispatch_send_invoice.json").read_text()) == {
        "name": "SendInvoice",
        "args": {"name": "Ada"},
        "queue": "billing",
    }
    config = ["--config", str(ROOT / "pyproject.toml")]
    run(folder, "ruff", "check", "--no-cache", *config, jobs, tests)
    run(folder, "ruff", "format", "--no-cache", "--check", *config, jobs, tests)
    mypy = ["mypy", "--strict", "--explicit-package-bases", "--cache-dir", os.devnull, "--config-file", os.devnull]
    run(folder, *mypy, *written, path=[str(Path(jobs).parent)])
    run(folder, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", tests)
    for name in ("SendInvoice", "send_reminder"):
        run(folder, "relayq", "registry", name)


@pytest.mark.parametrize(("begin", "jobs"), [(in_repository, "functions/runner/jobs"), (in_own_jobs, "src/jobs")])
def test_relayq_dev_runs_the_jobs_from_where_it_writes_them(folder: Path, begin: object, jobs: str) -> None:
    """The code is there, and what is saved there is live."""
    begin(folder)  # type: ignore[operator]
    run(folder, "relayq", "make-job", "SendInvoice")
    dev = Dev(folder, "--no-dashboard")
    try:
        dev.until(lambda line: line["event"] == "ready")
        with (folder / jobs / "send_invoice.py").open("a") as file:
            file.write("# changed\n")
        dev.until(lambda line: line["event"] == "reloaded")
        dev.end()
    finally:
        dev.close()


@pytest.mark.parametrize(
    ("there", "first"),
    [
        ([], "."),
        (["jobs"], "."),
        (["src/jobs", "jobs"], "src"),
        (["src"], "src"),
        (["functions/runner/jobs", "src/jobs"], "functions/runner"),
    ],
)
def test_jobs_are_looked_for_first_where_they_would_be_written(tmp_path: Path, there: list[str], first: str) -> None:
    """Where there are two folders of jobs, it is one and the same of them; the root always counts."""
    for made in there:
        (tmp_path / made).mkdir(parents=True)
    found = list_code_folders(tmp_path)
    assert found[0] == tmp_path / first
    assert tmp_path in found
    assert found[0] / "jobs" == tmp_path / find_layout(tmp_path).jobs or not there or there == ["src"]


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If one of the files is there, none is written."""
    (folder / "tests").mkdir()
    (folder / "tests/test_send_invoice.py").write_text("# mine\n")
    assert main(["make-job", "SendInvoice"]) == 1
    assert "tests/test_send_invoice.py exists already" in capsys.readouterr().err
    assert not (folder / "jobs").exists()
    assert (folder / "tests/test_send_invoice.py").read_text() == "# mine\n"


def test_a_name_that_is_taken_is_reported_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs of one name would fail the runner's start."""
    (folder / "taken_jobs").mkdir()
    (folder / "taken_jobs/__init__.py").touch()
    (folder / "taken_jobs/other.py").write_text(
        "from relayq_core import job\n\n\n@job(name='make_job_taken')\ndef greet() -> None: ...\n"
    )
    monkeypatch.setenv("RELAYQ_JOB_MODULES", "taken_jobs")
    with isolated_registry():
        assert main(["make-job", "make_job_taken"]) == 1
    for module in ("taken_jobs", "taken_jobs.other"):
        sys.modules.pop(module, None)
    told = capsys.readouterr().err
    assert "there is a job 'make_job_taken' already" in told
    assert "other.py" in told


@pytest.mark.parametrize(
    "name", ["", "a b", "class", "Class", "lambda", "1st", "Send_It", "ümlaut", "../x", "a-b", "_a", "conftest"]
)
def test_a_name_that_cannot_be_one_is_a_usage_error(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence; nothing is written."""
    assert main(["make-job", "--", name]) == 2
    assert "error: Invalid value: " in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "module"),
    [("SendInvoice", "send_invoice"), ("SendHTTPRequest", "send_http_request"), ("X", "x"), ("send_2", "send_2")],
)
def test_the_files_name_is_made_of_the_jobs(text: str, module: str) -> None:
    """As one would write it by hand."""
    assert parse_names(text).module == module


@pytest.mark.parametrize("begin", [in_nothing, in_own_jobs, in_repository])
def test_no_job_takes_a_name_that_its_own_files_call_by(
    folder: Path, begin: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """`json` would hide the module that its test reads the event with, and the test would fail as it stands."""
    begin(folder)  # type: ignore[operator]
    texts = [text for name in ("A", "a") for text in render_files(parse_names(name), "q", find_layout(folder)).values()]
    called = {name for text in texts if not text.startswith("{") for name in _names_in(text)}
    assert {"json", "Path", "Status", "dispatch", "Kit", "Job", "job", "job_id", "EVENT", "relayq_inline"} <= called
    # a name of these is of the job's own making, or Python's syntax; the rest cannot be a job
    own = {"A", "a", "self", "context", "name", "error", "sys", "__file__"}
    for name in sorted(called - own):
        if not name.startswith("test_"):
            assert main(["make-job", name]) == 2, name
            assert "the job's files use the name" in capsys.readouterr().err


def _names_in(text: str) -> set[str]:
    """Every name that a module imports, assigns, takes as a parameter, or reads."""
    tree = list(ast.walk(ast.parse(text)))
    return (
        {
            alias.asname or alias.name
            for node in tree
            if isinstance(node, ast.ImportFrom | ast.Import)
            for alias in node.names
        }
        | {node.id for node in tree if isinstance(node, ast.Name)}
        | {node.arg for node in tree if isinstance(node, ast.arg)}
    )


def test_a_name_that_is_too_long_for_a_file_is_refused_as_such(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is not the system's own."""
    assert main(["make-job", "a" * 300]) == 2
    assert "choose a name of at most 100 letters" in capsys.readouterr().err
    assert main(["make-job", "a" * 100]) == 0


def test_the_conftest_it_writes_says_no_more_than_it_needs(folder: Path) -> None:
    """The jobs are beside the tests: then the root alone is their folder."""
    (folder / "jobs").mkdir()
    assert main(["make-job", "send_reminder"]) == 0
    assert "sys.path.insert(0, str(Path(__file__).parents[1]))" in (folder / "tests/conftest.py").read_text()


def test_next_steps_are_shown_in_the_order_to_do_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the lines of `relayq dev` a dispatch leads to AWS, or nowhere."""
    assert main(["make-job", "send_reminder"]) == 0
    told = capsys.readouterr().out
    assert told.index("relayq dev ") < told.index(". .relayq/dev.env") < told.index("relayq dispatch send_reminder")


def test_a_name_of_pythons_own_is_refused_as_one() -> None:
    """`class` cannot be a function's name."""
    with pytest.raises(InvalidOption, match="Python keyword"):
        parse_names("class")
