"""`relayq demo`: play a story on the screen, live on a terminal and line by line elsewhere; then suggest commands."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.exit_codes import ERROR, OK
from relayq_core.cli.output import STATUS_STYLES, is_fancy, render_text, say
from relayq_core.cli.params import flag, parse_duration
from relayq_core.cli.target import check_embedded
from relayq_core.client import RelayQ

if TYPE_CHECKING:
    from relayq_core.local.demo import Outcome, Scene

_MARKS = {"completed": "✓", "failed": "✗", "duplicate": "=", "cancelled": "✗", "processing": "▸"}


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "demo", example="relayq demo --no-sweeper", place=False)(demo)


def demo(
    cli: Cli,
    no_sweeper: Annotated[
        bool, flag("--no-sweeper", help="Leave out the sweeper: the killed job stays lost, exit code 1.")
    ] = False,
    patience: Annotated[
        float,
        typer.Option(
            "--patience", metavar="TIME", help="Give up after TIME.", parser=parse_duration, show_default="30 s"
        ),
    ] = 30.0,
) -> int:
    """Watch RelayQ work for ten seconds, without an AWS account.

    The real handlers run in real processes, on DynamoDB and Lambda emulated on this machine. One runner is killed in
    the middle of its job. The tables are kept in .relayq/, for the commands suggested at the end. The exit code is 0
    only if the tables confirm everything the demo promises.

    JSON: {"came_true", "seconds", "lines", "checks": [{"promise", "kept", "found"}], "next": [{"why", "command"}]}
    """
    began = time.monotonic()
    check_embedded()
    outcome = _play(cli, sweeper=not no_sweeper, patience=patience)
    seconds = time.monotonic() - began
    hints = _suggest(outcome)
    data = {
        "came_true": outcome.came_true,
        "seconds": round(seconds, 1),
        "lines": [
            {"key": line.key, "about": line.about, "job_id": line.job_id, "name": line.name, "status": line.status}
            | {"tries": line.tries, "note": line.note}
            for line in outcome.scene.lines
        ],
        "checks": [{"promise": check.promise, "kept": check.kept, "found": check.found} for check in outcome.checks],
        "next": [{"why": why, "command": line} for why, lines in hints for line in lines],
    }
    cli.answer(data, lambda: _show_end(outcome, hints))
    return OK if outcome.came_true else ERROR


def _play(cli: Cli, *, sweeper: bool, patience: float) -> Outcome:
    from relayq_core.local.state import FOLDER, make_folder

    logs = make_folder(FOLDER) / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    with _open_screen(quiet=cli.json) as show:
        # imported here: they load moto, and the screen should be there before that
        from relayq_core.local.chapters import Stage
        from relayq_core.local.demo import JOB_MODULES, build_stack, play
        from relayq_core.local.receiver import Receiver
        from relayq_core.local.state import save

        with (
            build_stack(logs, sweeper=sweeper) as stack,
            contextlib.closing(Receiver()) as receiver,
        ):
            outcome = play(Stage(stack, RelayQ(), receiver), show, patience=patience)
            save(FOLDER, stack.aws, {"RELAYQ_JOB_MODULES": JOB_MODULES})
    return outcome


# --- the screen ---


@contextlib.contextmanager
def _open_screen(*, quiet: bool) -> Iterator[Callable[[Scene], None]]:
    """Yield a function that shows a scene: in a table that changes, as a line for each change, or not at all."""
    if quiet:
        yield lambda scene: None
    elif is_fancy(sys.stdout):
        with _open_live_screen() as show:
            yield show
    else:
        say("RelayQ demo: the real handlers, on DynamoDB and Lambda emulated on this machine")
        yield _Lines()


class _Lines:
    """Prints a line whenever a job's status or attempt has changed, or its runner was killed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str, bool]] = {}

    def __call__(self, scene: Scene) -> None:
        for line in scene.lines:
            state = (line.status, line.tries, "killed" in line.note)
            if self._seen.get(line.key) != state:
                self._seen[line.key] = state
                text = f"{scene.seconds:5.1f} s  {line.about:<15}  {line.status:<10}  {line.tries:<3}  {line.note}"
                say(text.rstrip())
                sys.stdout.flush()


@contextlib.contextmanager
def _open_live_screen() -> Iterator[Callable[[Scene], None]]:
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    waiting = Spinner("dots", text="starting DynamoDB, Lambda and a schedule on this machine", style="cyan")
    scenes: list[Scene] = []
    with Live(waiting, console=Console(highlight=False), refresh_per_second=10) as live:

        def show(scene: Scene) -> None:
            scenes[:] = [scene]
            live.update(_build_table(scene), refresh=True)

        yield show
        if scenes:
            live.update(_build_table(scenes[0], whole=True), refresh=True)


def _build_table(scene: Scene, *, whole: bool = False) -> Any:
    """Return a table with a row for each chapter. Notes wrap only in a `whole` one: a live one keeps its height."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=False, show_header=False)
    table.title = Text.assemble(
        ("RelayQ demo", "bold"), (f"  real handlers, AWS emulated on this machine  {scene.seconds:.1f} s", "dim")
    )
    table.title_justify = "left"
    for width in (1, 15, 10, 3):
        table.add_column(width=width, no_wrap=True)
    table.add_column(no_wrap=not whole, overflow="fold" if whole else "ellipsis")
    for line in scene.lines:
        style = STATUS_STYLES.get(line.status, "")
        table.add_row(
            Text(_MARKS.get(line.status, "·"), style=style),
            line.about,
            Text(line.status, style=style),
            Text(line.tries, style="dim"),
            render_text(line.note),
        )
    return table


# --- the end ---


def _show_end(outcome: Outcome, hints: list[tuple[str, list[str]]]) -> None:
    say()
    statuses = [line.status for line in outcome.scene.lines]
    say(
        f"{len(statuses)} dispatches in {outcome.scene.seconds:.1f} s: {statuses.count('completed')} jobs completed, "
        f"{statuses.count('failed')} failed, {statuses.count('duplicate')} refused as a duplicate."
    )
    for check in outcome.checks:
        if not check.kept:
            say(f"Not kept: {check.promise} ({check.found}). See the logs in .relayq/logs/", style="red")
    if outcome.came_true:
        say("Every promise was kept, as the tables show; they are in .relayq/ now.", style="green")
    say()
    say("Try next:", style="bold")
    for why, lines in hints:
        say(f"  # {why}", style="dim")
        for line in lines:
            say(f"  {line}")


def _suggest(outcome: Outcome) -> list[tuple[str, list[str]]]:
    """Return what to try next: reasons, each with command lines that work in this folder."""
    relayq = f"{get_program()} --local"
    poison, killed = outcome.job_id("poison"), outcome.job_id("killed")
    return [
        ("see what failed, and why", [f"{relayq} failed list", f"{relayq} failed show {poison}"]),
        (
            "bring it back, and run it here: this machine has a printer",
            [f"{relayq} failed redrive {poison}", f"{relayq} run --id {poison}"],
        ),
        ("look at the job whose runner was killed", [f"{relayq} status {killed}"]),
    ]


def get_program() -> str:
    """Return the words that called this program, to suggest commands: `relayq`, `.venv/bin/relayq`, `python -m ...`."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return f"{shlex.quote(_shorten(Path(sys.executable)))} -m relayq_core.cli"
    on_path = shutil.which("relayq")
    if script.name != "relayq" or (on_path and Path(on_path).samefile(script)):
        return "relayq"
    return shlex.quote(_shorten(script))


def _shorten(path: Path) -> str:
    """Return the path relative to the current folder if it is inside."""
    absolute = Path(os.path.abspath(path))  # not resolve(): it follows the links of a virtual environment
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
