"""What a fresh clone of this repository holds, whatever jobs have been added to this one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.paths import ROOT

#: What functions/runner/jobs has from the start.
JOBS = frozenset({"__init__.py", "domains.py", "email.py", "webhook.py"})


def copy_functions(project: Path) -> None:
    """`functions/`, with the jobs that RelayQ comes with alone."""

    def others(folder: str, names: list[str]) -> set[str]:
        return set(names) - JOBS if Path(folder).name == "jobs" else {"__pycache__"}

    shutil.copytree(ROOT / "functions", project / "functions", ignore=others)


def copy_events(project: Path) -> None:
    """`events/`, without those that `relayq make-job` has written."""
    shutil.copytree(ROOT / "events", project / "events", ignore=shutil.ignore_patterns("dispatch_*.json"))
