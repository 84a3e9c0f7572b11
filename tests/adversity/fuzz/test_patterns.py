"""Every regular expression of RelayQ and its ready jobs, on texts that a careless one splits in every way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

#: What takes the square of this is not done within pytest's limit, since each filler is tried.
LENGTH = 30_000
_METHODS = frozenset({"match", "fullmatch", "search", "sub", "subn", "findall", "finditer", "split"})
FILLERS = [
    *(
        " ",
        "a",
        "A",
        "0",
        "-",
        '"',
        "'",
        "\\",
        ".",
        "=",
        ",",
        "<",
        ">",
        "/",
        ":",
        "_",
        "\t",
        "\n",
        "@",
        "\u00e9",
        "(",
        "[",
    ),
    *(
        "a.",
        "a-",
        "0.",
        "a@",
        "a1 ",
        "a:",
        "a=",
        '\\"',
        "(a",
        "pin=",
        "a://",
        "a:/",
        "basic ",
        "--a",
        "--token ",
        "-----BEGIN ",
    ),
    *("http://", "a b", "1h", "eyJ.", "Root=1;", "q#0"),
]


class Found:
    """A pattern, where it stands, and how it is used there."""

    def __init__(self, place: str, pattern: re.Pattern[str] | re.Pattern[bytes], methods: set[str]) -> None:
        self.place = place
        self.pattern = pattern
        self.methods = methods


def patterns() -> Iterator[Found]:
    """Those that a module keeps under a name, by every method that is called on it; and those written into a call."""
    for file in sorted([*ROOT.glob("relayq_core/**/*.py"), *ROOT.glob("functions/**/*.py")]):
        tree = ast.parse(file.read_text())
        named = {
            statement.targets[0].id: statement.value
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and _called(statement.value) == ("re", "compile")
        }
        used: dict[str, set[str]] = {name: set() for name in named}
        for node in ast.walk(tree):
            owner, method = _called(node)
            if owner in used and method in _METHODS:
                used[owner].add(method)
            elif owner == "re" and method in _METHODS and (text := _first_text(node)):
                yield Found(f"{file.name}:{method} {text}", re.compile(text), {method})
        for name, methods in used.items():
            yield Found(f"{file.name}:{name}", _kept(file, name), methods or {"search", "fullmatch"})


def _called(node: ast.AST) -> tuple[str, str]:
    """`owner.method(...)`."""
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if is_method and isinstance(node.func.value, ast.Name):  # type: ignore[attr-defined]
        return node.func.value.id, node.func.attr  # type: ignore[attr-defined]
    return "", ""


def _first_text(node: ast.AST) -> str:
    """The first argument of a call, where it is a text."""
    first = node.args[0] if isinstance(node, ast.Call) and node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _kept(file: Path, name: str) -> re.Pattern[str]:
    """What the module has under this name; of the module only what stands above it is run."""
    source = file.read_text()
    tree = ast.parse(source)
    parts: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            parts.append(statement)
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == name:
            break
    known: dict[str, object] = {"re": re}
    for part in parts:
        try:
            exec(compile(ast.Module([part], []), str(file), "exec"), known)
        except Exception:
            continue  # it needs what is imported there, and is no part of a pattern
    found = known[name]
    assert isinstance(found, re.Pattern)
    return found


FOUND = [*patterns()]


def test_patterns_are_found() -> None:
    """Else the next test would hold for none."""
    names = {found.place for found in FOUND}
    assert {"masking.py:_PAIRS", "email.py:_LOCAL_PART", "options.py:_QUEUE"} <= names
    assert len(FOUND) > 40


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.place)
def test_no_pattern_takes_the_square_of_its_text(found: Found) -> None:
    """Texts come from forms, payloads and logs: 50,000 blanks must not hold a runner for hours."""
    texts = {text for filler in FILLERS for text in _texts(filler)}
    for text in texts:
        for method in found.methods:
            _use(found.pattern, method, text)


def _texts(filler: str) -> Iterator[str]:
    filled = filler * (LENGTH // len(filler))
    yield from (f"{filled}\0", f'"a{filled}')


def _use(pattern: re.Pattern[str] | re.Pattern[bytes], method: str, text: str) -> None:
    given = text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text
    if method in {"sub", "subn"}:
        getattr(pattern, method)(given[:0], given)
    elif method == "finditer":
        for _ in pattern.finditer(given):  # type: ignore[arg-type]
            pass
    else:
        getattr(pattern, method)(given)
