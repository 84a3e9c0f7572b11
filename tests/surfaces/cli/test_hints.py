"""Words of other tools: the command line answers them with its own command."""

from __future__ import annotations

import pytest

from relayq_core.cli.hints import OTHER_WORDS
from relayq_core.cli.main import main

WORDS = [
    ([] if group == "relayq" else [group], word, line)
    for group, lines in OTHER_WORDS.items()
    for line, words in lines.items()
    for word in words.split()
]


@pytest.mark.parametrize(("group", "word", "line"), WORDS, ids=[f"{line}: {word}" for _, word, line in WORDS])
def test_the_word_of_another_tool_is_answered_with_the_command_to_use(
    group: list[str], word: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*group, word]) == 2
    assert f"No such command '{word}'. Did you mean '{line}'?" in capsys.readouterr().err


@pytest.mark.parametrize("line", sorted({line for _, _, line in WORDS}))
def test_every_command_that_a_hint_names_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line.split()[1:], "--help"]) == 0
    capsys.readouterr()


def test_every_summary_fits_into_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """In 80 columns a longer one would be wrapped or cut."""
    assert main(["--help"]) == 0
    commands = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(commands) == 19
    assert [line for line in commands if "..." in line] == []
