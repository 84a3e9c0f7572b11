"""Hint at RelayQ's command for a word that other tools use: `retry` is `redrive` here."""

from __future__ import annotations

from typing import Any

import typer.core

#: By group: each command line, and the words that people type for it.
OTHER_WORDS = {
    "relayq": {
        "relayq --version": "version",
        "relayq --help": "help",
        "relayq make-job": "generate init new",
        "relayq dispatch": "add enqueue push send",
        "relayq work": "start worker",
        "relayq queues": "stats",
        "relayq list": "jobs ls ps",
        "relayq status": "get inspect show",
        "relayq cancel": "abort kill stop",
        "relayq clear": "flush purge",
        "relayq dashboard": "serve ui web",
        "relayq doctor": "check",
        "relayq failed list": "dead dlq failures",
        "relayq failed redrive": "redrive replay requeue retry",
        "relayq failed forget": "forget",
    },
    "failed": {
        "relayq failed list": "ls",
        "relayq failed show": "get inspect status",
        "relayq failed redrive": "replay requeue restart retry run",
        "relayq failed forget": "clear delete discard purge remove rm",
    },
    "tables": {
        "relayq tables create": "add init make",
        "relayq tables delete": "drop remove rm",
    },
}


class HintingGroup(typer.core.TyperGroup):
    """A group of commands that names its own command when it is given another tool's word."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that `args` begin with. Raises UsageError, with a hint if there is one."""
        for line, words in OTHER_WORDS.get(ctx.info_name, {}).items():
            if args[0] in words.split():
                ctx.fail(f"No such command '{args[0]}'. Did you mean '{line}'?")
        return super().resolve_command(ctx, args)
