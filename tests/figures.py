"""Figures that tests print at the end of a run: how much was tried, and what came of it."""

from __future__ import annotations

import pytest

_told: list[str] = []


def tell(figure: str) -> None:
    """Print this line below the results."""
    _told.append(figure)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each conftest that imports this hook prints what is there by then."""
    if _told:
        terminalreporter.section("figures")
        for figure in _told:
            terminalreporter.write_line(figure)
        _told.clear()
