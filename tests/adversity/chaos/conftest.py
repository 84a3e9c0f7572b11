"""How many jobs to dispatch into the chaos, and which run to have again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adversity.chaos.campaign import deployed, play
from tests.adversity.chaos.figures import told
from tests.adversity.chaos.history import History
from tests.adversity.chaos.mutants import MUTANTS

_TOLD = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make chaos JOBS=500 SEED=7`."""
    parser.addoption("--chaos-jobs", type=int, default=150, help="how many jobs to dispatch into the chaos")
    parser.addoption("--chaos-seed", type=int, default=None, help="have the jobs and the nemesis of an earlier run")
    parser.addoption("--chaos-mutant", choices=MUTANTS, default=None, help="deploy a broken RelayQ: a law must fail")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The run takes minutes and environments of its own: it is for those who ask by `-m e2e`."""
    return True if collection_path.name == "test_chaos.py" and config.getoption("-m") != "e2e" else None


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[History]:
    """One run on one deployment, judged by all tests."""
    seed = request.config.getoption("--chaos-seed", default=None)
    if seed is None:
        seed = random.SystemRandom().randrange(1_000_000)
    jobs = request.config.getoption("--chaos-jobs", default=150)
    request.config.stash[_TOLD] = [f"seed {seed}: make chaos JOBS={jobs} SEED={seed}"]
    folder = tmp_path_factory.mktemp("chaos")
    with deployed(folder, seed, request.config.getoption("--chaos-mutant", default=None)) as stage:
        found = play(stage, seed, jobs)
    request.config.stash[_TOLD] = told(found)
    yield found
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)  # it is large: a copy of the layer for each runner


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The run in numbers, whether it broke a law or not."""
    for line in config.stash.get(_TOLD, []):
        terminalreporter.write_line(line)
