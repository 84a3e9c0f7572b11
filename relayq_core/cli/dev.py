"""`relayq dev`: the embedded stack on this machine, with your jobs, while you write them."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.dev_output import Teller
from relayq_core.cli.exit_codes import OK, Stop
from relayq_core.cli.output import print_json, say
from relayq_core.cli.params import duration, flag
from relayq_core.cli.target import check_embedded, job_modules_findable
from relayq_core.text import locate_error

if TYPE_CHECKING:
    from relayq_core.client import RelayQ
    from relayq_core.local.file_watch import Watched
    from relayq_core.local.stack import Stack
    from relayq_core.local.web import DashboardServer

_PORT = 8641
_DASHBOARD_PORT = 8642
_LOOK_SECONDS = 0.25
#: Where the lines are, for `. .relayq/dev.env`.
_EXPORTS = "dev.env"
#: What leads a dispatch elsewhere, or fails it, in a shell that AWS or another RelayQ was set up in.
_UNSET = (
    "unset AWS_PROFILE $(env | sed -n 's/^\\(AWS_[A-Za-z0-9_]*\\)=.*/\\1/p')",
    "unset RELAYQ_RUNNER_FUNCTIONS RELAYQ_HANDOFF RELAYQ_HTTP_ENDPOINT RELAYQ_HTTP_TOKEN",
    "unset RELAYQ_REDIS_URL RELAYQ_EVENT_BUS",
)
#: What another process needs to dispatch here; the rest of the environment is for the functions.
_EXPORTED = ("AWS_", "RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE", "RELAYQ_RUNNER_FUNCTION")


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "dev", example="relayq dev --tick 5", place=False)(dev)


def dev(
    cli: Cli,
    tick: Annotated[
        float,
        typer.Option("--tick", metavar="TIME", help="Between two sweeps.", parser=duration, show_default="10 s"),
    ] = 10.0,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Of DynamoDB and Lambda; 0: a free one.", min=0, max=65_535)
    ] = _PORT,
    dashboard_port: Annotated[
        int, typer.Option("--dashboard-port", metavar="PORT", help="0: a free one.", min=0, max=65_535)
    ] = _DASHBOARD_PORT,
    no_dashboard: Annotated[bool, flag("--no-dashboard", help="Serve no dashboard.")] = False,
) -> int:
    """Run your jobs on this machine while you write them.

    DynamoDB and Lambda are emulated, with the real handlers, a sweeper, and the jobs of RELAYQ_JOB_MODULES, in
    this folder, in src or in functions/runner. A change you save is live within two seconds; one that does not import
    is shown, and the last good version stays. Other processes dispatch here with the lines that are printed. Ends with
    Ctrl-C, and what its tables held with it.

    JSON: one object a line: {"event": "ready", "environment", "dashboard", "token"}, then {"event", "job_id", ...} for
    what happens.
    """
    check_embedded()
    modules = os.environ.get("RELAYQ_JOB_MODULES", "jobs")
    with ExitStack() as until:
        folders = _job_folders(modules, until)
        folder = until.enter_context(_own_folder())
        developing = until.enter_context(_developing(cli, modules, folders, folder, tick=tick, port=port))
        _serve_dashboard(developing, until, wanted=not no_dashboard, port=dashboard_port)
        developing.ready()
        with _interruptible() as interrupted:
            while not interrupted.wait(_LOOK_SECONDS):
                developing.look()
        developing.look()
        developing.ended()
    return OK


def _job_folders(modules: str, until: ExitStack) -> list[Path]:
    """Where the job modules are, to be watched. Raises Stop where there are none."""
    job_modules_findable(until, local=False)
    found: list[Path] = []
    for name in filter(None, (part.strip() for part in modules.split(","))):
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None:
            raise Stop(
                f"there is no module {name!r} here: run `relayq dev` where your jobs/ folder is (or in RelayQ's own "
                "repository), or name your modules in RELAYQ_JOB_MODULES. `relayq make-job hello` writes a first job"
            )
        places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
        found += [Path(place) for place in places]
    return found


@dataclass
class _Developing:
    """A running stack, and what is to be told of it."""

    as_json: bool
    stack: Stack
    relayq: RelayQ
    teller: Teller
    watched: Watched
    exports: Path
    logs: list[Path]
    modules: str
    folders: list[Path]
    dashboard: DashboardServer | None = None
    broken: bool = False
    blind: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What another process needs."""
        return {name: value for name, value in self.stack.environ.items() if name.startswith(_EXPORTED)}

    def ready(self) -> None:
        """Say how to dispatch here."""
        from relayq_core.local.private import write_private

        lines = [*_UNSET, *(f"export {name}={shlex.quote(value)}" for name, value in self.environment.items())]
        write_private(self.exports, "\n".join(lines) + "\n")
        if self.as_json:
            served = self.dashboard
            urls = {"dashboard": served and served.url, "token": served and served.token}
            print_json({"event": "ready", "environment": self.environment, **urls}, line=True)
            return
        say(
            f"RelayQ runs the jobs of the package {self.modules} here. In another terminal, to dispatch to it:",
            style="bold",
        )
        say(f"  . {self.exports}")
        say("which is")
        for line in lines:
            say(f"  {line}", style="dim")
        if self.dashboard:
            say("The dashboard (the link works once):")
            say(f"  {self.dashboard.url}")
            say(f"Once more, or in another browser: {self.dashboard.address}", style="dim")
            say(f"and the token {self.dashboard.token}", style="dim")
        say("Save a job, and it is live within two seconds. Ctrl-C ends it.\n")

    def look(self) -> None:
        """Tell what happened since the last look, and reload what was saved."""
        self.teller.tell()
        if not self.blind and not self.exports.exists():
            self.blind = True
            gone = (
                f"{self.exports.parent} was deleted: jobs still run, but what becomes of them cannot be shown any more"
            )
            self.teller.say("warning", {"problem": gone}, f"{gone}. Start `relayq dev` again", style="yellow")
        if changed := self.watched.changed():
            self._reload(changed)

    def ended(self) -> None:
        """The sum of it all."""
        if self.as_json:
            print_json({"event": "left", "counts": dict(self.teller.counts)}, line=True)
        else:
            told = ", ".join(f"{count} {what}" for what, count in self.teller.counts.most_common())
            unseen = f"; not counted: what came after {self.exports.parent} was deleted" if self.blind else ""
            say(f"\n{told or 'no job was seen to run'}{unseen}. What the tables held is gone.")

    # --- what is saved ---

    def _reload(self, changed: list[Path]) -> None:
        from relayq_core.errors import RelayQError
        from relayq_core.local.file_watch import syntax_error

        names = ", ".join(dict.fromkeys(path.name for path in changed))
        if problem := next(filter(None, map(syntax_error, changed)), None):
            self._refuse(problem)
            return
        try:
            self.stack.reload()
        except RelayQError as error:
            self._refuse(str(error))
            return
        self.broken = False
        self.show_jobs()
        self.teller.say("reloaded", {"files": [str(path) for path in changed]}, names, style="cyan")

    def show_jobs(self) -> None:
        """Let the dashboard know the jobs as they are now: this process has their code for that alone."""
        from relayq_core.local.loading import loaded_anew

        if self.dashboard is None:
            return
        try:
            jobs = loaded_anew(self.modules.split(","), self.folders)
        except Exception as error:  # whatever a module of the user's raises in this process, and not in the runner
            self.teller.say(
                "warning", {"problem": locate_error(error)}, f"no forms for jobs: {locate_error(error)}", style="yellow"
            )
            return
        self.dashboard.know(jobs)

    def _refuse(self, problem: str) -> None:
        self.broken = True
        self.teller.say("not loaded", {"problem": problem}, f"the last good version stays: {problem}", style="red")


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Where the lines and the logs are kept, which no other `relayq dev` has meanwhile."""
    from relayq_core.local.state import FOLDER, held, made_folder

    folder = made_folder(FOLDER)
    with held(folder, "dev.lock", "`relayq dev`"):
        yield folder


@contextmanager
def _developing(
    cli: Cli, modules: str, folders: list[Path], folder: Path, *, tick: float, port: int
) -> Iterator[_Developing]:
    from relayq_core.client import RelayQ
    from relayq_core.local.file_watch import Watched
    from relayq_core.local.journal import Journal
    from relayq_core.local.private import private_folder
    from relayq_core.local.stack import RUNNER, SWEEPER, Stack

    logs = folder / "dev-logs"
    private_folder(logs)
    for log in logs.glob("*.log"):
        log.unlink()
    handed: deque[tuple[str, int]] = deque()

    def heard(function: str, event: bytes) -> None:
        if function == RUNNER:
            told = json.loads(event)
            handed.append((told["job_id"], told.get("run_at") or 0))

    watched = Watched(folders)
    settings = {
        **{name: value for name, value in os.environ.items() if name.startswith("RELAYQ_") and "TABLE" not in name},
        "RELAYQ_JOB_MODULES": modules,
        "RELAYQ_LOOKAHEAD_SECONDS": str(max(1, round(tick) + 1)),
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }
    for foreign in ("RELAYQ_RUNNER_FUNCTION", "RELAYQ_RUNNER_FUNCTIONS", "RELAYQ_HANDOFF", "RELAYQ_EVENT_BUS"):
        settings.pop(foreign, None)
    path = [Path(part) for part in sys.path if part]
    try:
        stack = Stack(logs, settings=settings, path=path, tick=tick, port=port, heard=heard)
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --port 0") from error
    with stack:
        relayq, files = RelayQ(), [logs / f"{name}.log" for name in (RUNNER, SWEEPER)]
        teller = Teller(relayq, Journal(files), handed, as_json=cli.json)
        exports = folder / _EXPORTS
        developing = _Developing(cli.json, stack, relayq, teller, watched, exports, files, modules, folders)
        try:
            yield developing
        finally:
            exports.unlink(missing_ok=True)


def _serve_dashboard(developing: _Developing, until: ExitStack, *, wanted: bool, port: int) -> None:
    if not wanted or importlib.util.find_spec("jinja2") is None:
        return
    from relayq_core.local.history import LogHistory
    from relayq_core.local.web import serve

    relayq = developing.relayq
    try:
        server = until.enter_context(serve(relayq, port, history=LogHistory(developing.logs, relayq.clock)))
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --dashboard-port 0") from error
    developing.dashboard = server
    developing.show_jobs()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    interrupted = threading.Event()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: interrupted.set()) for kind in kinds]
    try:
        yield interrupted
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
