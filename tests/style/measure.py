"""Measure how the source reads: idioms in its prose, verbs in its names, and the sizes of what it is made of."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.style.words import IDIOM, VERBS

ROOT = Path(__file__).parents[2]
#: A function longer than this is two.
LONGEST_FUNCTION = 40
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Function:
    """A function: where it stands, and its lines from `def` to the end, less its docstring."""

    file: str
    name: str
    lines: int

    @property
    def starts_with_verb(self) -> bool:
        """Its name's first word is on the list of verbs."""
        return self.name.lstrip("_").partition("_")[0] in VERBS


@dataclass(frozen=True, slots=True)
class Prose:
    """How many words of prose a file has, and which idioms are in them."""

    file: str
    words: int
    idioms: tuple[str, ...]


def python_files(folder: str) -> list[Path]:
    """Return the Python files below a folder of the repository, sorted."""
    return sorted((ROOT / folder).rglob("*.py"))


def documents() -> list[Path]:
    """Return the pages of the documentation, and those at the top of the repository."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def functions(files: Iterable[Path]) -> Iterator[Function]:
    """Yield every function but dunders and bodies of `...`, nested ones too."""
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("__"):
                continue
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if all(_is_ellipsis(statement) for statement in body):
                continue
            docstring = 0 if body is node.body else (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            lines = (node.end_lineno or node.lineno) - _first_line(node, _name(path)) + 1 - docstring
            yield Function(_name(path), node.name, lines)


def classes(files: Iterable[Path]) -> Iterator[tuple[str, str, int]]:
    """Yield the file, name and number of methods of every class."""
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
                yield _name(path), node.name, len(methods)


def prose_of_python(path: Path) -> Prose:
    """Return the comments and docstrings of a file."""
    source = path.read_text(encoding="utf-8")
    comments = [
        token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    docstrings = [
        ast.get_docstring(node, clean=False) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return _prose(path, "\n".join([*comments, *docstrings]))


def prose_of_page(path: Path) -> Prose:
    """Return the text of a page, without its blocks of code."""
    return _prose(path, _FENCE.sub("", path.read_text(encoding="utf-8")))


def share_of_verbs(all_functions: Iterable[Function]) -> float:
    """Return which part of the functions begins with a verb, 0 to 1."""
    counted = list(all_functions)
    return sum(function.starts_with_verb for function in counted) / len(counted)


def idioms_per_10_000(prose: Iterable[Prose]) -> float:
    """Return how many idioms stand in ten thousand words."""
    counted = list(prose)
    return 10_000 * sum(len(file.idioms) for file in counted) / sum(file.words for file in counted)


def median_lines(all_functions: Iterable[Function]) -> float:
    """Return the median length of the functions, lines."""
    return statistics.median(function.lines for function in all_functions)


def _prose(path: Path, text: str) -> Prose:
    return Prose(_name(path), len(_WORD.findall(text)), tuple(match[0].lower() for match in IDIOM.finditer(text)))


def _is_ellipsis(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and value.value is ...


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef, file: str) -> int:
    """Where to count from. The options of a command are its signature, so there the body alone counts."""
    return node.body[0].lineno if file.startswith("relayq_core/cli/") else node.lineno


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_of(path: Path) -> int:
    """Return how many lines a file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


def root_modules() -> int:
    """Return how many modules lie at the root of the package, `__init__` among them."""
    return len(list((ROOT / "relayq_core").glob("*.py")))
