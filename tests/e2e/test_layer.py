"""What is in the layer: all that a Lambda needs, and nothing else."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.harness import PYTHON, copied, runtime
from tests.support import pythons
from tests.support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def layer(deployment: Deployment) -> Path:
    """The layer that was deployed: as on /opt of a Lambda."""
    return deployment.project / ".aws-sam/build/CoreLayer"


def built(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The layer's own make target, in a copy of relayq_core that has nothing around it."""
    source = copied(ROOT, "relayq_core", to=folder / "source") / "relayq_core"
    return subprocess.run(
        ["make", "build-CoreLayer"],
        cwd=source,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("RELAYQ_")},
            "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
            "ARTIFACTS_DIR": str(folder / "layer"),
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_layer_holds_no_tools(layer: Path) -> None:
    """No command line, no embedded stack, no test kit, and nothing of the build."""
    core = {path.name for path in (layer / "python/relayq_core").iterdir()}
    assert {"__init__.py", "py.typed", "engine", "handlers", "adapters"} <= core
    assert core.isdisjoint({"cli", "local", "testing", "worker", "pytest_plugin.py", "Makefile", "requirements.txt"})
    top = {path.name for path in (layer / "python").iterdir()}
    assert {"pydantic", "aws_lambda_powertools"} <= top
    assert top.isdisjoint({"boto3", "botocore", "typer", "rich", "moto", "bin", "tests", "docs"})


def test_the_layer_is_small(layer: Path) -> None:
    """At most 17 MiB unzipped: a part of every cold start."""
    size = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
    assert size <= 17 * 1024 * 1024


def test_every_module_of_the_layer_is_compiled(layer: Path) -> None:
    """Lambda cannot write .pyc files, and an unchecked one cannot go stale in a zip."""
    tag = f"cpython-{runtime().removeprefix('python').replace('.', '')}"
    for source in layer.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
        assert compiled.is_file(), f"{source.relative_to(layer)} has no .pyc"
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", "hash-based, and not checked"


def test_nothing_in_the_layer_shows_where_it_was_built(layer: Path, deployment: Deployment) -> None:
    """Two builds of the same files are the same layer."""
    for path in layer.rglob("*"):
        if path.suffix in {".py", ".pyc"}:
            assert str(deployment.folder).encode() not in path.read_bytes(), path


def test_the_layer_alone_runs_the_handlers(layer: Path) -> None:
    """The runtime brings boto3. Nothing that was left out is imported."""
    script = "import relayq_core.handlers.runner, relayq_core.handlers.sweeper; print(relayq_core.__file__)"
    done = subprocess.run(
        [PYTHON, "-P", "-c", script],
        env={
            "PYTHONPATH": f"{layer / 'python'}:{ROOT / 'functions/runner'}",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "RELAYQ_JOBS_TABLE": "jobs",
            "RELAYQ_FAILED_TABLE": "failed",
            "RELAYQ_RUNNER_FUNCTION": "runner",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(layer / "python/relayq_core/__init__.py")


def test_the_layers_compiled_modules_are_loaded_by_the_runtime_it_was_built_for(tmp_path: Path) -> None:
    """By its own interpreter, where this machine has it outside of a folder of its own."""
    python = next(
        (python for version in pythons.VERSIONS if (python := pythons.find(version)) and python.root is None), None
    )
    if python is None:
        pytest.skip(f"there is no Python {' or '.join(pythons.VERSIONS)} here")
    done = built(
        tmp_path,
        RELAYQ_ARCH=platform.machine().replace("aarch64", "arm64"),
        LAYER_PYTHON=f"python{python.version}",
        PATH=f"{Path(python.command).parent}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert "without .pyc files" not in done.stdout
    site = tmp_path / "layer/python"
    assert (site / "relayq_core/built_for").read_text() == f"{python.version}\n"
    code = (
        "import relayq_core.engine.dispatcher, relayq_core.jobs.classes, relayq_core.handlers.telemetry, pydantic_core"
    )
    loaded = subprocess.run(
        [python.command, "-S", "-v", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    compiled = re.findall(rf"# code object from '?{re.escape(str(site))}/(\S+\.pyc)", loaded)
    from_source = re.findall(rf"# code object from '?{re.escape(str(site))}/(\S+\.py)'?$", loaded, re.MULTILINE)
    assert any("relayq_core/jobs/__pycache__/" in path for path in compiled), loaded[-2000:]
    assert from_source == []


def test_a_layer_for_another_machine_holds_its_wheels(tmp_path: Path) -> None:
    """sam build on a laptop makes a layer for Lambda. Without that Python there are no .pyc files, and it is said."""
    done = built(tmp_path, RELAYQ_ARCH="arm64", LAYER_PYTHON="python3.13")
    assert done.returncode == 0, done.stderr
    (extension,) = (tmp_path / "layer").rglob("_pydantic_core*.so")
    assert extension.name == "_pydantic_core.cpython-313-aarch64-linux-gnu.so"
    has_compiled = any((tmp_path / "layer").rglob("*.pyc"))
    assert has_compiled != ("without .pyc files" in done.stdout)
    assert has_compiled or sys.version_info[:2] != (3, 13)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"RELAYQ_ARCH": "sparc"}, "RELAYQ_ARCH must be arm64, x86_64 or host, got 'sparc'"),
        ({"LAYER_PYTHON": "python2.7"}, "LAYER_PYTHON must be python3.11 or newer, got 'python2.7'"),
    ],
)
def test_a_layer_that_cannot_be_built_says_why(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    """Before anything is downloaded."""
    done = built(tmp_path, **environ)
    assert done.returncode != 0
    assert sentence in done.stderr
