"""Measure the layer, built for this machine: its size, and what its .pyc files save at a start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.aws import ROOT
from benchmarks.measuring import CONTROL, Program, calculate_net_ratio, time_starts
from benchmarks.rows import Row
from benchmarks.scale import Scale
from benchmarks.starting import calculate_control

GROUP = "Layer"
MIB = 1024 * 1024
_LOAD = "import relayq_core.client, relayq_core.handlers.telemetry, relayq_core.jobs.classes, relayq_core.engine.runner"


def measure(scale: Scale) -> Iterator[Row]:
    """Yield figures of the layer as `sam build` builds it, and of a copy without .pyc files."""
    with tempfile.TemporaryDirectory() as folder:
        site = build_layer(Path(folder))
        files = [path for path in site.rglob("*") if path.is_file()]
        missing = [path for path in site.rglob("*.py") if not _find_compiled(path).exists()]
        yield Row(GROUP, "modules without a .pyc", "none", len(missing), 0, exact=True, unit="")
        size = sum(path.stat().st_size for path in files) / MIB
        yield Row(GROUP, "unzipped, its .pyc files included", "17 MiB", size, 17, unit="MiB")
        yield Row(GROUP, "zipped", "6 MiB", _measure_zip(site, files) / MIB, 6, unit="MiB")
        bare = Path(folder) / "without"
        shutil.copytree(site, bare, ignore=shutil.ignore_patterns("__pycache__"))
        loads = time_starts(
            {
                "without": _make_program(bare),
                CONTROL: _make_program(bare),
                "with": _make_program(site),
                "bare": _make_program(site, "pass"),
            },
            rounds=max(3, scale.starts // 2),
        )
    yield Row(
        GROUP,
        "loading what a runner needs of it, with .pyc files",
        "without them, as after a plain sam build",
        calculate_net_ratio(loads, "with", "without", "bare"),
        0.60,
        unit="× CPU",
        control=calculate_control(loads, "without"),
        note="less a bare interpreter; boto3 is the runtime's, and not in it",
    )


def build_layer(folder: Path) -> Path:
    """Run the layer's own make target for this machine's Python, and return its folder `python`."""
    source = folder / "relayq_core"
    shutil.copytree(ROOT / "relayq_core", source, ignore=shutil.ignore_patterns("__pycache__"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RELAYQ_", "PYTHON"))}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ARTIFACTS_DIR": str(folder / "layer"),
        "RELAYQ_ARCH": "host",
    }
    subprocess.run(["make", "build-CoreLayer"], cwd=source, env=environ, check=True, capture_output=True)
    return folder / "layer" / "python"


def _find_compiled(source: Path) -> Path:
    tag = sys.implementation.cache_tag
    return source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


def _measure_zip(site: Path, files: list[Path]) -> int:
    target = site.parent / "layer.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(site.parent))
    return target.stat().st_size


def _make_program(site: Path, code: str = _LOAD) -> Program:
    """Return a program that imports from this site. boto3 has its .pyc files in any case; no new ones are written."""
    environ = {
        "PYTHONPATH": f"{site}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": "/var/task",
        "RELAYQ_JOBS_TABLE": "jobs",
        "RELAYQ_FAILED_TABLE": "failed",
        "RELAYQ_RUNNER_FUNCTION": "runner",
        "RELAYQ_JOB_MODULES": "benchmarks.one_job",
    }
    return Program(code, environ)
