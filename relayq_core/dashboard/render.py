"""Render pages from templates: everything is escaped, and an undefined name is an error, not a blank."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from relayq_core.dashboard import words
from relayq_core.dashboard.masking import cut_before_secrets, format_json, mask_text
from relayq_core.operations.serialize import clamp_share
from relayq_core.process.extras import extra

with extra("api"):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent
#: The files that browsers may fetch, and their content types.
STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "htmx/htmx-2.0.8.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "span": words.format_span,
        "ago": words.format_ago,
        "moment": words.format_moment,
        "share": clamp_share,
        "count": words.format_count,
        "clock_time": words.format_clock_time,
        "json": format_json,
        "without_secrets": mask_text,
        "before_secrets": cut_before_secrets,
    }
    environment.globals["static"] = _build_address
    return environment


def render(template: str, **values: Any) -> str:
    """Return a template's HTML with these values."""
    return _build_environment().get_template(template).render(values)


@cache
def read_static(name: str) -> str:
    """Return the text of a static file. Raises KeyError for a file that browsers may not fetch."""
    if name not in STATIC:
        raise KeyError(name)
    return (_HERE / "static" / name).read_text(encoding="utf-8")


@cache
def _build_address(name: str) -> str:
    """Return a path that changes with the file's content, so that browsers may cache it without end."""
    return f"/dashboard/static/{name}?v={hashlib.sha256(read_static(name).encode()).hexdigest()[:12]}"
