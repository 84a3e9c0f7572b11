"""Domain names in ASCII, as DNS has them, for jobs that connect or send mail to one."""

from __future__ import annotations

import re
import unicodedata

#: What browsers, and Python's codec, accept as a dot between two labels.
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
#: Letters that IDNA 2003 replaces or drops, and that make a different name since IDNA 2008.
_DEVIATIONS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")
#: Invisible characters, which newer rules drop: fillers, inherent vowels, variation selectors.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180f\u3164\uffa0") | {
    chr(code) for code in range(0xE0100, 0xE01F0)
}
#: Descriptions of ideographs, which no name may contain; Python knows the newest of them from 3.13 on.
_DESCRIPTIONS = frozenset(map(chr, (*range(0x2FF0, 0x3000), 0x31EF)))
_NEVER = _UNSEEN | _DESCRIPTIONS
#: DNS has no longer names, and the codec's time grows with the square of a label's length.
_MOST_CHARS, _MOST_OF_A_LABEL = 253, 63
#: The ASCII characters that a host may contain; anything else in a mapped label is a delimiter in disguise.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class UnsafeDomain(ValueError):
    """The domain has no ASCII form, or more than one: older and newer rules name different hosts."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"the domain {domain[:100]!r} has no unambiguous ASCII form; give it in its xn-- form "
            "(as the owner of the domain, or a browser's address bar, shows it)"
        )


def encode_domain(domain: str) -> str:
    """Return the domain in Punycode and lower case; an ASCII domain only changes its case.

    Python's codec follows IDNA 2003 and Unicode 3.2, browsers follow UTS 46: for some letters (`ß`, `ς`, the joiners,
    all later additions to Unicode) the two name different hosts, which may belong to different people. Raises
    UnsafeDomain for these, and if it is not a domain.
    """
    if domain.isascii():
        return domain.lower()
    try:
        if len(domain) > _MOST_CHARS:
            raise UnicodeError
        return ".".join(_encode_label(label) for label in _DOTS.split(domain))
    except UnicodeError:
        raise UnsafeDomain(domain) from None


def _encode_label(label: str) -> str:
    if label.isascii():
        return label.lower()
    if len(label) > _MOST_OF_A_LABEL:
        raise UnicodeError
    written = label.encode("idna").decode("ascii").lower()
    if not _DEVIATIONS.isdisjoint(label) or _map_label(label) != written.encode().decode("idna"):
        raise UnicodeError
    return written


def _map_label(label: str) -> str:
    """Return the label by today's Unicode, folded and composed. Raises UnicodeError for what no host may contain."""
    mapped = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    if not all(map(_is_letter_like, mapped)):
        raise UnicodeError
    return mapped


def _is_letter_like(char: str) -> bool:
    """Return whether a character is visible, known, and neither a blank nor a delimiter."""
    if char.isascii():
        return char in _PLAIN
    return unicodedata.category(char)[0] not in "CZ" and char not in _NEVER
