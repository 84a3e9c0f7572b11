"""Which characters a terminal, a log and an encoder can take, as Unicode's own tables have it."""

from __future__ import annotations

import unicodedata

#: Unicode's classes of characters that turn the text around them, marks included.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_MARKS = frozenset({"ARABIC LETTER MARK", "LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK"})


def is_harmless(char: str) -> bool:
    """It is a newline, a tab, or no control, no bidirectional control, no separator of lines, and can be encoded."""
    if char in "\n\t":
        return True
    if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or _is_noncharacter(ord(char)):
        return False
    return unicodedata.bidirectional(char) not in _TURNING and unicodedata.name(char, "") not in _MARKS


def _is_noncharacter(point: int) -> bool:
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
