"""Responses of the dashboard: HTML, static files and redirects, with headers that forbid all that no page needs."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.shared.cookies import Cookie

from relayq_core.dashboard.render import STATIC, read_static
from relayq_core.handlers.http import read_header

ROOT = "/dashboard"
#: Nothing from other hosts, nothing inline, no frame around a page, no form to another site.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def make_html(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """Return a page of HTML."""
    return Response(
        status_code=int(status),
        content_type="text/html; charset=utf-8",
        body=body,
        headers={**_HEADERS, **(headers or {})},
    )


def serve_static(name: str) -> Response[str]:
    """Return a static file, or 404."""
    try:
        text = read_static(name)
    except KeyError:
        return Response(status_code=404, content_type="text/plain", body="", headers=dict(_HEADERS))
    return Response(status_code=200, content_type=STATIC[name], body=text, headers=dict(_STATIC_HEADERS))


def redirect(address: str, cookie: Cookie | None = None) -> Response[str]:
    """Return 303 See Other: after a change, reloading the page does not repeat the change."""
    return Response(
        status_code=HTTPStatus.SEE_OTHER.value,
        content_type="text/plain",
        body="",
        headers={**_HEADERS, "Location": address},
        cookies=[] if cookie is None else [cookie],
    )


def redirect_to_login(event: Mapping[str, Any]) -> Response[str]:
    """Send a browser to the login page. A refresh by htmx gets a header for it: it would follow a 303 by itself."""
    if is_by_script(event):
        headers = {**_HEADERS, "HX-Redirect": f"{ROOT}/login"}
        return Response(status_code=401, content_type="text/plain", body="", headers=headers)
    return redirect(f"{ROOT}/login")


def is_by_script(event: Mapping[str, Any]) -> bool:
    """Whether htmx sent the request, and not the browser itself."""
    return read_header(event, "hx-request") == "true"


def link(path: str, query: Mapping[str, str | None] | None = None, **more: str | None) -> str:
    """Return the address of a screen with its query; empty values are left out."""
    values = {name: value for name, value in {**(query or {}), **more}.items() if value}
    return f"{ROOT}{path}?{urlencode(values)}" if values else ROOT + path


def link_job(job_id: str, notice: str) -> str:
    """Return the address of a job's page, with the code of a notice to show."""
    return link("/job", {"id": job_id, "notice": notice})
