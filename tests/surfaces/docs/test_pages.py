"""Links lead somewhere, names are right, and quoted sentences are the code's own."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.surfaces.docs.blocks import PAGES
from tests.surfaces.docs.tables import rows, table

README = ROOT / "README.md"
WRITTEN = [
    *PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/README.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:docs|examples|functions|relayq_core|tests|events|requirements)/[\w./-]*)`")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The headings as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_every_link_leads_to_something(page: Path) -> None:
    """Files that are there, and headings that are in them."""
    for link in _LINK.findall(_prose(page)):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{_name(page)} links to {link}"
        assert not anchor or anchor in _anchors(path), f"{_name(page)} links to {link}"


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_every_path_in_the_text_is_there(page: Path) -> None:
    """`docs/...`, `functions/...` and the like, unless the page has the reader make it."""
    shown = set(re.findall(r"^# ([\w./-]+)$", page.read_text(), re.MULTILINE))
    for path in re.findall(
        r"`((?:docs|examples|functions|relayq_core|tests|events|requirements)/[\w./-]*)`", _prose(page)
    ):
        assert (ROOT / path).exists() or path in shown, f"{_name(page)} names {path}"


def test_every_page_can_be_found_from_the_readme() -> None:
    """By links alone: a reader does not list a folder to find out what there is to read."""
    found = {README}
    while new := {path for page in found for path in _linked(page) if path in PAGES} - found:
        found |= new
    assert sorted(set(PAGES) - found) == []


def test_the_index_lists_every_page() -> None:
    """Of those that are read by themselves; the decisions have an index of their own."""
    listed = set(_linked(ROOT / "docs" / "README.md"))
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent.name != "decisions"}
    assert sorted(map(_name, pages - listed - {ROOT / "docs" / "README.md"})) == []


def _linked(page: Path) -> list[Path]:
    return [(page.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(_prose(page))]


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_no_page_names_the_machine_it_was_written_on(page: Path) -> None:
    """Shown output is made on a developer's machine, and its folders are of no use to a reader."""
    assert not re.search(r"(?<![\w.])/(root|home|tmp|Users|work)/", page.read_text())


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_no_page_promises_what_cannot_be_kept(page: Path) -> None:
    """A job whose runner died may have done its work: that cannot be known, so the words are not even used."""
    assert not re.search(r"exactly[- ]once", page.read_text(), re.IGNORECASE)


# ---------------------------------------------------------------- the sentences of errors


def _sentences(folder: Path) -> Iterator[str]:
    """Every text in the code, with … for what is filled in."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[sdg]", "…", node.value)


@functools.cache
def _code() -> tuple[str, ...]:
    return tuple(text for folder in ("relayq_core", "functions") for text in _sentences(ROOT / folder))


def _says(sentence: str, quoted: str) -> bool:
    """A quote's pieces, between its …, stand in the sentence in this order."""
    place = 0
    for piece in quoted.split("…"):
        found = sentence.find(piece.strip(), place)
        if found < 0:
            return False
        place = found + len(piece.strip())
    return True


QUOTED = [quote for cells in table(README, "You see") for quote in re.findall(r"`([^`]+)`", cells[0])]


@pytest.mark.parametrize("quote", QUOTED)
def test_a_quoted_error_is_what_the_code_says(quote: str) -> None:
    """A reader who searches for the sentence they see finds it."""
    assert any(_says(text, quote) for text in _code())


def test_the_readmes_settings_are_the_reference_pages() -> None:
    """The README shows the few that are changed; names and defaults are the same."""
    few = rows(README, "Variable")
    every = rows(ROOT / "docs/reference/environment.md", "Variable")
    assert {name: cells[0] for name, cells in few.items()} == {name: every[name][0] for name in few}


def test_the_map_names_every_room() -> None:
    """A newcomer looks for a folder on the map of CONTRIBUTING; one that is missing there is not found."""
    rooms = [path for path in (ROOT / "relayq_core").iterdir() if (path / "__init__.py").exists()]
    modules = [path for path in (ROOT / "relayq_core").glob("*.py") if not path.name.startswith("__")]
    names = [f"{path.name}/" for path in rooms] + [path.name for path in modules if path.name != "pytest_plugin.py"]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert [name for name in names if f" {name}" not in text] == []
