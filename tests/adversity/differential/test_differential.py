"""The memory store, on which the simulation and the users' tests stand, beside the engine that DynamoDB is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relayq_core.model.record import JobRecord, Status
from relayq_core.testing import MemoryStore
from tests.adversity.differential.campaign import compare
from tests.adversity.differential.twins import Engine, engine_at
from tests.support.figures import tell

pytestmark = pytest.mark.dynamodb_local

#: `make differential` compares as many as you like.
SEQUENCES = 300


@pytest.fixture
def engine(dynamodb_local: str) -> Iterator[Engine]:
    """Tables for the sequences."""
    with engine_at(dynamodb_local) as engine:
        yield engine


@pytest.mark.timeout(300)
def test_both_stores_answer_alike_whatever_they_are_asked(engine: Engine) -> None:
    """Without this the simulation would prove nothing of DynamoDB."""
    compare(engine, SEQUENCES, first_seed=1)
    assert engine.report.sequences >= SEQUENCES
    tell(f"{engine.report.sequences:,} sequences of calls: {engine.report.answers.total():,} answers compared")


def _late(store: MemoryStore, expires_at: int | None) -> bool:
    return expires_at is not None and expires_at < store._clock.now() // 1000


def _any_lease(row: JobRecord, before: JobRecord) -> bool:
    return row.status is Status.PROCESSING


def _keeps_keys(store: MemoryStore, record: JobRecord) -> None:
    """Whatever ends a job releases its key; this does not."""


def _reads_anything(store: MemoryStore, row: JobRecord) -> JobRecord:
    return row


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("_has_expired", _late),
        ("_holds", staticmethod(_any_lease)),
        ("_release_key", _keeps_keys),
        ("_read", _reads_anything),
    ],
)
def test_a_store_that_answers_otherwise_is_found_out(
    engine: Engine, method: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second too late, any lease, a key never released, a row that cannot be read: each is seen."""
    monkeypatch.setattr(MemoryStore, method, broken)
    with pytest.raises(AssertionError):
        compare(engine, 10 * SEQUENCES, first_seed=1, shrink=False)
