"""Secrets in payloads and errors, hidden from whoever looks over a shoulder: by name, and by look."""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "••••••"
#: Names whose value nobody needs to see, alone or as a part of a name: `apiKey`, `db_password`, `X-Auth-Token`.
_NAMES = re.compile(
    r"pass(word|wd|phrase|code)|pwd|secret|token|authorization|(api|access|private)[-_ ]?key|credential|cookie"
    r"|signature|session[-_ ]?id|card[-_ ]?number|iban|(?<![a-z])(pass|pin|otp|cvv|cvc|ssn)(?![a-z])",
    re.IGNORECASE,
)
#: `Bearer abc`, `Basic abc`, a JSON Web Token, an AWS access key, user and password in a URL.
_LOOKS = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?P<url>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@)",
    re.IGNORECASE,
)
#: Deeper than this nothing is shown: a payload may be nested as deep as JSON allows.
_DEEPEST = 40


def masked(value: Any, depth: int = 0) -> Any:
    """The same value with secrets replaced, however deep they lie."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {
            key: MASK if _NAMES.search(str(key)) and found is not None else masked(found, depth + 1)
            for key, found in value.items()
        }
    if isinstance(value, list):
        return [masked(found, depth + 1) for found in value]
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """A text without what looks like a secret."""
    return _LOOKS.sub(lambda found: (found["scheme"] or found["url"] or "") + MASK, text)


def before_secrets(text: str) -> str:
    """A text up to what looks like a secret: for links, which browsers and servers keep."""
    return masked_text(text).partition(MASK)[0].rstrip() if masked_text(text) != text else text


def shown_json(value: Any) -> str:
    """JSON to look at, with secrets replaced."""
    return json.dumps(masked(value), indent=2, ensure_ascii=False)
