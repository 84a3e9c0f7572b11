"""Secrets in payloads and errors, hidden from whoever looks over a shoulder: by name, and by look."""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "••••••"
#: Names whose value nobody needs to see, alone or as a part of a name: `apiKey`, `db_password`, `X-Auth-Token`.
_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|authorization"
    r"|(?:api|access|account|auth|client|encryption|license|master|private|service|shared|signing|ssh|storage)[-_ ]?key"
    r"|credential|cookie|signature|session[-_ ]?id|card[-_ ]?number|iban|(?:o|basic|http|proxy)[-_ ]?auth(?![a-z])"
    r"|(?<![a-z])(?:pass|pin|otp|cvv|cvc|ssn|auth|sig)(?![a-z]))"
)
_NAMES = re.compile(_NAME, re.IGNORECASE)
#: How keys begin that say whose they are: GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, Hugging Face, and so on.
_BEGINNINGS = (
    r"(?:gh[opsur]_|github_pat_|glpat-|xox[a-z]-|xapp-|[rs]k_(?:live|test)_|whsec_|sk-|npm_|pypi-|hf_|dop_v1_|shp(?:at|ss)_"
    r"|SG\.|AIza|ya29\.|EAACEdEose0cBA)"
)
#: `Bearer abc`, `Basic abc`, a JSON Web Token, keys that say whose they are, AWS access keys, private keys in PEM, user
#: and password in a URL, `--token abc`. None looks further than its own word or two: the time grows with the text, not
#: with its square.
_LOOKS = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    # begins where the word does, and only where two dots follow: each word is looked at once
    r"|(?<![\w-])(?=[\w-]++\.[\w-]++\.)(?P<lead>[\w-]*?)\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    rf"|(?<![\w-])(?P<beginning>{_BEGINNINGS})[\w.-]{{10,}}"
    r"|-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"[^-]*+(?:-(?!----END )[^-]*+)*+(?:-----END [A-Z0-9 ]{1,40}-----)?"
    # a port and a path are no password, though an @ follows
    r"|(?P<url>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@:]{0,200}:(?!\d{1,5}[/?#])[^\s\"'<>]{1,200}(?=@)"
    r"|(?P<flag>(?<![\w-])--(?:[a-z]+-){0,3}(?:password|passwd|secret|token|key)\s)\s{0,3}[^\s-]\S*",
    re.IGNORECASE,
)
#: What follows a name that is not the end of a sentence: one word alone, or one that no language has.
_NO_PROSE = r"(?:[^\s\"',;)<>]{1,200}(?=\s{0,3}(?:[\r\n,;)]|\Z))|(?=[^\s,;]{0,100}[0-9!@#$%^&*])[^\s,;\"'<>]+)"
#: A name and its value within a text: in JSON or a dict, also one that was made a text again; in an address or a form;
#: in a header, in a pair, in an element. A name alone is none: `token: expected a string` says nothing.
_PAIRS = re.compile(
    rf"{_NAME}[\w.-]{{0,40}}+(?:"
    r"(?P<double>[\"']\s{0,3}:\s{0,3}[bBfFrRuU]?\")(?:[^\"\\]|\\.)*"
    r"|(?P<single>[\"']\s{0,3}:\s{0,3}[bBfFrRuU]?')(?:[^'\\]|\\.)*"
    r"|(?P<escaped>\\{1,4}[\"']\s{0,3}:\s{0,3}\\{1,4}[\"'])[^\"'\\]*"
    r"|(?P<number>\\{0,4}[\"']\s{0,3}:\s{0,3})[0-9][\w.]*"
    # two in brackets are a pair, more are a list of words
    r"|(?P<pair>[\"']\s{0,3},\s{0,3}[bBuU]?[\"'])[^\"']{1,400}(?=[\"']\s{0,3}[)\]])"
    r"|(?P<form>\s{0,3}=\s{0,3}[\"']?)[^\s&\"'<>,;=]+"
    r"|(?P<element>>)[^<>]{1,400}(?=</)"
    r"|(?P<header>(?:(?<=authorization)|(?<=cookie)|(?<=-key)|(?<=-token))\s{0,3}:\s{0,3})[^\s\"'][^\r\n\"']*"
    rf"|(?P<prose>\s{{0,3}}:\s{{1,3}}){_NO_PROSE}"
    r")",
    re.IGNORECASE,
)
#: As headers and variables are often written: what names the value, and the value.
_NAMING, _NAMED = frozenset({"name", "key", "header", "field", "variable", "k", "n"}), frozenset({"value", "val", "v"})
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
        return [_hidden_if(_is_named_before(value, n), found, depth) for n, found in enumerate(value)]
    return masked_text(value) if isinstance(value, str) else value


def _hidden_if(is_secret: bool, value: Any, depth: int) -> Any:
    return MASK if is_secret and value is not None else masked(value, depth + 1)


def _is_secret(key: Any, beside: dict[Any, Any]) -> bool:
    """Whether this key's value is one, by its own name or by the one that stands beside it."""
    if _NAMES.search(str(key)):
        return True
    return str(key).lower() in _NAMED and any(
        _is_name(value) for naming, value in beside.items() if str(naming).lower() in _NAMING
    )


def _is_named_before(pairs: list[Any], place: int) -> bool:
    """Whether a text in a list of names and values, one after the other, is the value of a secret."""
    is_value = place % 2 == 1 and len(pairs) % 2 == 0 and isinstance(pairs[place], str)
    return is_value and _is_name(pairs[place - 1])


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
