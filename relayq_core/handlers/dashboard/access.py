"""Who may use the dashboard: logging in and out, the session's cookie, and the token that each form must carry."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.shared.cookies import Cookie, SameSite

from relayq_core.dashboard.render import render
from relayq_core.dashboard.session import LIFETIME_MS, Sessions
from relayq_core.handlers.dashboard.responses import ROOT, make_html, redirect
from relayq_core.handlers.http import HttpError, parse_form, read_cookie

_COOKIE = "relayq"
#: A payload of 300 KB may be typed, and every byte of it may need an escape.
FORM_BYTES = 1024 * 1024
_LOGIN_BYTES = 2048


@dataclass(kw_only=True)
class Access:
    """Opens sessions and checks them.

    `is_secure`: the dashboard is reached by https. `one_time_key` opens one session, once. `cookie_suffix` keeps the
    cookies of several dashboards on one host apart.
    """

    sessions: Sessions
    may_change: bool
    is_secure: bool
    one_time_key: str | None
    cookie_suffix: str

    @property
    def cookie_name(self) -> str:
        """The name of the session's cookie. Browsers accept `__Host-` only over https, and only from this very host."""
        return (f"__Host-{_COOKIE}" if self.is_secure else _COOKIE) + self.cookie_suffix

    def find_session(self, event: Mapping[str, Any]) -> str | None:
        """Return the request's session cookie, or None if its session is not open."""
        session = read_cookie(event, self.cookie_name)
        return session if session is not None and self.sessions.is_open(session) else None

    def make_form_token(self, event: Mapping[str, Any]) -> str:
        """Return the token for the forms on this request's page."""
        return self.sessions.make_form_token(read_cookie(event, self.cookie_name) or "")

    def check_change(self, event: dict[str, Any], path: str, session: str) -> None:
        """Raise HttpError unless the form was made for this session and changes are allowed; logging out always is."""
        form_token = parse_form(event, FORM_BYTES).get("form_token", [""])[0]
        if not self.sessions.is_own_form(session, form_token):
            raise HttpError(
                HTTPStatus.FORBIDDEN,
                "This form does not belong to your session. Go back, reload the page and try again.",
            )
        if not self.may_change and path != f"{ROOT}/logout":
            raise HttpError(HTTPStatus.FORBIDDEN, "This dashboard is read-only: nothing was changed.")

    def log_in(self, event: dict[str, Any], method: str) -> Response[str]:
        """Show the login form; for a POST, open a session if the form holds a token."""
        if method != "POST":
            return _show_login(HTTPStatus.OK, "")
        session = self.sessions.begin(parse_form(event, _LOGIN_BYTES).get("token", [""])[0].strip())
        if session is None:
            return _show_login(HTTPStatus.FORBIDDEN, "That is not the token.")
        return self._open(session)

    def enter(self, event: dict[str, Any]) -> Response[str]:
        """Open a session for a link with the one-time key; it works once."""
        candidate = (event.get("queryStringParameters") or {}).get("key", "")
        key = self.one_time_key
        if key is None or not hmac.compare_digest(candidate.encode("utf-8", "replace"), key.encode()):
            return _show_login(HTTPStatus.FORBIDDEN, "This link has been used. Enter the token instead.")
        self.one_time_key = None
        session = self.sessions.begin_own()
        return _show_login(HTTPStatus.FORBIDDEN, "") if session is None else self._open(session)

    def log_out(self) -> Response[str]:
        """Delete the cookie. The session itself ends at its time, or when its token is revoked."""
        return redirect(f"{ROOT}/login", self._make_cookie("", 0))

    def _open(self, session: str) -> Response[str]:
        return redirect(ROOT, self._make_cookie(session, LIFETIME_MS // 1000))

    def _make_cookie(self, value: str, seconds: int) -> Cookie:
        return Cookie(
            name=self.cookie_name,
            value=value,
            path="/" if self.is_secure else ROOT,  # `__Host-` requires "/"; otherwise no more than needed
            secure=self.is_secure,
            http_only=True,
            max_age=seconds,
            same_site=SameSite.STRICT_MODE,
        )


def _show_login(status: int, problem: str) -> Response[str]:
    return make_html(status, render("login.html", problem=problem))
