"""How much to simulate, and which schedule to play again."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/adversity/simulation --sim-seed N` plays one schedule again and prints its history."""
    parser.addoption("--sim-seed", type=int, default=None, help="play this random schedule alone")
    parser.addoption("--sim-schedules", type=int, default=2_000, help="how many random schedules to play")
