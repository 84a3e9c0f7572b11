"""The blocks of README.md and docs/ that want a deployed stack, as they stand there, in an AWS account of their own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.e2e import harness
from tests.e2e.harness import PYTHON, SAM, Emulator
from tests.support.paths import ROOT
from tests.surfaces.docs.blocks import DEPLOYED, Block, Way, blocks, compare

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

README = ROOT / "README.md"
#: The README's last block deletes the stack that the others' blocks need.
PAGES = sorted((ROOT / page for page in DEPLOYED), key=lambda page: page == README)
_COPIED = ["relayq_core", "functions", "examples", "template.yaml", "samconfig.toml"]


@dataclass(frozen=True)
class Clone:
    """A reader's clone, with the files that the pages have them write, and their AWS account."""

    folder: Path
    emulator: Emulator

    def write(self, block: Block) -> None:
        """Make the file that the block is."""
        assert block.file is not None
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def run(self, block: Block) -> None:
        """Run the commands. Fails where one fails, or prints something else than the page shows."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RELAYQ_"))}
        # RELAYQ_ARCH=host means the python3 that comes first: the emulator's, for there the layer will run
        path = [str(Path(PYTHON).parent), str(Path(SAM).parent), os.environ["PATH"], str(self.folder / ".venv/bin")]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.folder,
            env={
                **inherited,
                **self.emulator.environ(),
                "PATH": os.pathsep.join(path),
                "RELAYQ_ARCH": "host",
                "SAM_CLI_TELEMETRY": "0",
                "NO_COLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.where} ends with {done.returncode}\n{done.stdout}"
        compare(block, done.stdout)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which the README was followed as far as its first deploy."""
    folder = tmp_path_factory.mktemp("readme")
    project = folder / "relayq"
    harness.copied(ROOT, *_COPIED, to=project)
    (project / ".venv").symlink_to(ROOT / ".venv")
    with harness.emulator(folder) as emulator:
        found = Clone(project, emulator)
        for page in PAGES:
            for block in blocks(page):
                if block.way is Way.FILE:
                    found.write(block)
        shutil.rmtree(project / "tests")  # what the pages have tested is tested elsewhere
        found.run(next(block for block in blocks(README) if block.way is Way.DEPLOYED))
        yield found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_deploys_what_it_says(clone: Clone, page: Path) -> None:
    """Every command as it stands there; the template with the parameters of a first deploy."""
    for block in blocks(page):
        if block.way is Way.DEPLOYED:
            clone.run(block)


def test_the_tables_stay_when_the_stack_is_deleted(clone: Clone) -> None:
    """As the README says after its last block, which has deleted it."""
    with pytest.raises(ClientError, match="does not exist"):
        clone.emulator.client("cloudformation").describe_stacks(StackName="relayq")
    tables = clone.emulator.client("dynamodb").list_tables()["TableNames"]
    assert [table.split("-")[1] for table in sorted(tables)] == ["FailedJobsTable", "JobsTable"]
