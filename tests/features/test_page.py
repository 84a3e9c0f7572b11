"""The page of features: every row has its place and its test, and every test its row."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| `(test_row_(\d\d)_\w+)` \|$", re.MULTILINE)


def test_every_row_names_where_it_lives_and_the_test_that_is_named_after_it() -> None:
    """All 57, in order; nothing is listed that is not there."""
    rows = ROW.findall((ROOT / "docs/reference/seed-features.md").read_text())
    assert [int(number) for number, *_ in rows] == list(range(1, 58))
    defined = [
        name
        for path in sorted((ROOT / "tests/features").glob("test_*.py"))
        for name in re.findall(r"^def (test_row_\w+)\(", path.read_text(), re.MULTILINE)
    ]
    assert sorted(test for _, _, _, test, _ in rows) == sorted(defined)
    for number, _, where, _, in_name in rows:
        assert int(number) == int(in_name)
        for path in re.findall(r"`([^`]+)`", where):
            assert (ROOT / path).exists(), path
