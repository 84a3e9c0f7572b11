"""The real dispatcher, runner, sweeper, worker and operations, on one thread, with a virtual clock and many faults."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from relayq_core.model import record
from tests.adversity.simulation.campaign import every_fault, random_schedules
from tests.adversity.simulation.mutants import MUTANTS, applied
from tests.adversity.simulation.scenarios import SCENARIOS, lost_handoffs, play_lost_handoff, play_random, play_scenario
from tests.adversity.simulation.world import Violation

#: How many random schedules a mutant may survive before it counts as not caught.
_PATIENCE = 4_000


@pytest.fixture(autouse=True)
def _quiet_and_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One shard keeps the sweeper's reads few; log lines of thousands of schedules help no reader."""
    monkeypatch.setattr(record, "SHARDS", 1)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_faults_a_story_ends_as_it_should(name: str) -> None:
    """A law that no story ever meets would prove nothing."""
    play_scenario(name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_job_whose_handoff_was_lost_is_saved_by_the_next_tick(name: str) -> None:
    """Each handoff of each story, dropped or refused."""
    for plan in lost_handoffs(name):
        play_lost_handoff(name, plan)


@pytest.mark.timeout(900)
def test_no_single_fault_breaks_a_law() -> None:
    """Every fault at every call of every base scenario: the exhaustive part."""
    report = every_fault(pairs=False)
    assert report.broken == []
    assert report.schedules > 5_000


@pytest.mark.timeout(900)
def test_no_random_schedule_breaks_a_law(request: pytest.FixtureRequest) -> None:
    """Any number of actors, skewed clocks, a lagging index, doubled and missed ticks, deploys, and many faults."""
    seed = request.config.getoption("--sim-seed", default=None)
    if seed is not None:
        stage = play_random(seed)
        print("\n".join(stage.world.history))
        return
    report = random_schedules(request.config.getoption("--sim-schedules", default=2_000))
    assert report.broken == []


def test_a_seed_plays_the_same_schedule_every_time() -> None:
    """What broke once must be seen again, or it cannot be mended."""
    for seed in (11, 29):
        first, second = play_random(seed), play_random(seed)
        assert first.world.history == second.world.history
        assert first.world.hits == second.world.hits


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_protocol_is_caught(name: str) -> None:
    """Each part of the protocol is needed, and the checker sees when it is missing."""
    with applied(name), pytest.raises(Violation):
        _play_until_it_breaks()


def _play_until_it_breaks() -> None:
    for scenario in SCENARIOS:
        play_scenario(scenario)
    for scenario in SCENARIOS:
        for plan in lost_handoffs(scenario):
            play_lost_handoff(scenario, plan)
    for seed in range(_PATIENCE):
        play_random(seed)


def test_there_are_mutants_enough() -> None:
    """Fewer would leave parts of the protocol unproved."""
    assert len(MUTANTS) >= 25
