"""Extras: what RelayQ is installed with for some of its parts, and the sentence where one of them is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: module -> the extra that brings it
_EXTRA_OF = {
    "typer": "cli",
    "rich": "cli",
    "dotenv": "cli",
    "aws_lambda_powertools": "lambda",
    "jinja2": "api",
    "markupsafe": "api",
    "redis": "redis",
    "moto": "testing",
    "flask": "local",
    "flask_cors": "local",
    "werkzeug": "local",
}


def missing_extra(error: ImportError, *, of: str | None = None) -> str | None:
    """Which extra would have brought what cannot be imported, and how to install it; None where no extra would.

    `of`: the extra of the part that needs it, where that brings more than the one module.
    """
    name = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or name not in _EXTRA_OF:
        return None
    extra = of or _EXTRA_OF[name]
    return f"this part of RelayQ needs {name}, which the extra {extra} brings: pip install 'relayq[{extra}]'"


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Inside, an import of what this extra brings, and is not there, raises ModuleNotFoundError with a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = missing_extra(error, of=name)
        if sentence is None:
            raise
        raise ModuleNotFoundError(sentence, name=error.name) from None
