"""Tables on a terminal: columns where there is room, then sentences beneath their rows, then a block for each row."""

from __future__ import annotations

import pytest

from relayq_core.cli import output
from relayq_core.cli.output import Column, print_table

CRASH = "JobCrashed: the runner of attempt 3 ended without settling: it was killed, or ran out of memory"
COLUMNS = (Column("id"), Column("name"), Column("attempts", right=True), Column("error", wide=True))
ROWS = [("01M89W6GTD9Y7ZDMCJ49PQXST7", "render", "3", CRASH), ("01M89W6GTD9Y7ZDMCJ49PQXST8", "ship", "12", "")]


def lines(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a terminal of this width shows of them."""
    monkeypatch.setattr(output, "is_fancy", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, ROWS)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_sentence_stands_beside_its_row_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 characters are enough to read it in."""
    shown = lines(76, monkeypatch, capsys)
    assert shown[0] == "ID                          NAME    ATTEMPTS  ERROR"
    assert shown[1].startswith("01M89W6GTD9Y7ZDMCJ49PQXST7  render         3  JobCrashed: the runner of")
    assert shown[-1] == "01M89W6GTD9Y7ZDMCJ49PQXST8  ship          12"


def test_a_sentence_without_room_stands_beneath_its_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not in a column of 13 characters, eight lines high."""
    assert lines(75, monkeypatch, capsys) == [
        "ID                          NAME    ATTEMPTS",
        "01M89W6GTD9Y7ZDMCJ49PQXST7  render         3",
        "  JobCrashed: the runner of attempt 3 ended without settling: it was",
        "  killed, or ran out of memory",
        "01M89W6GTD9Y7ZDMCJ49PQXST8  ship          12",
    ]


def test_a_row_without_room_is_a_block(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is cut: an id is there to be copied."""
    shown = lines(43, monkeypatch, capsys)
    assert shown[:4] == [
        "id        01M89W6GTD9Y7ZDMCJ49PQXST7",
        "name      render",
        "attempts  3",
        f"error     {CRASH}",
    ]
