"""`relayq dev`: run your jobs on the embedded stack while you write them."""

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

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.dev_output import DevReporter
from relayq_core.cli.exit_codes import OK, Stop
from relayq_core.cli.output import print_json, say
from relayq_core.cli.params import flag, parse_duration
from relayq_core.cli.target import check_embedded, extend_import_path
from relayq_core.text import locate_error

if TYPE_CHECKING:
    from relayq_core.client import RelayQ
    from relayq_core.local.file_watch import FileWatcher
    from relayq_core.local.stack import Stack
    from relayq_core.local.web import DashboardServer

_PORT = 8641
_DASHBOARD_PORT = 8642
_POLL_SECONDS = 0.25
#: The file with the lines for another shell: `. .relayq/dev.env`.
_EXPORTS = "dev.env"
#: Unset what would lead a dispatch elsewhere, or make it fail, in a shell set up for AWS or another RelayQ.
_UNSET = (
    "unset AWS_PROFILE $(env | sed -n 's/^\\(AWS_[A-Za-z0-9_]*\\)=.*/\\1/p')",
    "unset RELAYQ_RUNNER_FUNCTIONS RELAYQ_HANDOFF RELAYQ_HTTP_ENDPOINT RELAYQ_HTTP_TOKEN",
    "unset RELAYQ_REDIS_URL RELAYQ_EVENT_BUS",
)
#: What another process needs to dispatch here; the other variables are for the functions.
_EXPORTED = ("AWS_", "RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE", "RELAYQ_RUNNER_FUNCTION")


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "dev", example="relayq dev --tick 5", place=False)(dev)


def dev(
    cli: Cli,
    tick: Annotated[
        float,
        typer.Option(
            "--tick", metavar="TIME", help="The time between two sweeps.", parser=parse_duration, show_default="10 s"
        ),
    ] = 10.0,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="PORT", help="The port of DynamoDB and Lambda; 0: any free one.", min=0, max=65_535
        ),
    ] = _PORT,
    dashboard_port: Annotated[
        int,
        typer.Option(
            "--dashboard-port", metavar="PORT", help="The dashboard's port; 0: any free one.", min=0, max=65_535
        ),
    ] = _DASHBOARD_PORT,
    no_dashboard: Annotated[bool, flag("--no-dashboard", help="Do not serve the dashboard.")] = False,
) -> int:
    """Run your jobs on this machine while you write them.

    Emulates DynamoDB and Lambda, with the real handlers, a sweeper, and the jobs of RELAYQ_JOB_MODULES in this folder,
    in src or in functions/runner. A change you save is live within two seconds; if it cannot be imported, the error is
    shown and the last good version stays. Other processes dispatch here with the lines that it prints. Press Ctrl-C to
    stop; the tables and their jobs are gone then.

    JSON: one object per line, {"event": "ready", "environment", "dashboard", "token"} and then {"event", "job_id", ...}
    for each thing that happens.
    """
    check_embedded()
    modules = os.environ.get("RELAYQ_JOB_MODULES", "jobs")
    with ExitStack() as until:
        folders = _find_job_folders(modules, until)
        folder = until.enter_context(_lock_folder())
        session = until.enter_context(_start_session(cli, modules, folders, folder, tick=tick, port=port))
        if not no_dashboard and importlib.util.find_spec("jinja2") is not None:
            _serve_dashboard(session, until, port=dashboard_port)
        session.announce()
        with _catch_signals() as interrupted:
            while not interrupted.wait(_POLL_SECONDS):
                session.poll()
        session.poll()
        session.summarize()
    return OK


def _find_job_folders(modules: str, until: ExitStack) -> list[Path]:
    """Return the folders of the job modules, which are watched for changes. Raises Stop if there are none."""
    extend_import_path(until, local=False)
    folders: list[Path] = []
    for name in filter(None, (part.strip() for part in modules.split(","))):
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None:
            raise Stop(
                f"there is no module {name!r} here: run `relayq dev` where your jobs/ folder is (or in RelayQ's own "
                "repository), or name your modules in RELAYQ_JOB_MODULES. `relayq make-job hello` writes a first job"
            )
        places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
        folders += [Path(place) for place in places]
    return folders


@dataclass
class _Session:
    """A running stack, and what is reported about it."""

    as_json: bool
    stack: Stack
    relayq: RelayQ
    reporter: DevReporter
    watcher: FileWatcher
    exports: Path
    logs: list[Path]
    modules: str
    folders: list[Path]
    dashboard: DashboardServer | None = None
    broken: bool = False
    #: its folder was deleted, and the logs with it
    blind: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """The variables that another process needs to dispatch here."""
        return {name: value for name, value in self.stack.environ.items() if name.startswith(_EXPORTED)}

    def announce(self) -> None:
        """Print how to dispatch here, and write it to `dev.env`."""
        from relayq_core.local.private import write_private

        lines = [*_UNSET, *(f"export {name}={shlex.quote(value)}" for name, value in self.environment.items())]
        write_private(self.exports, "\n".join(lines) + "\n")
        if self.as_json:
            server = self.dashboard
            urls = {"dashboard": server and server.url, "token": server and server.token}
            print_json({"event": "ready", "environment": self.environment, **urls}, line=True)
            return
        say(
            f"RelayQ runs the jobs of the package {self.modules} here. To dispatch from another terminal:",
            style="bold",
        )
        say(f"  . {self.exports}")
        say("which contains")
        for line in lines:
            say(f"  {line}", style="dim")
        if self.dashboard:
            say("The dashboard (the link works once):")
            say(f"  {self.dashboard.url}")
            say(f"Again, or in another browser: {self.dashboard.address}", style="dim")
            say(f"with the token {self.dashboard.token}", style="dim")
        say("Save a job, and it is live within two seconds. Press Ctrl-C to stop.\n")

    def poll(self) -> None:
        """Report what happened since the last call, and reload what was saved."""
        self.reporter.report()
        if not self.blind and not self.exports.exists():
            self.blind = True
            problem = f"{self.exports.parent} was deleted: jobs still run, but their ends can no longer be shown"
            self.reporter.say("warning", {"problem": problem}, f"{problem}. Restart `relayq dev`", style="yellow")
        if changed := self.watcher.list_changes():
            self._reload(changed)

    def summarize(self) -> None:
        """Print how many jobs ended in each way."""
        if self.as_json:
            print_json({"event": "left", "counts": dict(self.reporter.counts)}, line=True)
        else:
            counts = ", ".join(f"{count} {event}" for event, count in self.reporter.counts.most_common())
            unseen = f"; jobs after {self.exports.parent} was deleted are not counted" if self.blind else ""
            say(f"\n{counts or 'no job ran'}{unseen}. The tables are deleted.")

    # --- what is saved ---

    def _reload(self, changed: list[Path]) -> None:
        from relayq_core.errors import RelayQError
        from relayq_core.local.file_watch import find_syntax_error

        names = ", ".join(dict.fromkeys(path.name for path in changed))
        if problem := next(filter(None, map(find_syntax_error, changed)), None):
            self._refuse(problem)
            return
        try:
            self.stack.reload()
        except RelayQError as error:
            self._refuse(str(error))
            return
        self.broken = False
        self.show_jobs()
        self.reporter.say("reloaded", {"files": [str(path) for path in changed]}, names, style="cyan")

    def show_jobs(self) -> None:
        """Give the dashboard the current job types; this process imports their code only for that."""
        from relayq_core.local.loading import reload_jobs

        if self.dashboard is None:
            return
        try:
            jobs = reload_jobs(self.modules.split(","), self.folders)
        except Exception as error:  # a user's module may raise anything in this process, and not in the runner
            self.reporter.say(
                "warning",
                {"problem": locate_error(error)},
                f"the dashboard has no forms for jobs: {locate_error(error)}",
                style="yellow",
            )
            return
        self.dashboard.set_jobs(jobs)

    def _refuse(self, problem: str) -> None:
        self.broken = True
        self.reporter.say("not loaded", {"problem": problem}, f"the last good version stays: {problem}", style="red")


@contextmanager
def _lock_folder() -> Iterator[Path]:
    """Yield the folder for the lines and the logs, locked against another `relayq dev` until the block ends."""
    from relayq_core.local.state import FOLDER, hold_file, make_folder

    folder = make_folder(FOLDER)
    with hold_file(folder, "dev.lock", "`relayq dev`"):
        yield folder


@contextmanager
def _start_session(
    cli: Cli, modules: str, folders: list[Path], folder: Path, *, tick: float, port: int
) -> Iterator[_Session]:
    from relayq_core.client import RelayQ
    from relayq_core.local.file_watch import FileWatcher
    from relayq_core.local.journal import Journal
    from relayq_core.local.private import make_private_folder
    from relayq_core.local.stack import RUNNER, SWEEPER, Stack

    logs = folder / "dev-logs"
    make_private_folder(logs)
    for log in logs.glob("*.log"):
        log.unlink()
    handed: deque[tuple[str, int]] = deque()

    def note_handoff(function: str, event: bytes) -> None:
        if function == RUNNER:
            handoff = json.loads(event)
            handed.append((handoff["job_id"], handoff.get("run_at") or 0))

    watcher = FileWatcher(folders)
    path = [Path(part) for part in sys.path if part]
    try:
        stack = Stack(
            logs, settings=_build_environ(modules, tick), path=path, tick=tick, port=port, on_event=note_handoff
        )
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --port 0") from error
    with stack:
        relayq, files = RelayQ(), [logs / f"{name}.log" for name in (RUNNER, SWEEPER)]
        reporter = DevReporter(relayq, Journal(files), handed, as_json=cli.json)
        exports = folder / _EXPORTS
        session = _Session(cli.json, stack, relayq, reporter, watcher, exports, files, modules, folders)
        try:
            yield session
        finally:
            exports.unlink(missing_ok=True)


def _build_environ(modules: str, tick: float) -> dict[str, str]:
    """Return the variables of the functions: the user's own RELAYQ_... ones, without those that name another stack."""
    environ = {name: value for name, value in os.environ.items() if name.startswith("RELAYQ_") and "TABLE" not in name}
    for name in ("RELAYQ_RUNNER_FUNCTION", "RELAYQ_RUNNER_FUNCTIONS", "RELAYQ_HANDOFF", "RELAYQ_EVENT_BUS"):
        environ.pop(name, None)
    return {
        **environ,
        "RELAYQ_JOB_MODULES": modules,
        "RELAYQ_LOOKAHEAD_SECONDS": str(max(1, round(tick) + 1)),
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def _serve_dashboard(session: _Session, until: ExitStack, *, port: int) -> None:
    from relayq_core.local.history import LogHistory
    from relayq_core.local.web import serve

    relayq = session.relayq
    try:
        server = until.enter_context(serve(relayq, port, history=LogHistory(session.logs, relayq.clock)))
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --dashboard-port 0") from error
    session.dashboard = server
    session.show_jobs()


@contextmanager
def _catch_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set while the block runs."""
    interrupted = threading.Event()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: interrupted.set()) for kind in kinds]
    try:
        yield interrupted
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
