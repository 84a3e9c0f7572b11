"""Compare tokens without revealing, by the time it takes, how close a guess is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


def find_token(candidate: str, tokens: Sequence[str]) -> str | None:
    """Return the token that the candidate equals, or None. The time it takes depends on neither.

    Without tokens nothing matches, and the comparison is made all the same.
    """
    matches = [token for token in tokens or [""] if hmac.compare_digest(_digest(candidate), _digest(token))]
    return matches[0] if tokens and matches else None


def _digest(text: str) -> bytes:
    """Return a hash: always of the same length, so that not even a token's length can be measured."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
