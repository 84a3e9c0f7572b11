"""The tokens that open the API function: from the environment, Secrets Manager or an SSM parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relayq_core.errors import InvalidOption, SettingsError
from relayq_core.model.options import parse_tokens
from relayq_core.ports import Clock
from relayq_core.process.forks import Lock

#: How long fetched tokens are used: a token that was revoked opens nothing after that.
LIFETIME_MS = 300_000
#: After a failed fetch nothing is open, and no request makes us fetch again before this has passed.
PAUSE_MS = 5_000


class TokensUnread(SettingsError):
    """The tokens could not be fetched a moment ago, and are not asked for again yet."""

    def __init__(self) -> None:
        super().__init__("RELAYQ_HTTP_TOKEN_SECRET", "what is kept there could not be read a moment ago")


class HttpTokens:
    """`given` tokens, or those kept under the name or ARN `kept_as`; neither: none, and then nothing is open.

    `client` returns a boto3 client by the name of its service.
    """

    def __init__(self, given: tuple[str, ...], kept_as: str, client: Callable[[str], Any], clock: Clock) -> None:
        self._given = given
        self._kept_as = kept_as
        self._client = client
        self._clock = clock
        self._fetched: tuple[str, ...] = ()
        self._until = 0
        self._lock = Lock()  # while one thread fetches, others wait for its result

    def all(self) -> tuple[str, ...]:
        """Return the tokens that are valid now.

        Raises SettingsError if one is not valid, and what boto3 raises; for 5 seconds after that, TokensUnread.
        """
        if self._given or not self._kept_as:
            return self._given
        with self._lock:
            now = self._clock.now()
            if now >= self._until:
                self._fetched, self._until = (), now + PAUSE_MS
                self._fetched = self._fetch()
                self._until = now + LIFETIME_MS
            if not self._fetched:
                raise TokensUnread
            return self._fetched

    def first(self) -> str:
        """Return the token to send. Raises SettingsError if none is set, or what `all` raises."""
        tokens = self.all()
        if not tokens:
            raise SettingsError("RELAYQ_HTTP_TOKEN", "it is not set, nor is RELAYQ_HTTP_TOKEN_SECRET")
        return tokens[0]

    def _fetch(self) -> tuple[str, ...]:
        try:
            return parse_tokens(self._read_secret().strip())
        except InvalidOption as error:
            raise SettingsError("RELAYQ_HTTP_TOKEN_SECRET", f"what is kept there cannot be used: {error}") from None

    def _read_secret(self) -> str:
        """Read it by ARN, whose third part is the service; or by name, where a leading slash means a parameter."""
        service = self._kept_as.split(":")[2] if self._kept_as.startswith("arn:") else ""
        if service == "ssm" or self._kept_as.startswith("/"):
            answer = self._client("ssm").get_parameter(Name=self._kept_as, WithDecryption=True)
            return str(answer["Parameter"]["Value"])
        return str(self._client("secretsmanager").get_secret_value(SecretId=self._kept_as).get("SecretString", ""))
