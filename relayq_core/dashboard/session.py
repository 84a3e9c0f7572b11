"""Who may look: a token opens a session, and the browser keeps a cookie from which the token cannot be had."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache

from relayq_core.ports import Clock

#: A working day: then the token is asked for again.
LIFETIME_MS = 12 * 3_600_000
_COOKIE = re.compile(r"(\d{13})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


class Sessions:
    """Sessions of whoever knew one of the tokens. Nothing is stored: a token that is taken back ends its sessions.

    `tokens` answers with those that are valid now; none: nobody is let in.
    """

    def __init__(self, tokens: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def begin(self, given: str) -> str | None:
        """The cookie for whoever gives a token, or None. The time it takes says nothing of the token."""
        tokens = self._tokens()
        same = [token for token in tokens or [""] if hmac.compare_digest(_digest(given), _digest(token))]
        return self._made(same[0]) if tokens and same else None

    def begin_own(self) -> str | None:
        """The cookie for whoever is known otherwise; None where there is no token."""
        tokens = self._tokens()
        return self._made(tokens[0]) if tokens else None

    def _made(self, token: str) -> str:
        until, nonce = f"{self._clock.now() + LIFETIME_MS:013d}", secrets.token_hex(16)
        return f"{until}.{nonce}.{_mac(token, 'session', until, nonce)}"

    def is_open(self, cookie: str | None) -> bool:
        """Whether this is the cookie of a session that has not ended."""
        return self._token_of(cookie) is not None

    def form_token(self, cookie: str) -> str:
        """What a form has to bear so that it is taken for one of this session."""
        return _mac(self._token_of(cookie) or secrets.token_hex(), "form", cookie)

    def is_own_form(self, cookie: str, given: str) -> bool:
        """Whether a form was made for this session, and not by another site."""
        return hmac.compare_digest(self.form_token(cookie).encode(), given.encode("utf-8", "replace"))

    def _token_of(self, cookie: str | None) -> str | None:
        found = _COOKIE.fullmatch(cookie or "")
        if found is None or int(found[1]) <= self._clock.now():
            return None
        fitting = [
            token
            for token in self._tokens()
            if hmac.compare_digest(found[3], _mac(token, "session", found[1], found[2]))
        ]
        return fitting[0] if fitting else None


def _mac(token: str, *parts: str) -> str:
    return hmac.new(_key(token), "\n".join(("relayq", *parts)).encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=16)
def _key(token: str) -> bytes:
    """What signs for a token, made once in a process: who has a cookie must pay for each token that he tries."""
    return hashlib.scrypt(token.encode(), salt=b"relayq dashboard session", n=2**14, r=8, p=1, dklen=32)


def _digest(text: str) -> bytes:
    """Of one length, so that not even a token's length can be measured."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
