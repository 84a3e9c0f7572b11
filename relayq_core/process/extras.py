"""Extras: what some parts of RelayQ need installed, and the message where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: module -> the extra that installs it
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


def explain_missing_extra(error: ImportError, *, of: str | None = None) -> str | None:
    """Return which extra installs the module that is missing, and how to install it, or None if no extra does.

    `of` names the extra of the part that needs the module, if that is not the module's own.
    """
    name = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or name not in _EXTRA_OF:
        return None
    extra = of or _EXTRA_OF[name]
    return f"this part of RelayQ needs {name}, which the extra {extra} installs: pip install 'relayq[{extra}]'"


def explain_unfit_pydantic(error: ImportError) -> str | None:
    """Return what is wrong with the installed pydantic, or None if that is not why an import failed."""
    if (error.name or "").partition(".")[0] not in {"pydantic", "pydantic_core"}:
        return None
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - needed only where something is wrong

    try:
        installed = f"pydantic {version('pydantic')} is found"
    except PackageNotFoundError:
        installed = (
            "none is found" if error.name == "pydantic" and isinstance(error, ModuleNotFoundError) else "another is"
        )
    return (
        f"jobs need pydantic 2.10 or newer, and {installed} ({error.msg}); require "
        "pydantic>=2.10, or leave it out of your requirements if RelayQ's layer installs it"
    )


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Return a context in which a missing module of this extra raises ModuleNotFoundError with advice."""
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = explain_missing_extra(error, of=name)
        if sentence is None:
            raise
        raise ModuleNotFoundError(sentence, name=error.name) from None
