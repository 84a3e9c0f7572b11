"""The source keeps to docs/STYLE.md, as far as that can be counted."""

from __future__ import annotations

from pathlib import Path

from tests.style import ceilings, measure
from tests.style.figures import idioms_by_room, measure_all
from tests.style.words import IDIOM


def test_every_figure_keeps_its_bound() -> None:
    """`make style` prints them all; `python -m tests.style FOLDER` lists what to mend."""
    assert [f"{figure.name}: {figure.value:g}, {figure.rule}" for figure in measure_all() if not figure.holds] == []


def test_no_folder_holds_more_idioms_than_its_ceiling() -> None:
    """A room that has been cleaned stays clean, whatever the average of the others is."""
    allowed = ceilings.read()
    too_many = {room: n for room, n in idioms_by_room().items() if n > allowed.get(room, 0)}
    assert too_many == {}, "docs/STYLE.md says what to write instead"


def test_a_ceiling_falls_and_never_rises() -> None:
    """What was mended once cannot come back unseen."""
    assert ceilings.lower({"a": 5, "b": 2, "c": 1}, {"a": 3, "b": 7, "d": 9}) == {"a": 3, "b": 2}


def test_a_page_is_measured_without_its_code_and_without_the_words_it_warns_of() -> None:
    """docs/STYLE.md has to name the words, and a block of code may hold any."""
    page = measure.ROOT / "docs/STYLE.md"
    assert measure.prose_of_page(page).idioms == ()
    assert IDIOM.findall(page.read_text(encoding="utf-8"))


def test_messages_are_measured_apart_from_docstrings() -> None:
    """What a user sees is read more often than what a maintainer sees."""
    here = Path(__file__)
    assert "nobody" in measure.messages_of_python(here).idioms
    assert "nobody" not in measure.prose_of_python(here).idioms


def test_options_of_a_command_do_not_count_as_its_body() -> None:
    """A typer command spells out each option with its help."""
    functions = measure.functions([measure.ROOT / "relayq_core/cli/work.py"])
    assert max(function.lines for function in functions) < measure.LONGEST_FUNCTION
