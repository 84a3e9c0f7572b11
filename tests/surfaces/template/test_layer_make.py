"""The layer's Makefile: which Python it builds for, whatever another make or a shell hands to it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from relayq_core.handlers.starting import check_python
from tests.support.paths import ROOT

MAKEFILE = (ROOT / "relayq_core/Makefile").read_text()
#: Every name that it gives a value of its own, and that no user is to set.
OWN = sorted(set(re.findall(r"^(?:override )?([A-Z_]+) *:=", MAKEFILE, re.MULTILINE)))


def commands(*arguments: str, environ: dict[str, str] | None = None) -> str:
    """What it would run."""
    return subprocess.run(
        ["make", "--no-print-directory", "-n", "build-CoreLayer"],
        cwd=ROOT / "relayq_core",
        env={
            "PATH": "/usr/bin:/bin",
            "ARTIFACTS_DIR": "/artifacts",
            "MAKEFLAGS": " ".join(arguments),
            **(environ or {}),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_its_variables_are_found() -> None:
    assert {"PYTHON", "VERSION", "ARCH", "SITE", "PIP_FOR"} <= set(OWN)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("value", ["python3.12", "python3", "/usr/bin/python3.12"])
def test_no_variable_of_an_outer_make_reaches_it(name: str, value: str) -> None:
    """`make build PYTHON=python3.12` chooses the interpreter of the environments, and not the layer's."""
    assert commands("--", f"{name}={value}") == commands(environ={name: value}) == commands()
    assert "layer for arm64, Python 3.13" in commands()


def test_the_variables_of_the_layer_choose_what_is_built(tmp_path: Path) -> None:
    told = commands(environ={"RELAYQ_ARCH": "x86_64", "LAYER_PYTHON": "python3.12"})
    assert "layer for x86_64, Python 3.12" in told
    assert "--python-version 3.12 --platform manylinux2014_x86_64" in told


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        ([], "python3.13"),
        (["PYTHON=python3.12"], "python3.13"),
        (["RUNTIME=python3.12"], "python3.12"),
        (["PYTHON=python3.11", "RUNTIME=python3.14"], "python3.14"),
    ],
)
def test_make_build_builds_for_the_runtime_that_is_deployed(arguments: list[str], version: str) -> None:
    """The template's default, unless RUNTIME says otherwise: then the template gets it too."""
    told = subprocess.run(
        ["make", "-n", "build", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (line,) = (line for line in told.splitlines() if "sam build" in line)
    assert f"LAYER_PYTHON={version} " in line
    assert ("PythonRuntime=" in line) == any(argument.startswith("RUNTIME=") for argument in arguments)


def test_the_runtime_that_samconfig_names_is_the_layers_too(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    for name in ("Makefile", "template.yaml", "requirements/sam.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "samconfig.toml").write_text('parameter_overrides = "A=b PythonRuntime=python3.12"\n')
    told = subprocess.run(["make", "-n", "build"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "LAYER_PYTHON=python3.12 " in told


def test_a_runner_with_a_layer_for_another_python_says_so(tmp_path: Path) -> None:
    """Instead of a module of pydantic's that cannot be found."""
    check_python(tmp_path)
    (tmp_path / "built_for").write_text("3.9\n")
    with pytest.raises(ImportError, match=r"built for Python 3\.9, but this function runs on 3\.1\d: rebuild"):
        check_python(tmp_path)
