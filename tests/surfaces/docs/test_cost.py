"""What the pages say of money is what docs/cost.py makes of units and prices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from docs import cost
from relayq_core import Settings
from relayq_core.model.record import SHARDS
from tests.support.paths import ROOT


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/costs-and-limits.md"])
def test_the_tables_are_the_scripts(page: str) -> None:
    """`python docs/cost.py --write` mends it."""
    text = (ROOT / page).read_text()
    assert cost.render_page(ROOT / page) == text
    assert cost.render_tables() in text


def test_a_plain_job_is_units_times_prices() -> None:
    """By hand: five write units, a request, 10 ms of half a gigabyte, 650 bytes of log, 1 KB for a week."""
    by_hand = 5 * 0.625 + 0.20 + 0.0000133334e6 * 0.5 * 0.01 + 0.65 * 0.5 + 1.024 * 7 / 30 * 0.25
    assert math.isclose(cost.list_jobs()[0].usd, by_hand)


def test_sleeping_is_the_dearest_thing_to_do() -> None:
    """As the README says plainly: a second of half a gigabyte, a million times."""
    lines = {line.what: line.usd for line in [*cost.list_jobs(), *cost.list_others()]}
    assert math.isclose(lines["a delay of 30 s"] - lines["RelayQ: succeeds at once"], 30 * 6.6667)
    assert max(lines, key=lambda what: lines[what]) == "a delay of 30 s"


def test_every_price_names_its_page() -> None:
    """It says whether it was read there, or only quoted elsewhere."""
    for name, price in cost.read_prices()["prices"].items():
        assert price["source"].startswith("https://"), name
        assert isinstance(price["first_hand"], bool)


def test_what_is_taken_from_the_template_and_the_settings_is_so() -> None:
    """Memory, retention and shards: a change of a default changes the price."""

    class Loader(yaml.SafeLoader):
        """CloudFormation's tags mean nothing here."""

    def ignored(loader: Any, suffix: str, node: yaml.Node) -> None: ...

    yaml.add_multi_constructor("!", ignored, Loader)
    parameters: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), Loader)["Parameters"]
    assert parameters["RunnerMemory"]["Default"] / 1024 == cost.RUNNER_GB
    assert parameters["SweeperMemory"]["Default"] / 1024 == cost.SWEEPER_GB
    settings = Settings(jobs_table="jobs")
    assert settings.retention_seconds / 86_400 / 30 == cost.WEEK_OF_MONTH
    assert settings.lookahead_seconds / 60 == cost.SWEEPERS
    assert SHARDS / 2 == cost.IDLE_QUERIES
