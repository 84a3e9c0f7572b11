"""Pages made of templates: everything is escaped, and a name that is not there is an error, not a blank."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from relayq_core.dashboard import words
from relayq_core.dashboard.masking import before_secrets, masked_text, shown_json
from relayq_core.extras import extra
from relayq_core.operations.serialize import share

with extra("api"):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent
#: What browsers may fetch, and as what.
STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "htmx/htmx-2.0.8.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "span": words.span,
        "ago": words.ago,
        "moment": words.moment,
        "share": share,
        "count": words.counted,
        "clock_time": words.clock_time,
        "json": shown_json,
        "without_secrets": masked_text,
        "before_secrets": before_secrets,
    }
    made.globals["static"] = _address
    return made


def page(template: str, **shown: Any) -> str:
    """The HTML of a template."""
    return _environment().get_template(template).render(shown)


@cache
def static_file(name: str) -> str:
    """The text of a static file. Raises KeyError for what browsers may not fetch."""
    if name not in STATIC:
        raise KeyError(name)
    return (_HERE / "static" / name).read_text(encoding="utf-8")


@cache
def _address(name: str) -> str:
    """A path that changes with what the file holds, so that it may be kept for ever."""
    return f"/dashboard/static/{name}?v={hashlib.sha256(static_file(name).encode()).hexdigest()[:12]}"
