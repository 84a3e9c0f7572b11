"""A function starts without looking for garbage, and looks for it afterwards as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from relayq_core.handlers.starting import pause_gc


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """What a test freezes would never be collected in this process."""
    yield
    gc.enable()
    gc.unfreeze()


def test_no_garbage_is_looked_for_while_a_function_starts() -> None:
    """What is there then stays, and is left out of every later look."""
    with pause_gc():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_process_without_collection_stays_without() -> None:
    """A user who has switched it off has a reason."""
    gc.disable()
    with pause_gc():
        pass
    assert not gc.isenabled()


def test_a_start_that_fails_leaves_the_collection_on() -> None:
    """A module of jobs that cannot be imported."""
    with pytest.raises(ImportError), pause_gc():
        raise ImportError
    assert gc.isenabled()
