"""The benchmark judges rightly. Nothing here asserts how long anything takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import table
from benchmarks.aws import build_relayq, set_environment, start_stand
from benchmarks.dispatching import make_dispatch
from benchmarks.measuring import CONTROL, calculate_net_ratio, compare
from benchmarks.rows import Row, Verdict

ROW = Row("Dispatch", "a thing", "the least", 1.05, goal=1.10)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.MET),
        ({"value": 1.11}, Verdict.MISSED),
        ({"goal": None}, Verdict.NO_GOAL),
        ({"value": None}, Verdict.SKIPPED),
        ({"value": 2, "goal": 2, "exact": True}, Verdict.MET),
        ({"value": 1, "goal": 2, "exact": True}, Verdict.MISSED),
        ({"unit": "× CPU"}, Verdict.NEAR),
        ({"unit": "× wall", "value": 1.188}, Verdict.NEAR),
        ({"unit": "× CPU", "value": 1.19}, Verdict.MISSED),
        ({"unit": "× CPU", "value": 1.01}, Verdict.MET),
        ({"unit": "× CPU", "value": 1.01, "control": 0.9}, Verdict.VOID),
        ({"control": 1.03}, Verdict.MET),
        ({"control": 0.96}, Verdict.VOID),
        ({"value": 9, "control": 1.04}, Verdict.VOID),
    ],
)
def test_a_row_is_judged_by_its_goal_unless_its_base_was_not_equal_to_itself(
    changes: dict[str, Any], verdict: Verdict
) -> None:
    """Less than the goal is as wrong as more, where it was to be exact; times that are near it prove nothing."""
    assert dataclasses.replace(ROW, **changes).verdict is verdict


def test_every_variant_runs_between_two_batches_of_the_base() -> None:
    """The base is measured against itself beside them."""
    order: list[str] = []
    found = compare(lambda: order.append("base"), {"x": lambda: order.append("x")}, rounds=2, batch=1)
    assert list(found) == [CONTROL, "x"]
    warm, measured = order[:4], order[4:]
    assert warm == ["base", "base", "x", "x"]
    assert measured == ["base", *["base", "base", "x", "base"] * 2]


def test_a_start_is_compared_turn_by_turn_less_what_the_interpreter_takes() -> None:
    """A turn in which everything was slow is as good as another."""
    spent = {"bare": [10.0, 10.0, 10.0], "base": [110.0, 210.0, 110.0], "mine": [35.0, 60.0, 90.0]}
    assert calculate_net_ratio(spent, "mine", "base", "bare") == 0.25


def test_a_run_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page gets the table between its marks, and keeps its own words."""
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- written by make bench -->\nold\n<!-- end -->\nAfter.\n")
    monkeypatch.setattr(table, "PAGE", page)
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results.json")
    void = dataclasses.replace(ROW, name="another", spread=(1.0, 1.1), control=1.2)
    run = table.Run("2026-01-01", "3.11", "1.40", "a machine", full=True, minutes=9.6, rows=(ROW, void))
    table.write(run)
    assert table.read() == run
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("<!-- end -->\nAfter.\n")
    assert "| a thing | the least | 1.05 × | ≤ 1.10 × | yes |  |" in text
    assert "| another | the least | 1.05 × (1.00 to 1.10) | ≤ 1.10 × | void |  |" in text
    assert "The run is void" in text
    assert "old" not in text


def test_the_page_shows_the_run_that_is_kept() -> None:
    """No number is edited by hand."""
    if not table.RESULTS.exists():
        pytest.skip("make bench has not been run to its end yet")
    page = table.PAGE.read_text()
    assert table.replace_table(page, table.read()) == page
    assert json.loads(table.RESULTS.read_text())["full"]


def test_the_stand_in_counts_connections_and_answers_a_dispatch() -> None:
    """So that what is counted with it is right: two clients, two connections."""
    with start_stand() as aws, set_environment(aws.environ):
        made = build_relayq()
        before = aws.connections()
        for _ in range(5):
            make_dispatch(made)()
        assert aws.connections() - before - 1 == 2
