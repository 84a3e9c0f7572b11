"""The names that everybody may rely on: the same ones for people, for Python and for type checkers."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import relayq_core

INIT = Path(relayq_core.__file__)


def names_for_type_checkers() -> set[str]:
    """What `if TYPE_CHECKING:` imports at the top of the package."""
    (block,) = (node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_all_names_are_the_lazy_names_are_the_checked_names() -> None:
    """Three lists of one thing: a name in one of them only would be there for some and not for others."""
    lazy: dict[str, str] = vars(relayq_core)["_HOME_OF"]
    assert set(relayq_core.__all__) == set(lazy) == names_for_type_checkers()
    assert len(relayq_core.__all__) == len(set(relayq_core.__all__))


@pytest.mark.parametrize("name", relayq_core.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    """help() is the first documentation that people read."""
    found = getattr(relayq_core, name)
    assert inspect.getdoc(found)
    assert name in dir(relayq_core)


def test_the_names_of_the_promise_are_public() -> None:
    """Users rely on these names: others may be added, but none may be removed."""
    promised = (
        "Job JobContext JobRecord JobRequest Dispatched RelayQ Settings dispatch get cancel job on "
        "RetryAfter Snooze Bury Exponential Fixed Linear RelayQError InvalidPayload PayloadTooLarge InvalidOption "
        "UnknownJob DuplicateJobName SettingsError StoreError DispatchUnknown ChainTooDeep "
        "JobTimeout JobCrashed LeaseLost"
    )
    assert set(promised.split()) <= set(relayq_core.__all__)


def test_no_module_has_a_public_name() -> None:
    """`relayq_core/job.py` would replace the decorator as soon as it was imported."""
    modules = {module.name for module in pkgutil.iter_modules(relayq_core.__path__)}
    assert modules & set(relayq_core.__all__) == set()


def test_every_error_is_a_relayq_error_but_for_the_signals() -> None:
    """`except RelayQError` catches all of ours; Snooze and its like are raised by users, not by us."""
    classes = {name: found for name in relayq_core.__all__ if inspect.isclass(found := getattr(relayq_core, name))}
    errors = {name: found for name, found in classes.items() if issubclass(found, Exception)}
    strangers = {name for name, found in errors.items() if not issubclass(found, relayq_core.RelayQError)}
    assert strangers == {"Bury", "RetryAfter", "Snooze"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """hasattr() and `from relayq_core import x` rely on that."""
    assert not hasattr(relayq_core, "dispach")
    with pytest.raises(AttributeError, match="module 'relayq_core' has no attribute 'dispach'"):
        relayq_core.dispach  # type: ignore[attr-defined]  # noqa: B018


def test_the_package_says_that_it_is_typed() -> None:
    """Without py.typed, type checkers ignore every annotation of it."""
    assert INIT.with_name("py.typed").exists()


def test_star_import_gives_the_public_names() -> None:
    """As in notebooks."""
    names = subprocess.run(
        [sys.executable, "-c", "from relayq_core import *; print(*(n for n in dir() if n[0] != '_'))"],
        cwd=INIT.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert sorted(names.split()) == sorted(relayq_core.__all__)
