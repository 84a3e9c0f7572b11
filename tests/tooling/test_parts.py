"""What CI runs: every test somewhere, budgets that fit into its time, and one line that counts all of it."""

from __future__ import annotations

import io
import re
from collections import Counter

import pytest

from tests import parts
from tests.parts import CORE, DEPLOYED, Outcome, Part, closing, counted
from tests.support import pythons
from tests.support.paths import ROOT

#: What CI may take, in seconds.
WHOLE = 40 * 60


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The Pythons that are here; all of them, unless a test takes some away."""
    here = set(pythons.VERSIONS)
    monkeypatch.setattr(pythons, "is_ready", lambda version: version in here)
    return here


def commands() -> list[str]:
    """As CI runs them."""
    return [" ".join(part.command[2:]) for part in parts.parts()]


def test_all_budgets_together_are_within_what_ci_may_take(usable: set[str]) -> None:
    assert sum(part.budget for part in parts.parts()) <= WHOLE


def test_the_python_that_is_deployed_has_the_whole_suite_and_the_oldest_and_newest_its_core(usable: set[str]) -> None:
    assert f"test ON={DEPLOYED}" in commands()
    assert {f"test ARGS={CORE}", f"test ON=3.14 ARGS={CORE}"} <= set(commands())
    assert f"Default: python{DEPLOYED}" in (ROOT / "template.yaml").read_text()


def test_without_that_python_the_whole_suite_runs_on_the_one_there_is_and_it_is_said(
    usable: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    usable.discard(DEPLOYED)
    assert "test" in commands()
    assert f"Python {DEPLOYED}, which the template deploys, is not to be had here" in capsys.readouterr().out


def test_each_part_is_a_target_that_make_help_shows(usable: set[str]) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {part.name for part in parts.parts()} <= targets


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("5990 passed, 11 skipped in 957.66s (0:15:57)\n", {"passed": 5990, "skipped": 11}),
        ("== 1 failed, 2 passed, 1 error in 0.10s ==\n", {"failed": 1, "passed": 2}),
        ("3 errors in 1.00s\n", {"failed": 3}),
        ("303048 passed, 0 failed\n", {"passed": 303048, "failed": 0}),
        ("of 12 passed by\n", {}),
        ("2,000 random schedules\n", {}),
    ],
)
def test_the_closing_line_of_a_runner_is_read(line: str, counts: dict[str, int]) -> None:
    if "error in" in line:
        counts = {**counts, "failed": 1}
    assert counted(line) == Counter(counts)


def test_the_last_line_counts_the_tests_of_all_parts_and_parts_that_failed_without_one() -> None:
    part = Part("x", 10)
    outcomes = [
        Outcome(part, 0, 1, Counter(passed=3, skipped=1)),
        Outcome(part, 1, 1, Counter(passed=2, failed=2)),
        Outcome(part, 2, 1),
    ]
    assert closing(outcomes) == "5 passed, 3 failed, 1 skipped"


def test_a_part_over_its_budget_is_warned_of_and_does_not_fail() -> None:
    late = Outcome(Part("x", 60), 0, 61)
    assert str(late).split() == ["x", "1:01", "of", "1:00", "ok", "WARNING:", "over", "its", "budget"]
    assert "WARNING" not in str(Outcome(Part("x", 60), 0, 60))


def test_a_part_is_run_and_its_output_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "command", ["sh", "-c", "echo hello; echo 2 passed, 1 failed; exit 1"])
    out = io.StringIO()
    outcome = parts.run(Part("x", 60), out)
    assert "hello\n2 passed, 1 failed\n" in out.getvalue()
    assert (outcome.status, outcome.counts) == (1, Counter(passed=2, failed=1))
