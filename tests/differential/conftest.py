"""The figures of the comparison are printed below the results."""

from __future__ import annotations

from tests.figures import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
