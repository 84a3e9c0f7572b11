"""What all tests share: the frozen clock, and DynamoDB Local where it can run."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from relayq_core.testing import ManualClock
from tests.support import engines
from tests.support.figures import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

#: For the tests of the test kit, which run pytest in folders of their own.
pytest_plugins = ["pytester"]

# A busy machine is no failure: nothing here asserts how long anything takes. CI looks at the same examples each time,
# so that it fails for what a change did; elsewhere each run looks further.
settings.register_profile(
    "relayq", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("relayq")


_WORKER_INPUT = "engines"
_SHARED = pytest.StashKey[Path]()
_HELD = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    """The marker stands where the engine does; one folder for the engines that this run's processes share."""
    config.addinivalue_line("markers", "dynamodb_local: runs on Amazon's DynamoDB Local (make engines)")
    if (given := getattr(config, "workerinput", {}).get(_WORKER_INPUT)) is not None:
        config.stash[_SHARED] = Path(given)
        return
    held = config.stash[_HELD] = ExitStack()
    folder = config.stash[_SHARED] = Path(tempfile.mkdtemp(prefix="engines-"))
    held.callback(shutil.rmtree, folder, ignore_errors=True)
    held.enter_context(engines.kept_while_open(folder))


def pytest_unconfigure(config: pytest.Config) -> None:
    """An engine that was started ends with the run, however its processes ended."""
    if (held := config.stash.get(_HELD, None)) is not None:
        held.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The processes of `-n` take the engines of the one that started them."""
    node.workerinput[_WORKER_INPUT] = str(node.config.stash[_SHARED])


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Name a case by what it is and not by its address: the processes that share the tests must agree on names."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        kwargs: dict[str, Any] = mark.kwargs  # type: ignore[assignment] # a Mapping to those who read it
        if callable(ids := kwargs.get("ids")):
            kwargs["ids"] = partial(_named, ids)


def _named(ids: Callable[[object], Any], case: object) -> Any:
    name = ids(case)
    return re.sub(r" at 0x[0-9a-f]+", "", name) if isinstance(name, str) else name


@pytest.fixture
def clock() -> ManualClock:
    """The time, which stands still until a test moves it."""
    return ManualClock()


@pytest.fixture(scope="session")
def dynamodb_local(request: pytest.FixtureRequest) -> str:
    """The endpoint of the run's DynamoDB Local; without one the test is skipped and says why, but never in CI."""
    if (endpoint := os.environ.get(engines.ENDPOINT)) is not None:
        return endpoint
    if (problem := engines.missing()) is not None:
        pytest.fail(problem) if "CI" in os.environ else pytest.skip(problem)
    return engines.shared_dynamodb_local(request.config.stash[_SHARED])
