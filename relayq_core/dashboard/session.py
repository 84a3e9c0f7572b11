"""Sessions: a token opens one, and the browser keeps a cookie from which the token cannot be derived."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache

from relayq_core.dashboard.tokens import find_token
from relayq_core.ports import Clock

#: A working day; after it the token has to be typed again.
LIFETIME_MS = 12 * 3_600_000
_COOKIE = re.compile(r"(\d{13})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


class Sessions:
    """Sessions that were opened with a token. Nothing is stored: revoking a token ends its sessions.

    `tokens` returns those that are valid now; without any, no session opens.
    """

    def __init__(self, tokens: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def begin(self, candidate: str) -> str | None:
        """Return the cookie of a new session, or None if this is not a token. Takes the same time for every guess."""
        token = find_token(candidate, self._tokens())
        return None if token is None else self._create_cookie(token)

    def begin_own(self) -> str | None:
        """Return the cookie of a new session for a visitor identified by other means; None if there is no token."""
        tokens = self._tokens()
        return self._create_cookie(tokens[0]) if tokens else None

    def _create_cookie(self, token: str) -> str:
        until, nonce = f"{self._clock.now() + LIFETIME_MS:013d}", secrets.token_hex(16)
        return f"{until}.{nonce}.{_sign(token, 'session', until, nonce)}"

    def is_open(self, cookie: str | None) -> bool:
        """Whether this is the cookie of a session that has not ended."""
        return self._find_signer(cookie) is not None

    def make_form_token(self, cookie: str) -> str:
        """Return the value that a form must carry to be accepted in this session."""
        return _sign(self._find_signer(cookie) or secrets.token_hex(), "form", cookie)

    def is_own_form(self, cookie: str, form_token: str) -> bool:
        """Whether a form was made for this session, and not by another site."""
        return hmac.compare_digest(self.make_form_token(cookie).encode(), form_token.encode("utf-8", "replace"))

    def _find_signer(self, cookie: str | None) -> str | None:
        """Return the token that signed this cookie, or None if the cookie is not valid now."""
        parts = _COOKIE.fullmatch(cookie or "")
        if parts is None or int(parts[1]) <= self._clock.now():
            return None
        signers = [
            token
            for token in self._tokens()
            if hmac.compare_digest(parts[3], _sign(token, "session", parts[1], parts[2]))
        ]
        return signers[0] if signers else None


def _sign(token: str, *parts: str) -> str:
    return hmac.new(_derive_key(token), "\n".join(("relayq", *parts)).encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=16)
def _derive_key(token: str) -> bytes:
    """Derive a token's signing key, once per process: to guess the token behind a cookie, each try costs this much."""
    return hashlib.scrypt(token.encode(), salt=b"relayq dashboard session", n=2**14, r=8, p=1, dklen=32)
