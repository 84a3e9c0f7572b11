"""Figures that tests print at the end of a run: how much was tried, and what came of it."""

from __future__ import annotations

from typing import Any

import pytest

_FIGURES = "figures"
_figures: list[str] = []


def tell(figure: str) -> None:
    """Print this line below the results."""
    _figures.append(figure)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of `-n` hands its figures to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_FIGURES] = list(_figures)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take them there. A process that crashed has none."""
    _figures.extend(getattr(node, "workeroutput", {}).get(_FIGURES, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what there is by now."""
    if _figures:
        terminalreporter.section("figures")
        for figure in _figures:
            terminalreporter.write_line(figure)
        _figures.clear()
