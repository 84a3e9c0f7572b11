"""Measure how the source reads: idioms in its prose, verbs in its names, and the sizes of what it is made of."""

from __future__ import annotations

import ast
import functools
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
#: What is not prose on a page: blocks of code, names in backticks, and the table of words in docs/STYLE.md.
_NOT_PROSE = re.compile(r"^( *)```.*?^\1```|^\| instead of \|(?:.*\n)+?(?=\n|\Z)|`[^`\n]+`", re.MULTILINE | re.DOTALL)
#: What is not prose in a template of the dashboard: Jinja's tags, and HTML's with their attributes.
_NOT_TEXT = re.compile(r"\{%.*?%\}|\{#.*?#\}|<[^>]*>", re.DOTALL)


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
    """Return the pages of the documentation, of the examples, and those at the top of the repository."""
    folders = ("docs", "examples", ".github", "tests")
    return sorted([*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*.md"))])


def templates() -> list[Path]:
    """Return the templates of the dashboard."""
    return sorted((ROOT / "relayq_core/dashboard/templates").glob("*.html"))


def room_of(file: str) -> str:
    """Return the folder that a file's ceiling stands for: `relayq_core/engine`, `docs/how-to`, `tests`, or `.`."""
    folders = file.split("/")[:-1]
    return "/".join(folders[: 1 if file.startswith("tests/") else 2]) or "."


def functions(files: Iterable[Path]) -> Iterator[Function]:
    """Yield every function but dunders and bodies of `...`, nested ones too."""
    for path in files:
        for node in ast.walk(_parse(path)):
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
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.ClassDef):
                methods = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
                yield _name(path), node.name, len(methods)


@functools.cache
def prose_of_python(path: Path) -> Prose:
    """Return the comments and docstrings of a file."""
    source = path.read_text(encoding="utf-8")
    comments = [
        token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    return _prose(path, "\n".join([*comments, *(docstring for _, docstring in _docstrings(_parse(path)))]))


@functools.cache
def messages_of_python(path: Path) -> Prose:
    """Return the string literals of a file that are not docstrings: errors, help, log lines."""
    tree = _parse(path)
    docstrings = {node for node, _ in _docstrings(tree)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings
    ]
    return _prose(path, "\n".join(texts))


@functools.cache
def prose_of_page(path: Path) -> Prose:
    """Return the text of a page, without code and without the words that docs/STYLE.md lists as bad."""
    return _prose(path, _NOT_PROSE.sub("", path.read_text(encoding="utf-8")))


def text_of_template(path: Path) -> Prose:
    """Return what a template of the dashboard shows, its expressions included: they may hold strings."""
    return _prose(path, _NOT_TEXT.sub(" ", path.read_text(encoding="utf-8")))


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


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.Constant, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value, value.value


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
