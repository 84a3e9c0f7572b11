"""Tables on a terminal: columns where there is room, then sentences beneath their rows, then a block for each row."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relayq_core.cli import output
from relayq_core.cli.output import (
    Column,
    complain,
    print_details,
    print_json,
    print_table,
    render_text,
    say,
    show_traceback,
)
from tests.support.harmless import is_harmless

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
    """It is not squeezed into a column of 13 characters, eight lines high."""
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


# ---------------------------------------------------------------- whatever a terminal would obey

EVIL = "".join(
    map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x200E, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xD800])
)


def _raise(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        show_traceback()


PRINTED: dict[str, Callable[[str], object]] = {
    "say": lambda text: say(text, style="red"),
    "complain": lambda text: complain("error", text),
    "print_json": lambda text: print_json({text: [text]}),
    "print_table": lambda text: print_table(COLUMNS, [(text, text, text, text)], styles={text: "red"}),
    "print_details": lambda text: print_details([(text or "name", text), ("block", f"a\n{text}")]),
    "show_traceback": _raise,
    "as_text": lambda text: print(render_text(text).plain),
}


@pytest.mark.parametrize("fancy", [False, True])
@pytest.mark.parametrize("name", PRINTED)
@given(text=st.text(st.one_of(st.sampled_from(EVIL + "[bold]\\"), st.characters()), max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_reaches_the_terminal_as_a_command(
    name: str, fancy: bool, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unique keys, payloads and results are what a stranger may have typed: not one of them moves the cursor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "is_fancy", lambda stream: fancy)
        patch.setenv("COLUMNS", "40")
        capsys.readouterr()
        PRINTED[name](text)
    shown = capsys.readouterr()
    assert [char for char in shown.out + shown.err if not is_harmless(char)] == []


def test_json_is_the_same_after_its_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs nothing is lost."""
    sent = {"text": EVIL + "\U0010ffff\ufffe"}
    print_json(sent)
    assert json.loads(capsys.readouterr().out) == sent


def test_markup_of_the_terminals_library_is_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`[link=...]` in a key is no link."""
    monkeypatch.setattr(output, "is_fancy", lambda stream: True)
    text = "[bold]x[/] [link=https://evil.example]y[/link] :boom: [/]"
    say(text)
    complain("error", text)
    print_details([("key", text)])
    shown = capsys.readouterr()
    assert shown.out.count(text) == 2
    assert shown.err.count(text) == 1
    assert render_text(text).plain == text
