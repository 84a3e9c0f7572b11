"""Every fenced block of README.md and docs/ is executed: here, or by another test that is named."""

import ast
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from relayq_core.local.environ import isolate
from relayq_core.model import lifecycle
from tests.support import clone
from tests.support.paths import ROOT
from tests.surfaces.docs.blocks import DEPLOYED, ELSEWHERE, PAGES, Block, Way, blocks, normalised, printed_after
from tests.surfaces.docs.reader import Reader
from tests.surfaces.template import translate

ALL = [block for page in PAGES for block in blocks(page)]


def _name(thing: Block | Path) -> str:
    return thing.where if isinstance(thing, Block) else str(thing.relative_to(ROOT))


def _of(way: Way) -> list[Block]:
    return [block for block in ALL if block.way is way]


# ---------------------------------------------------------------- executed here


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    """Its files, its Python and its commands, in their order; and what it shows is what is printed."""
    if any(block.way in {Way.PYTHON, Way.SHELL} for block in blocks(page)):
        with Reader(tmp_path) as reader:
            for block in blocks(page):
                reader.execute(block)


def test_the_demo_looks_as_the_readme_shows(tmp_path: Path) -> None:
    """In a terminal, at its end; what the README leaves out after … are the commands with the ids of that run."""
    page = ROOT / "README.md"
    (shown,) = (output for block, output in printed_after(page).items() if block.commands == ["make demo"])
    lines = _whatever_the_tries(shown.text)
    assert lines.pop() == "…"
    printed = in_a_terminal([str(Path(sys.prefix) / "bin/relayq"), "demo"], tmp_path)
    assert _whatever_the_tries(printed)[: len(lines)] == lines


def _whatever_the_tries(output: str) -> list[str]:
    """A busy machine may take one try more to come to the same end."""
    return [re.sub(r"\b\d+/(?=\d+\b)", "", line) for line in normalised(output)]


def in_a_terminal(command: list[str], folder: Path) -> str:
    """The last screen of a command that redraws itself."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    environ = isolate({"TERM": "xterm", "COLUMNS": "100"}, os.environ)
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # Linux ends it with an error, once the other side is closed
            while piece := os.read(ours, 65536):
                written += piece
    os.close(ours)
    assert process.returncode == 0, written.decode()
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", without_colours)
    return plain[plain.rindex("RelayQ demo") :]


@pytest.mark.parametrize("block", _of(Way.FILE), ids=_name)
def test_a_file_that_is_shown_can_be_read(block: Block) -> None:
    """Also where nothing on its page runs it."""
    if str(block.file).endswith(".py"):
        compile(block.text, block.where, "exec")


@pytest.mark.parametrize("block", _of(Way.TEMPLATE), ids=_name)
def test_yaml_is_quoted_from_a_template_of_this_repository(block: Block) -> None:
    """Those are linted, translated and deployed; a quote is theirs line by line, indented as it likes."""
    quoted = [line.strip() for line in block.text.splitlines() if line.strip()]
    for template in translate.TEMPLATES:
        lines = [line.strip() for line in template.read_text().splitlines() if line.strip()]
        starts = (place for place, line in enumerate(lines) if line == quoted[0])
        if any(lines[start : start + len(quoted)] == quoted for start in starts):
            return
    pytest.fail(f"{block.where} is in none of {', '.join(map(_name, translate.TEMPLATES))}")


@pytest.mark.parametrize("block", _of(Way.STATEMENT), ids=_name)
def test_a_statement_of_a_policy_grants_what_the_template_does(block: Block) -> None:
    """The page grants no action beside."""
    statement = json.loads(block.text)
    assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
    assert statement["Action"] in (ROOT / "template.yaml").read_text()


@pytest.mark.parametrize("block", _of(Way.CONTAINER), ids=_name)
def test_a_container_runs_a_command_that_there_is(block: Block) -> None:
    """No container engine is asked for it: its command is given to the command line, with --help behind it."""
    words = dict(line.split(maxsplit=1) for line in block.text.splitlines())
    assert set(words) == {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
    relayq, *command = json.loads(words["CMD"])
    assert relayq == "relayq"
    told = subprocess.run(
        [sys.executable, "-m", "relayq_core.cli", *command, "--help"], capture_output=True, text=True, check=True
    )
    assert "relayq work" in told.stdout
    variables = re.findall(r"RELAYQ_\w+", words["ENV"])
    reference = (ROOT / "docs/reference/environment.md").read_text()
    assert all(f"`{variable}`" in reference for variable in variables)


def test_the_drawing_of_the_states_is_the_table_of_transitions() -> None:
    """Every arrow of the drawing, and no other, is a transition of the code."""
    (drawing,) = (block for block in _of(Way.DRAWING) if block.text.startswith("stateDiagram"))
    drawn = re.findall(r"^ +(\S+) --> (\S+): (.+)$", drawing.text, re.MULTILINE)
    assert len(drawn) == len(drawing.text.splitlines()) - 1
    coded = {(str(status), str(after), str(event)) for (status, event), after in lifecycle.TRANSITIONS.items()}
    assert set(drawn) == coded | {("[*]", "pending", "dispatch")}


def test_the_drawing_of_the_parts_names_what_the_template_makes() -> None:
    """Whatever stands there in capitals is a resource, so that one finds it in the template."""
    (drawing,) = (block for block in _of(Way.DRAWING) if block.text.startswith("flowchart"))
    arrow = re.compile(r' +(\w+)(\[.+?\])? -->(\|".+?"\|)? (\w+)(\[.+?\])?')
    arrows = [arrow.fullmatch(line) for line in drawing.text.splitlines()[1:]]
    assert all(arrows), [line for line, found in zip(drawing.text.splitlines()[1:], arrows, strict=True) if not found]
    named = {name for found in arrows if found for name in (found[1], found[4]) if name[0].isupper()}
    assert named <= set(translate.read()["Resources"])
    assert {"JobsTable", "FailedJobsTable", "RunnerFunction", "SweeperFunction"} <= named


def test_a_page_meets_no_job_that_was_added_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who has made a SendInvoice of their own may run the tests of the page that makes one."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(ROOT / "functions", here / "functions")
    shutil.copytree(ROOT / "events", here / "events")
    (here / "functions/runner/jobs/added.py").touch()
    (here / "functions/runner/jobs/more").mkdir()
    (here / "events/dispatch_added.json").touch()
    monkeypatch.setattr(clone, "ROOT", here)
    clone.copy_functions(there)
    clone.copy_events(there)
    assert {path.name for path in (there / "functions/runner/jobs").iterdir()} == clone.JOBS
    assert {path.parent.name for path in (there / "functions").glob("*/app.py")} == {"api", "runner", "sweeper"}
    assert (there / "events/api_dispatch.json").exists()
    assert not (there / "events/dispatch_added.json").exists()


# ---------------------------------------------------------------- executed elsewhere


@pytest.mark.parametrize("block", _of(Way.DEPLOYED), ids=_name)
def test_a_block_that_wants_a_stack_is_run_by_an_end_to_end_test(block: Block) -> None:
    """The test is named in a table, is there, and is collected by `make e2e`."""
    test = DEPLOYED[str(block.page.relative_to(ROOT))]
    path, _, function = test.partition("::")
    source = (ROOT / path).read_text()
    assert "pytest.mark.e2e" in source
    assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def test_every_page_that_is_named_is_there() -> None:
    """The tables hold nothing that is not there any more."""
    assert set(DEPLOYED) == {str(block.page.relative_to(ROOT)) for block in _of(Way.DEPLOYED)}
    assert set(ELSEWHERE) == {command for block in _of(Way.ELSEWHERE) for command in block.commands}


@pytest.mark.parametrize("command", ELSEWHERE)
def test_a_suite_that_the_pages_name_is_run_by_something_else(command: str) -> None:
    """`make demo` by a test, `make test` by CI, the lines of a second terminal by a test of the README."""
    target = command.removeprefix("make ")
    if target == command:
        assert "README.md" in (ROOT / ELSEWHERE[command]).read_text()
        return
    assert target in (ROOT / ELSEWHERE[command]).read_text()
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


# ---------------------------------------------------------------- and no other


@pytest.mark.parametrize("block", ALL, ids=_name)
def test_no_block_is_without_a_way_of_being_executed(block: Block) -> None:
    """A new kind of block needs a new way, not a place to hide."""
    assert block.way is not None, f"{block.where}: nothing executes a {block.language or 'nameless'} block like this"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_what_a_page_shows_is_printed_by_the_block_before_it(page: Path) -> None:
    """Output that no block prints could say anything."""
    for block in printed_after(page):
        assert block.way in {Way.PYTHON, Way.SHELL, Way.DEPLOYED, Way.ELSEWHERE}, block.where


def test_the_harness_sees_a_wrong_output(tmp_path: Path) -> None:
    """A page that shows something else than what is printed fails; so does one whose code fails."""
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('one')\n```\n\n```text\ntwo\n```\n\n```python\nraise ValueError('three')\n```\n")
    wrong, _, broken = blocks(page)
    with Reader(tmp_path / "project") as reader:
        with pytest.raises(AssertionError, match="does not show"):
            reader.execute(wrong)
        with pytest.raises(AssertionError, match="three"):
            reader.execute(broken)


def test_a_block_in_a_language_of_its_own_has_no_way(tmp_path: Path) -> None:
    """A command that is not ours, or a fence that is never closed, has none either."""
    page = tmp_path / "page.md"
    page.write_text("```ruby\nputs 1\n```\n```sh\nls\n```\n```\nwhat\n```\n")
    assert [block.way for block in blocks(page)] == [None, None, None]
    page.write_text("```python\n1\n")
    with pytest.raises(AssertionError, match="never closed"):
        blocks(page)
