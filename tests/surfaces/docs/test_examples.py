"""The small examples run as examples/README.md shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relayq_core.local.environ import isolate
from tests.support.paths import ROOT
from tests.surfaces.docs.blocks import Block, blocks, normalised

SMALL = sorted((ROOT / "examples/small").glob("*.py"))
_BLOCKS = blocks(ROOT / "examples/README.md")
#: Each block that runs an example, with the block after it, which shows what it prints.
SHOWN = {block.commands[0]: output for block, output in zip(_BLOCKS[::2], _BLOCKS[1::2], strict=True)}


@pytest.mark.parametrize(("command", "output"), SHOWN.items(), ids=list(SHOWN))
def test_an_example_prints_what_its_page_shows(command: str, output: Block) -> None:
    """The reader copies the command; it has to work without an AWS account, and without any setting."""
    interpreter, script = command.split()
    assert interpreter == ".venv/bin/python"
    environ = isolate({}, os.environ)
    done = subprocess.run([sys.executable, script], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert normalised(done.stdout) == normalised(output.text)


def test_the_page_shows_every_small_example() -> None:
    """An example that is not shown is not run by any test."""
    assert sorted(Path(command.split()[1]) for command in SHOWN) == [path.relative_to(ROOT) for path in SMALL]
