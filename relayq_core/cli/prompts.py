"""Ask before a command does what cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relayq_core.cli.params import flag
from relayq_core.text import clean

Yes = Annotated[bool, flag("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(question: str, *, yes: bool, purpose: str) -> None:
    """Ask, unless --yes was given. Raises Abort if the answer is no, and BadParameter if there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is no terminal to ask in; use --yes to {purpose}")
    typer.confirm(clean(question), abort=True, err=True)
