"""Each promise of the README names the laws that hold it, and the page on reliability has them as the code does."""

import re

from tests.adversity.simulation.laws import LAWS, PARTS, as_list, as_table, judged_by
from tests.adversity.simulation.mutants import MUTANTS
from tests.adversity.simulation.scenarios import SCENARIOS
from tests.support.paths import ROOT

_PAGE = (ROOT / "docs" / "explanation" / "reliability.md").read_text()
_README = (ROOT / "README.md").read_text()
#: `[laws 3, 14](docs/explanation/reliability.md#the-laws)`
_NAMED = re.compile(r"\[laws? ([\d, ]+)\]\(docs/explanation/reliability\.md#the-laws\)")


def _promised() -> set[int]:
    return {int(number) for numbers in _NAMED.findall(_README) for number in numbers.split(",")}


def test_every_law_has_a_judge_and_no_judge_holds_what_is_no_law() -> None:
    """A sentence that nothing judges is no law."""
    assert set(judged_by()) == set(LAWS)


def test_the_readme_names_laws_that_exist() -> None:
    """Else its promise would rest on nothing."""
    assert _promised() <= set(LAWS)


def test_every_law_is_reached_from_a_promise_or_says_what_it_is_for() -> None:
    """No law is both."""
    assert _promised() == {number for number, law in LAWS.items() if law.internal is None}


def test_each_promise_names_a_law() -> None:
    """Every point of what is guaranteed."""
    guaranteed = _README.split("## What it guarantees")[1].split("| If …")[0]
    points = re.split(r"^- ", guaranteed, flags=re.MULTILINE)[1:]
    assert [point[:40] for point in points if not _NAMED.search(point)] == []
    assert len(points) >= 8


def test_the_page_has_the_laws_the_parts_and_their_numbers_as_the_code_has_them() -> None:
    """`python -m tests.adversity.simulation --laws` prints both."""
    assert as_table() in _PAGE
    assert as_list() in _PAGE
    figures = f"| laws, parts, base scenarios, mutants | {len(LAWS)}, {len(PARTS)}, {len(SCENARIOS)}, {len(MUTANTS)} |"
    assert figures in _PAGE
    assert f"{len(MUTANTS)} ways" in _PAGE
