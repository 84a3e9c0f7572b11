"""Secrets in payloads and errors, hidden from whoever looks over a shoulder: by name, and by look."""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "••••••"
#: Names whose value nobody needs to see, alone or as a part of a name: `apiKey`, `db_password`, `X-Auth-Token`.
_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|authorization|(?:api|access|private)[-_ ]?key|credential|cookie"
    r"|signature|session[-_ ]?id|card[-_ ]?number|iban|(?:o|basic|http|proxy)[-_ ]?auth(?![a-z])"
    r"|(?<![a-z])(?:pass|pin|otp|cvv|cvc|ssn|auth|sig)(?![a-z]))"
)
_NAMES = re.compile(_NAME, re.IGNORECASE)
#: `Bearer abc`, `Basic abc`, a JSON Web Token, an AWS access key, user and password in a URL. None looks further than
#: its own word or two: the time grows with the text, not with its square.
_LOOKS = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    # begins where the word does, and only where two dots follow: each word is looked at once
    r"|(?<![\w-])(?=[\w-]++\.[\w-]++\.)(?P<lead>[\w-]*?)\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?P<url>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@)",
    re.IGNORECASE,
)
#: A name and its value within a text: in JSON or a dict, also one that was made a text again; in an address or a form;
#: in a header. A name alone is none: `token: expected a string` says nothing.
_PAIRS = re.compile(
    rf"{_NAME}[\w.-]{{0,40}}(?:"
    r"(?P<double>[\"']\s{0,3}:\s{0,3}\")(?:[^\"\\]|\\.)*"
    r"|(?P<single>[\"']\s{0,3}:\s{0,3}')(?:[^'\\]|\\.)*"
    r"|(?P<escaped>\\{1,4}[\"']\s{0,3}:\s{0,3}\\{1,4}[\"'])[^\"'\\]*"
    r"|(?P<number>\\{0,4}[\"']\s{0,3}:\s{0,3})[0-9][\w.]*"
    r"|(?P<form>=[\"']?)[^\s&\"'<>,;]+"
    r"|(?P<header>(?:(?<=authorization)|(?<=cookie)|(?<=-key)|(?<=-token))\s{0,3}:\s{0,3})[^\s\"'][^\r\n\"']*"
    r")",
    re.IGNORECASE,
)
#: As headers and variables are often written: what names the value, and the value.
_NAMING, _NAMED = ("name", "key", "header"), "value"
#: Of JSON so many characters are shown. A function may answer with 6 MB, in which one can take up twelve bytes; and
#: indented, what is deeply nested is many times as long.
MOST_SHOWN = 200_000
_WHOLE = "relayq status ID --json has them all"
#: Deeper than this nothing is shown: a payload may be nested as deep as JSON allows.
_DEEPEST = 40


def masked(value: Any, depth: int = 0) -> Any:
    """The same value with secrets replaced, however deep they lie."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {key: _hidden_if(_is_secret(key, value), found, depth) for key, found in value.items()}
    if isinstance(value, list):
        is_pair = len(value) == 2 and isinstance(value[1], str) and _is_name(value[0])
        return [_hidden_if(is_pair and n == 1, found, depth) for n, found in enumerate(value)]
    return masked_text(value) if isinstance(value, str) else value


def _hidden_if(is_secret: bool, value: Any, depth: int) -> Any:
    return MASK if is_secret and value is not None else masked(value, depth + 1)


def _is_secret(key: Any, beside: dict[Any, Any]) -> bool:
    """Whether this key's value is one, by its own name or by the one that stands beside it."""
    if _NAMES.search(str(key)):
        return True
    return str(key).lower() == _NAMED and any(_is_name(beside.get(naming)) for naming in _NAMING)


def _is_name(value: Any) -> bool:
    """A word that names a secret, not a text which speaks of one."""
    return isinstance(value, str) and len(value) <= 40 and " " not in value and bool(_NAMES.search(value))


def masked_text(text: str) -> str:
    """A text without what looks like a secret."""
    return _PAIRS.sub(_before, _LOOKS.sub(_before, text))


def _before(found: re.Match[str]) -> str:
    """What stands before the secret stays."""
    kept = 0 if found.lastgroup is None else found.end(found.lastgroup) - found.start()
    return found[0][:kept] + MASK


def before_secrets(text: str) -> str:
    """A text up to what looks like a secret: for links, which browsers and servers keep."""
    return masked_text(text).partition(MASK)[0].rstrip() if masked_text(text) != text else text


def shown_json(value: Any) -> str:
    """JSON to look at, with secrets replaced; of very long JSON its beginning, and a line that says so."""
    pieces: list[str] = []
    length = 0
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(masked(value)):
        pieces.append(piece)
        length += len(piece)
        if length > MOST_SHOWN:
            return f"{''.join(pieces)[:MOST_SHOWN]}\n… only the first {MOST_SHOWN:,} characters are shown; {_WHOLE}"
    return "".join(pieces)
