"""The layer is built from pins alone: they have to be complete, and those that the tests ran on."""

from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.template.translate import ROOT


def pins(path: str) -> dict[str, str]:
    """Name and version of each line `name==version` of a file."""
    lines = (line.partition("==") for line in (ROOT / path).read_text().splitlines())
    return {canonicalize_name(name): found for name, equals, found in lines if equals}


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
