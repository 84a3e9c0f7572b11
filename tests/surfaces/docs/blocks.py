"""The fenced blocks of README.md and docs/, and how each of them is executed. Also for tests/e2e, which runs some.

A block whose first line is a comment with a path (`# functions/runner/jobs/reports.py`) is that file of the reader's
project. What is executed is what the page shows: nothing is added, nothing is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Which end-to-end test runs the blocks of a page that want a deployed stack (see `Way.DEPLOYED`), in their order.
DEPLOYED = {
    "README.md": "tests/e2e/test_readme.py::test_a_page_deploys_what_it_says",
    "docs/how-to/call-from-another-stack.md": "tests/e2e/test_readme.py::test_a_page_deploys_what_it_says",
    "docs/how-to/keep-jobs-in-your-own-repository.md": "tests/e2e/test_readme.py::test_a_page_deploys_what_it_says",
}

#: Commands that run whole suites or wait for a reader, and what else runs each of them.
ELSEWHERE = {
    "make demo": "tests/surfaces/docs/test_blocks.py",
    "make test": "tests/parts.py",
    **dict.fromkeys(
        (". .venv/bin/activate", ". .relayq/dev.env", "export PYTHONPATH=functions/runner", "python"),
        "tests/surfaces/cli/test_mistakes.py",
    ),
}

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)(?P<rest>.*)")
_FILE = re.compile(r"# (?P<path>[\w.-]+(/[\w.-]+)*\.(py|yaml|json)|\.env)")
_SHELL = {"sh", "bash"}
_OUTPUT = {"text", "console"}


class Way(StrEnum):
    """How a block is executed."""

    #: written into the reader's project; a test file is run by pytest
    FILE = "file"
    #: run in the page's namespace, against the embedded stack
    PYTHON = "python"
    #: run by bash in the reader's project, against the embedded stack
    SHELL = "shell"
    #: run by bash in the reader's project, against a stack that `sam deploy` made: by tests/e2e
    DEPLOYED = "deployed"
    #: one of ELSEWHERE
    ELSEWHERE = "elsewhere"
    #: what the block before it prints; compared by whatever runs that one
    OUTPUT = "output"
    #: an excerpt of a template of this repository, or a template of its own
    TEMPLATE = "template"
    #: instructions for a container, whose command must be one of ours
    CONTAINER = "container"
    #: a statement of a policy, for a role of the reader's
    STATEMENT = "statement"
    #: a drawing, compared with what it draws
    DRAWING = "drawing"


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    #: the line of its fence
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """As an editor opens it."""
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The path that its first line names, if it is a file."""
        found = _FILE.fullmatch(self.text.partition("\n")[0])
        return found["path"] if found else None

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block: its lines, each with what it continues on."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]

    @property
    def way(self) -> Way | None:
        """How it is executed; None where there is no way, which a test refuses."""
        if self.file is not None:
            return Way.FILE
        if self.language == "python":
            return Way.PYTHON
        if self.language in _SHELL:
            return self._shell_way()
        if self.language in _OUTPUT:
            return Way.OUTPUT
        return {"yaml": Way.TEMPLATE, "mermaid": Way.DRAWING, "dockerfile": Way.CONTAINER, "json": Way.STATEMENT}.get(
            self.language
        )

    def _shell_way(self) -> Way | None:
        if not self.commands:
            return None
        if all(command in ELSEWHERE for command in self.commands):
            return Way.ELSEWHERE
        words = [word for command in self.commands for word in command.split()]
        if "sam" in words or "--stack" in words:
            return Way.DEPLOYED
        return Way.SHELL if {"relayq", "pytest"} & set(words) else None


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, from top to bottom."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    for number, line in lines:
        if (opening := _FENCE.fullmatch(line)) is None:
            continue
        text: list[str] = []
        for _, inner in lines:
            if inner.strip() == opening["ticks"]:
                break
            text.append(inner.removeprefix(opening["indent"]))
        else:
            msg = f"{page}:{number}: the block is never closed"
            raise AssertionError(msg)
        yield Block(page, number, opening["language"], "\n".join(text) + "\n")


def printed_after(page: Path) -> dict[Block, Block]:
    """Which output block shows what a block prints: the one that follows it."""
    found: dict[Block, Block] = {}
    executed: Block | None = None
    for block in blocks(page):
        if block.way is Way.OUTPUT:
            assert executed is not None, f"{block.where}: it shows output, and no executed block stands before it"
            assert executed not in found, f"{block.where}: a second output of the same block"
            found[executed] = block
        else:
            executed = block
    return found


_ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
_SHORT_ULID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{4,8}(?:\.\.|…)[0-9A-HJKMNP-TV-Z]{2,6}\b")
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|UTC|[+-]\d\d:?\d\d))?\b")
_CLOCK = re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?\b")
_EPOCH_MS = re.compile(r"\b1[6-9]\d{11}\b|\b2\d{12}\b")
_DURATION = re.compile(r"\b\d+(\.\d+)? ?(ms|s|min|seconds?)\b")
#: What happened less than a second ago.
_NOW = re.compile(r"\bnow(?=  |$)", re.MULTILINE)
_HOME = re.compile(r"/[\w./-]*/(?=jobs/)")
_RULE = re.compile(r"[─━═╌┄-]{2,}")


def normalised(output: str) -> list[str]:
    """Output without what differs from run to run: ids, moments, durations, folders, widths."""
    for pattern, name in (
        (_ULID, "ID"),
        (_SHORT_ULID, "ID"),
        (_MOMENT, "MOMENT"),
        (_CLOCK, "MOMENT"),
        (_EPOCH_MS, "MOMENT"),
        (_NOW, "0 s ago"),
        (_DURATION, "DURATION"),
        (_HOME, "HOME/"),
        (_RULE, "RULE"),
    ):
        output = pattern.sub(name, output)
    return [line for line in (" ".join(line.split()) for line in output.splitlines()) if line]


def compare(block: Block, printed: str) -> None:
    """Fails where the page shows something else than what the block printed."""
    shown = printed_after(block.page).get(block)
    if shown is not None:
        as_printed, as_shown = normalised(printed), normalised(shown.text)
        assert as_printed == as_shown, f"{shown.where} does not show what {block.where} prints: {as_printed}"
