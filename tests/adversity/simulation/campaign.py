"""Many schedules: every single fault and every pair of faults of the base scenarios, and random schedules beyond.

Schedules are spread over processes; what comes back is counted, and the first that broke a law is printed in full.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from relayq_core.model import record
from tests.adversity.simulation.faulty import faults_of, paired_faults_of
from tests.adversity.simulation.scenarios import (
    SCENARIOS,
    SMALL,
    lost_handoffs,
    play_lost_handoff,
    play_scenario,
    random_stage,
)

Plan = dict[int, str]
#: What one process plays at a time.
_SHARE = 250


@dataclass
class Report:
    """What a campaign found."""

    schedules: int = 0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: how to play the first broken schedules again, and their histories
    broken: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take in what another process found."""
        self.schedules += other.schedules
        self.hits += other.hits
        self.broken = (self.broken + other.broken)[:5]


def quietly() -> None:
    """The log lines of thousands of schedules help no reader; one shard keeps the sweeper's reads few."""
    logging.disable(logging.CRITICAL)
    record.SHARDS = 1


def single_faults(name: str) -> Iterator[Plan]:
    """Every fault at every call of a scenario, one at a time."""
    yield from _more_faults(name, {}, faults_of)


def pairs_after(name: str, first: Plan) -> Iterator[Plan]:
    """Every second fault at every call that comes after the first."""
    if not any(fault == "denied" for fault in first.values()):
        yield from _more_faults(name, first, paired_faults_of)


def _more_faults(name: str, plan: Plan, kinds: Callable[[str], tuple[str, ...]]) -> Iterator[Plan]:
    stage = play_scenario(name, plan)
    after = max(plan, default=-1)
    for number, site in enumerate(stage.faults.sites):
        if number > after:
            yield from ({**plan, number: fault} for fault in kinds(site))


def play_plans(name: str, plans: list[Plan], *, pairs: bool, every: int = 1) -> Report:
    """Play these plans of one scenario, and with `pairs` every n-th fault that may come after each."""
    quietly()
    report = Report()
    for number, plan in enumerate(plans):
        _play(report, name, plan)
        if pairs and name in SMALL and not report.broken:
            for second in islice(pairs_after(name, plan), number % every, None, every):
                _play(report, name, second)
    return report


def play_lost_handoffs(name: str) -> Report:
    """Each handoff of one scenario lost: only a tick can save its job, and does so in time."""
    quietly()
    report = Report()
    for plan in lost_handoffs(name):
        report.schedules += 1
        try:
            play_lost_handoff(name, plan)
        except AssertionError as violation:
            report.broken.append(f"scenario {name} with its handoff lost, {plan}: {violation}")
    return report


def _play(report: Report, name: str, plan: Plan) -> None:
    report.schedules += 1
    try:
        report.hits += play_scenario(name, plan).world.hits
    except AssertionError as violation:
        report.broken.append(f"scenario {name} with faults {plan}: {violation}")


def play_seeds(first: int, last: int) -> Report:
    """Random schedules of these seeds."""
    quietly()
    report = Report()
    for seed in range(first, last):
        report.schedules += 1
        stage = random_stage(seed)
        try:
            stage.play(minutes=stage.minutes)
        except AssertionError as violation:
            tail = "\n".join(stage.world.history[-80:])
            report.broken.append(f"--sim-seed {seed}: {violation}\n{tail}")
        report.hits += stage.world.hits
    return report


def every_fault(*, pairs: bool, every: int = 1, processes: int | None = None) -> Report:
    """Play all base scenarios with every single fault, and with `pairs` every two, or every n-th two."""
    quietly()
    report = Report()
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        shares = []
        for name in SCENARIOS:
            shares.append(pool.submit(play_lost_handoffs, name))
            plans = list(single_faults(name))
            size = 10 if pairs else _SHARE
            shares += [
                pool.submit(play_plans, name, plans[i : i + size], pairs=pairs, every=every)
                for i in range(0, len(plans), size)
            ]
        for share in shares:
            report.add(share.result())
    return report


def random_schedules(count: int, *, first: int = 0, processes: int | None = None) -> Report:
    """Play `count` random schedules, from this seed on."""
    report = Report()
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        shares = [
            pool.submit(play_seeds, seed, min(seed + _SHARE, first + count))
            for seed in range(first, first + count, _SHARE)
        ]
        for share in shares:
            report.add(share.result())
    return report


def never_hit(report: Report) -> list[str]:
    """Faults that never met a kind of call where they could have, made by any actor."""
    met: Counter[tuple[str, str]] = Counter()
    for (site, fault), hits in report.hits.items():
        met[_call(site), fault] += hits
    sites = {_call(site): site for site, _ in report.hits}
    return sorted(
        f"{fault} at {call}" for call, site in sites.items() for fault in faults_of(site) if not met[call, fault]
    )


def _call(site: str) -> str:
    """What is called at a site, like `claim`."""
    return site.partition(".")[2]
