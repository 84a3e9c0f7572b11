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


def unfit_pydantic(error: ImportError) -> str | None:
    """What is wrong with the pydantic that Python finds, where that is why something cannot be imported; else None."""
    if (error.name or "").partition(".")[0] not in {"pydantic", "pydantic_core"}:
        return None
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - needed only where something is wrong

    try:
        found = f"pydantic {version('pydantic')} is found"
    except PackageNotFoundError:
        found = "none is found" if error.name == "pydantic" and isinstance(error, ModuleNotFoundError) else "another is"
    return (
        f"jobs need pydantic 2.10 or newer, and {found} ({error.msg}); ask for pydantic>=2.10, or leave it out of your "
        "requirements where RelayQ's layer brings it"
    )


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
