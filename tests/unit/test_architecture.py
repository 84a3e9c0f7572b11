"""What the layers alone do not say: where expressions stand, and that the contracts on imports hold."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import relayq_core

CORE = Path(relayq_core.__file__).parent
ROOT = CORE.parent
EXPRESSIONS = frozenset(
    {
        "ConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "FilterExpression",
        "KeyConditionExpression",
        "ProjectionExpression",
        "UpdateExpression",
    }
)


def words_of(source: str) -> Iterator[str]:
    """Every text and every keyword argument of a module; its comments and docstrings may say what they like."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg


def test_every_dynamodb_expression_is_in_one_folder() -> None:
    """How the tables are written can be read there, and nowhere else."""
    homes = {
        str(path.relative_to(CORE).parent)
        for path in CORE.rglob("*.py")
        if EXPRESSIONS.intersection(word for text in words_of(path.read_text()) for word in text.split())
    }
    assert homes == {"adapters/dynamodb"}


def test_nothing_scans_a_table() -> None:
    """A scan costs as much as the table is large. Only the embedded stack does it, to keep its tables in a file."""
    scanning = {
        str(path.relative_to(CORE))
        for path in CORE.rglob("*.py")
        if {"scan", "Scan"} & {word.rpartition(".")[2] for word in names_of(path.read_text())}
    }
    assert scanning <= {"local/aws.py"}


def names_of(source: str) -> Iterator[str]:
    """Every attribute and every text of a module that is one word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_decisions_take_the_time_as_an_argument() -> None:
    """One clock in one place: a test moves it by hand."""
    reading = {"now", "today", "utcnow", "time_ns", "monotonic"}
    called = {
        node.func.attr
        for path in (CORE / "model").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not reading & called


def test_every_module_opens_with_a_line_that_names_its_job() -> None:
    """A newcomer finds the place by reading first lines."""
    silent = [
        str(path.relative_to(CORE)) for path in CORE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_imports_keep_to_the_layers() -> None:
    """The contracts stand in pyproject.toml; `make check` runs the same."""
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_test_is_imported_and_no_conftest() -> None:
    """What several tests need is in tests/support, or in a module of their folder that is no test itself."""
    importing = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in _imported(path)
        if name.startswith("tests.") and any(re.match(r"(test_|conftest$)", part) for part in name.split(".")[1:])
    }
    assert not importing


def test_the_page_on_the_tests_lists_every_folder() -> None:
    """A newcomer finds in tests/README.md where the test of a change belongs."""
    kinds = ("surfaces", "adversity")
    folders = [path for top in ("", *kinds) for path in (ROOT / "tests" / top).iterdir() if path.is_dir()]
    named = set(re.findall(r"^\| `([\w/]+)/` \|", (ROOT / "tests/README.md").read_text(), re.MULTILINE))
    assert named == {
        str(path.relative_to(ROOT / "tests")) for path in folders if path.name not in (*kinds, "__pycache__")
    }
