"""A reader who does what a page says: writes its files, runs its Python and its commands, and compares what it shows.

The reader's project is a copy of what a fresh clone holds; their AWS is the embedded stack, with the real runner.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.environ import isolate
from relayq_core.local.functions import Function, Functions
from tests.support.clone import copy_events, copy_functions
from tests.support.paths import ROOT
from tests.surfaces.docs.blocks import Block, Way, compare

#: What the reader has of this repository, beside functions and events.
_COPIED = ["examples", "template.yaml", "samconfig.toml", "Makefile", "pyproject.toml"]
_RUNNER = "relayq-runner"


class Reader:
    """Executes the blocks of one page, in their order."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self._functions = Functions()
        self._aws = EmbeddedAws(self._invoke)
        self._aws.create_tables()
        self._console: subprocess.Popen[str] | None = None
        self._runner_is_current = False
        self._lock = threading.Lock()
        copy_functions(project)
        copy_events(project)
        for name in _COPIED:
            _copy(ROOT / name, project / name)
        _copy(ROOT / "tests/functions/conftest.py", project / "tests/functions/conftest.py")
        (project / ".venv").symlink_to(sys.prefix)
        (project / "relayq_core").symlink_to(ROOT / "relayq_core")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._console is not None:
            assert self._console.stdin is not None
            assert self._console.stdout is not None
            self._console.stdin.close()
            if error[0] is not None:
                self._console.kill()  # its block may wait for a job that never ends
            self._console.wait()
            self._console.stdout.close()
        self._functions.close()
        for table in (JOBS_TABLE, FAILED_TABLE):
            self._aws.dynamodb.delete_table(TableName=table)  # moto would keep them as long as this process lives
        self._aws.close()

    def execute(self, block: Block) -> None:
        """Do what the block says. Fails where it fails, or prints something else than the page shows."""
        match block.way:
            case Way.FILE:
                self._write(block)
            case Way.PYTHON:
                compare(block, self._python(block))
            case Way.SHELL:
                compare(block, self._shell(block))
            case Way.ELSEWHERE if "make demo" in block.commands:
                self._bash("relayq --local tables create")  # all that later blocks need of what the demo leaves
            case _:
                """Somebody else's, or nothing to do."""

    def _write(self, block: Block) -> None:
        assert block.file is not None
        path = self.project / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        if path.is_relative_to(self.project / "functions"):
            self._runner_is_current = False

    def _python(self, block: Block) -> str:
        if self._console is None:
            self._console = subprocess.Popen(
                [sys.executable, "-u", "-W", "error", str(Path(__file__).with_name("console.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.project,
                env={
                    **self._environ(),
                    "PYTHONPATH": os.pathsep.join([str(self.project / "functions/runner"), str(ROOT)]),
                },
            )
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        self._console.stdin.write(json.dumps({"text": block.text, "where": block.where}) + "\n")
        self._console.stdin.flush()
        answer = json.loads(self._console.stdout.readline())
        assert answer["failure"] is None, f"{block.where}\n{answer['failure']}"
        return str(answer["printed"])

    def _shell(self, block: Block) -> str:
        done = self._bash(block.text)
        assert done.returncode == 0, f"{block.where} ends with {done.returncode}\n{done.stdout}"
        return done.stdout

    def _bash(self, commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.project,
            env=self._environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _environ(self) -> Mapping[str, str]:
        shown = {
            "RELAYQ_RUNNER_FUNCTION": _RUNNER,
            "PATH": os.pathsep.join([str(self.project / ".venv/bin"), os.environ["PATH"]]),
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }
        environ = isolate({**self._aws.environ, **shown}, os.environ)
        if (self.project / ".env").exists():
            environ = {name: value for name, value in environ.items() if not name.startswith("RELAYQ_")}
        return environ

    def _invoke(self, function: str, event: bytes) -> bool:
        """Lambda's Invoke. The runner starts when it is first needed, and again when its jobs have changed."""
        with self._lock:
            if not self._runner_is_current:
                self._functions.close()
                self._functions.begin([self._runner()])
                self._runner_is_current = True
        return self._functions.invoke(function, event)

    def _runner(self) -> Function:
        return Function(
            name=_RUNNER,
            handler="app.handler",
            environ=self._aws.environ,
            path=[self.project / "functions/runner"],
            timeout=900,
            concurrency=4,
            log=self.project / "runner.log",
        )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
