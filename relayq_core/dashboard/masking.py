"""Hide secrets in payloads and errors from people who see the screen: by the name of a value, and by its form."""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "••••••"
#: Names whose value is a secret, alone or as a part of a name: `apiKey`, `db_password`, `X-Auth-Token`.
_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|authorization"
    r"|(?:api|access|account|auth|client|encryption|license|master|private|service|shared|signing|ssh|storage)[-_ ]?key"
    r"|credential|cookie|signature|session[-_ ]?id|card[-_ ]?number|iban|(?:o|basic|http|proxy)[-_ ]?auth(?![a-z])"
    r"|(?<![a-z])(?:pass|pin|otp|cvv|cvc|ssn|auth|sig)(?![a-z]))"
)
_NAMES = re.compile(_NAME, re.IGNORECASE)
#: Beginnings by which an issuer marks its keys: GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, Hugging Face, ...
_BEGINNINGS = (
    r"(?:gh[opsur]_|github_pat_|glpat-|xox[a-z]-|xapp-|[rs]k_(?:live|test)_|whsec_|sk-|npm_|pypi-|hf_|dop_v1_|shp(?:at|ss)_"
    r"|SG\.|AIza|ya29\.|EAACEdEose0cBA)"
)
#: `Bearer abc`, `Basic abc`, a JSON Web Token, keys with a known beginning, AWS access keys, private keys in PEM, user
#: and password in a URL, `--token abc`. No alternative looks further than its own word or two: the time grows with the
#: length of the text, not with its square.
_LOOKS = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    # matches at the start of a word only, and only if two dots follow: each word is tried once
    r"|(?<![\w-])(?=[\w-]++\.[\w-]++\.)(?P<lead>[\w-]*?)\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    rf"|(?<![\w-])(?P<beginning>{_BEGINNINGS})[\w.-]{{10,}}"
    r"|-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"[^-]*+(?:-(?!----END )[^-]*+)*+(?:-----END [A-Z0-9 ]{1,40}-----)?"
    # a port and a path are not a password, even if an @ follows
    r"|(?P<url>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@:]{0,200}:(?!\d{1,5}[/?#])[^\s\"'<>]{1,200}(?=@)"
    r"|(?P<flag>(?<![\w-])--(?:[a-z]+-){0,3}(?:password|passwd|secret|token|key)\s)\s{0,3}[^\s-]\S*",
    re.IGNORECASE,
)
#: A value in prose: a single word up to the end of the clause, or one with digits or signs that no language uses.
_NO_PROSE = r"(?:[^\s\"',;)<>]{1,200}(?=\s{0,3}(?:[\r\n,;)]|\Z))|(?=[^\s,;]{0,100}[0-9!@#$%^&*])[^\s,;\"'<>]+)"
#: A name and its value within a text: in JSON or a dict, even JSON within a JSON string; in an address or a form; in a
#: header, in a pair, in an element. A name alone does not count: `token: expected a string` has no secret in it.
_PAIRS = re.compile(
    rf"{_NAME}[\w.-]{{0,40}}+(?:"
    r"(?P<double>[\"']\s{0,3}:\s{0,3}[bBfFrRuU]?\")(?:[^\"\\]|\\.)*"
    r"|(?P<single>[\"']\s{0,3}:\s{0,3}[bBfFrRuU]?')(?:[^'\\]|\\.)*"
    r"|(?P<escaped>\\{1,4}[\"']\s{0,3}:\s{0,3}\\{1,4}[\"'])[^\"'\\]*"
    r"|(?P<number>\\{0,4}[\"']\s{0,3}:\s{0,3})[0-9][\w.]*"
    # two strings in brackets are a pair; more are a list of words
    r"|(?P<pair>[\"']\s{0,3},\s{0,3}[bBuU]?[\"'])[^\"']{1,400}(?=[\"']\s{0,3}[)\]])"
    r"|(?P<form>\s{0,3}=\s{0,3}[\"']?)[^\s&\"'<>,;=]+"
    r"|(?P<element>>)[^<>]{1,400}(?=</)"
    r"|(?P<header>(?:(?<=authorization)|(?<=cookie)|(?<=-key)|(?<=-token))\s{0,3}:\s{0,3})[^\s\"'][^\r\n\"']*"
    rf"|(?P<prose>\s{{0,3}}:\s{{1,3}}){_NO_PROSE}"
    r")",
    re.IGNORECASE,
)
#: Keys of objects that hold one name and one value, as headers and variables are often written.
_NAMING, _NAMED = frozenset({"name", "key", "header", "field", "variable", "k", "n"}), frozenset({"value", "val", "v"})
#: Characters of JSON that are shown. A function may return 6 MB, in which a character can take up twelve bytes; and
#: indentation makes deeply nested JSON many times as long.
MAX_SHOWN = 200_000
_WHOLE = "relayq status ID --json shows all of them"
#: Levels of nesting that are shown: a payload may be nested as deep as JSON allows.
_MAX_DEPTH = 40


def mask_secrets(value: Any, depth: int = 0) -> Any:
    """Return the JSON value with secrets replaced at every level."""
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {key: _mask_if(_is_secret(key, value), item, depth) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask_if(_is_named_before(value, n), item, depth) for n, item in enumerate(value)]
    return mask_text(value) if isinstance(value, str) else value


def _mask_if(is_secret: bool, value: Any, depth: int) -> Any:
    return MASK if is_secret and value is not None else mask_secrets(value, depth + 1)


def _is_secret(key: Any, siblings: dict[Any, Any]) -> bool:
    """Whether this key's value is a secret, by its own name or by the name that a sibling holds."""
    if _NAMES.search(str(key)):
        return True
    return str(key).lower() in _NAMED and any(
        _is_name(value) for sibling, value in siblings.items() if str(sibling).lower() in _NAMING
    )


def _is_named_before(pairs: list[Any], place: int) -> bool:
    """Whether a text is the value of a secret in a list where names and values alternate."""
    is_value = place % 2 == 1 and len(pairs) % 2 == 0 and isinstance(pairs[place], str)
    return is_value and _is_name(pairs[place - 1])


def _is_name(value: Any) -> bool:
    """Whether this is a word that names a secret, and not a sentence about one."""
    return isinstance(value, str) and len(value) <= 40 and " " not in value and bool(_NAMES.search(value))


def mask_text(text: str) -> str:
    """Return the text with everything that looks like a secret replaced."""
    return _PAIRS.sub(_replace, _LOOKS.sub(_replace, text))


def _replace(match: re.Match[str]) -> str:
    """Keep the part of the match before the secret."""
    kept = 0 if match.lastgroup is None else match.end(match.lastgroup) - match.start()
    return match[0][:kept] + MASK


def cut_before_secrets(text: str) -> str:
    """Return the text up to the first secret: for links, which browsers and servers keep."""
    mask_secrets = mask_text(text)
    return mask_secrets.partition(MASK)[0].rstrip() if mask_secrets != text else text


def format_json(value: Any) -> str:
    """Return indented JSON with secrets replaced; after MAX_SHOWN characters it is cut, and a last line says so."""
    pieces: list[str] = []
    length = 0
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(mask_secrets(value)):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_SHOWN:
            return f"{''.join(pieces)[:MAX_SHOWN]}\n… only the first {MAX_SHOWN:,} characters are shown; {_WHOLE}"
    return "".join(pieces)
