"""The tables of a page."""

from __future__ import annotations

from pathlib import Path

from tests.support.paths import ROOT


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of each row of the table whose first column has this heading."""
    found: list[list[str]] = []
    inside = False
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if inside and cells and not set(cells[0]) <= {"-", ":"}:
            found.append(cells)
        inside = bool(cells) and (inside or cells[0] == heading)
    assert found, f"{page.relative_to(ROOT)} has no table headed {heading}"
    return found


def rows(page: Path, heading: str) -> dict[str, list[str]]:
    """The same by the name in the first cell, with the other cells."""
    return {name.strip("`"): cells for name, *cells in table(page, heading)}
