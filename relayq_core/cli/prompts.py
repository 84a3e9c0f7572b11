"""Ask before what cannot be taken back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from relayq_core.cli.params import flag
from relayq_core.text import clean

Yes = Annotated[bool, flag("--yes", "-y", help="Do not ask.")]


def confirm(question: str, *, yes: bool, purpose: str) -> None:
    """Ask, unless there was a --yes. Raises Abort for a no, and BadParameter where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is no terminal to ask in; say --yes to {purpose}")
    typer.confirm(clean(question), abort=True, err=True)
