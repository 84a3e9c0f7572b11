"""What type checkers say to people who use RelayQ: nothing about good code, and something about bad code."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT

HERE = Path(__file__).parent
GOOD = HERE / "good.py"
BAD = sorted(HERE.glob("bad/*.py"))

#: (file, line) of every complaint
Complaints = set[tuple[str, int]]


def mypy(config: Path) -> Complaints:
    """What mypy --strict complains about, under this configuration."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", config, "--no-error-summary"),
            *("--no-pretty", "--cache-dir", ROOT / ".mypy_cache" / config.stem, "--output", "json"),
            *(GOOD, *BAD),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {(Path(each["file"]).name, each["line"]) for each in told if each["severity"] == "error"}


def mypy_as_it_comes(tmp_path: Path) -> Complaints:
    """As in a project that has not configured it."""
    config = tmp_path / "plain.ini"
    config.write_text("[mypy]\n")
    return mypy(config)


def mypy_with_pydantics_plugin(tmp_path: Path) -> Complaints:
    """As in a project that follows pydantic's advice."""
    config = tmp_path / "plugin.ini"
    config.write_text("[mypy]\nplugins = pydantic.mypy\n[pydantic-mypy]\ninit_typed = True\n")
    return mypy(config)


def pyright(tmp_path: Path) -> Complaints:
    """What pyright complains about; good.py asks for its strict mode.

    The bad files switch off what they provoke, for `make check` reads them too: that is left out here.
    """
    bad = [tmp_path / path.name for path in BAD]
    for path, copy in zip(BAD, bad, strict=True):
        copy.write_text(re.sub(r"^# pyright:.*$", "", path.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        [Path(sys.executable).with_name("pyright"), "--pythonpath", sys.executable, "--outputjson", GOOD, *bad],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    told = json.loads(done.stdout)["generalDiagnostics"]
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in told if each["severity"] == "error"
    }


@pytest.mark.timeout(600)  # a cold cache, and perhaps a node to be fetched
@pytest.mark.parametrize("checker", [mypy_as_it_comes, mypy_with_pydantics_plugin, pyright])
def test_good_uses_are_accepted_and_bad_ones_rejected(checker: Callable[[Path], Complaints], tmp_path: Path) -> None:
    """An editor is where most mistakes are found; a false alarm teaches people to ignore it."""
    expected = {
        (path.name, number)
        for path in BAD
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"# error$", line)
    }
    assert len(expected) > 40
    assert checker(tmp_path) == expected
