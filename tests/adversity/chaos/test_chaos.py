"""Jobs on the deployed stack, while runners and sweepers are killed and stopped and calls get lost."""

from __future__ import annotations

import pytest

from tests.adversity.chaos.figures import figures, missing
from tests.adversity.chaos.history import History
from tests.adversity.chaos.laws import LAWS, Law

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.replace("_", " "))
def test_whatever_dies_this_law_holds(history: History, law: Law) -> None:
    """A breach is reported with the story of its job, and the command that runs it again."""
    breaches = list(law(history))
    stories = "\n\n".join(f"{breach.what}:\n{history.story(breach.job_id)}" for breach in breaches[:3])
    assert not breaches, f"{len(breaches)} times: {law.__doc__}\n{stories}"


def test_the_nemesis_has_done_all_it_can(history: History) -> None:
    """A run in which a fault never happened proves nothing about it."""
    assert not missing(figures(history)), history.again
    assert history.defects == []
