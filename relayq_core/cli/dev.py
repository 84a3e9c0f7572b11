"""`relayq dev`: the embedded stack on this machine, with your jobs, while you write them."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.exits import OK, Stop
from relayq_core.cli.output import STATUS_STYLES, is_fancy, print_json, say
from relayq_core.cli.values import duration, flag
from relayq_core.cli.where import check_embedded, job_modules_findable

if TYPE_CHECKING:
    from relayq_core.client import RelayQ
    from relayq_core.local.journal import Entry, Journal
    from relayq_core.local.stack import Stack
    from relayq_core.local.watching import Watched
    from relayq_core.local.web import DashboardServer

_PORT = 8641
_DASHBOARD_PORT = 8642
_LOOK_SECONDS = 0.25
#: Where the lines are, for `. .relayq/dev.env`.
_EXPORTS = "dev.env"
#: What another process needs to dispatch here; the rest of the environment is for the functions.
_EXPORTED = ("AWS_", "RELAYQ_JOBS_TABLE", "RELAYQ_FAILED_TABLE", "RELAYQ_RUNNER_FUNCTION")
_TOLD = ("job_id", "job_name", "queue", "attempt")
#: Looking a result up shows so much of it.
_RESULT_CHARACTERS = 80
#: What a line says begins here, after its time and its kind; where that leaves too little room, it is not folded.
_INDENT = 22
_LEAST_ROOM = 30


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

    DynamoDB and Lambda are played here, with the real handlers, a sweeper, and the jobs of RELAYQ_JOB_MODULES, in this
    folder, in src or in functions/runner. A change you save is live within two seconds; one that does not import is
    shown, and the last good version stays. Other processes dispatch here with the lines that are printed. Ends with
    Ctrl-C, and what its tables held with it.

    JSON: one object a line: {"event": "ready", "environment", "dashboard", "token"}, then {"event", "job_id", ...} for
    what happens.
    """
    check_embedded()
    modules = os.environ.get("RELAYQ_JOB_MODULES", "jobs")
    with ExitStack() as until:
        folders = _job_folders(modules, until)
        developing = until.enter_context(_developing(cli, modules, folders, until, tick=tick, port=port))
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
    journal: Journal
    watched: Watched
    exports: Path
    modules: str
    #: of what a runner was told and nobody has been: ids of jobs, and when each may start
    handed: deque[tuple[str, int]] = field(default_factory=deque)
    dashboard: DashboardServer | None = None
    counts: Counter[str] = field(default_factory=Counter)
    broken: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What another process needs."""
        return {name: value for name, value in self.stack.environ.items() if name.startswith(_EXPORTED)}

    def ready(self) -> None:
        """Say how to dispatch here."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        self.exports.write_text("\n".join(lines) + "\n")
        if self.as_json:
            served = self.dashboard
            urls = {"dashboard": served and served.url, "token": served and served.token}
            print_json({"event": "ready", "environment": self.environment, **urls}, line=True)
            return
        say(f"RelayQ runs the jobs of {self.modules} here. In another terminal, to dispatch to it:", style="bold")
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
        entries = [*self.journal.new()]  # read first: whatever is in it was handed off before
        self._tell_handed(_names_in(entries))
        for entry in entries:
            self._tell(entry)
        if changed := self.watched.changed():
            self._reload(changed)

    def ended(self) -> None:
        """The sum of it all."""
        if self.as_json:
            print_json({"event": "left", "counts": dict(self.counts)}, line=True)
        else:
            told = ", ".join(f"{count} {what}" for what, count in self.counts.most_common())
            say(f"\n{told or 'no job has run'}. What the tables held is gone.")

    # --- what happens ---

    def _tell_handed(self, known: Mapping[str, str]) -> None:
        """A runner was told of jobs; it may be to wait. `known`: names of some, which may be gone from the table."""
        handed = [self.handed.popleft() for _ in range(len(self.handed))]
        names = self._names(job_id for job_id, _ in handed if job_id not in known) | dict(known)
        for job_id, run_at in handed:
            wait = max(0, run_at - self.relayq.clock.now())
            when = f"  to start in {wait / 1000:.0f} s" if wait >= 1000 else ""
            fields = {"job_id": job_id, "job_name": names.get(job_id), "run_at": run_at}
            self._say("handed off", fields, f"{names.get(job_id, '')}  {job_id}{when}".strip(), style="dim")

    def _names(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Of those that are still there."""
        return {job.id: job.name for job in self.relayq.store.get_many(job_ids)}

    def _tell(self, entry: Entry) -> None:
        what, _, more = entry.message.partition(": ")
        if entry.level == "":
            self._say("printed", {"text": entry.message}, entry.message, style="dim")
        elif what in {"job completed", "job cancelled"}:
            what = what.removeprefix("job ")
            self.counts[what] += 1
            self._about(what, entry, self._result(entry), STATUS_STYLES.get(what, ""))
        elif what == "job failed":
            again = "tried again" in more
            self.counts["retried" if again else "failed"] += 1
            self._about("retrying" if again else "failed", entry, more, "yellow" if again else "red")
        elif entry.level != "DEBUG":
            self._about(entry.level.lower(), entry, entry.message, "" if entry.level == "INFO" else "yellow")

    def _about(self, what: str, entry: Entry, more: str, style: str) -> None:
        fields = _told_of(entry)
        if entry.job_id is not None and "job_name" not in fields:
            fields["job_name"] = self._names([entry.job_id]).get(entry.job_id, entry.function)
        took = entry.fields.get("duration_ms")
        fields |= {"message": entry.message} | ({} if took is None else {"duration_ms": took})
        name = fields.get("job_name", entry.function)
        # a handler may name a field of its own like that, and it is whatever it is
        lasted = f"  {took / 1000:.2f} s" if isinstance(took, int | float) else ""
        self._say(what, fields, f"{name}  {fields.get('job_id', '')}{lasted}  {_near(more)}".rstrip(), style=style)

    def _result(self, entry: Entry) -> str:
        job = None if entry.job_id is None else self.relayq.get(entry.job_id)
        if job is None or job.result is None:
            return ""
        told = json.dumps(job.result, ensure_ascii=False)
        return told if len(told) <= _RESULT_CHARACTERS else told[:_RESULT_CHARACTERS] + "…"

    def _say(self, what: str, fields: dict[str, Any], text: str, *, style: str = "") -> None:
        if self.as_json:
            print_json({"event": what, **fields}, line=True)
        else:
            say(f"{time.strftime('%H:%M:%S')}  {what:<10}  {_folded(text)}", style=style)
            sys.stdout.flush()

    # --- what is saved ---

    def _reload(self, changed: list[Path]) -> None:
        from relayq_core.errors import RelayQError
        from relayq_core.local.watching import syntax_error

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
        self._say("reloaded", {"files": [str(path) for path in changed]}, names, style="cyan")

    def _refuse(self, problem: str) -> None:
        self.broken = True
        self._say("not loaded", {"problem": problem}, f"the last good version stays: {problem}", style="red")


def _near(text: str) -> str:
    """Places in files as they are named from here."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")


def _folded(text: str) -> str:
    """Between words, as wide as the terminal, and below where it began; whoever reads a pipe wants one line."""
    room = shutil.get_terminal_size().columns - _INDENT
    if not is_fancy(sys.stdout) or room < _LEAST_ROOM:
        return text
    folded = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return ("\n" + " " * _INDENT).join(folded)


def _names_in(entries: Iterable[Entry]) -> dict[str, str]:
    """The jobs' names by their ids, as far as the lines say."""
    return {
        entry.job_id: str(entry.fields["job_name"])
        for entry in entries
        if entry.job_id is not None and "job_name" in entry.fields
    }


def _told_of(entry: Entry) -> dict[str, Any]:
    """Which job it was, as far as the line says."""
    return {str(name): value for name, value in entry.fields.items() if name in _TOLD}


@contextmanager
def _developing(
    cli: Cli, modules: str, folders: list[Path], until: ExitStack, *, tick: float, port: int
) -> Iterator[_Developing]:
    from relayq_core.client import RelayQ
    from relayq_core.local.journal import Journal
    from relayq_core.local.stack import RUNNER, SWEEPER, Stack
    from relayq_core.local.state import FOLDER, held, made_folder
    from relayq_core.local.watching import Watched

    folder = made_folder(FOLDER)
    until.enter_context(held(folder, "dev.lock", "`relayq dev`"))
    logs = folder / "dev-logs"
    logs.mkdir(exist_ok=True)
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
        journal = Journal([logs / f"{name}.log" for name in (RUNNER, SWEEPER)])
        exports = folder / _EXPORTS
        developing = _Developing(cli.json, stack, RelayQ(), journal, watched, exports, modules, handed)
        try:
            yield developing
        finally:
            exports.unlink(missing_ok=True)


def _serve_dashboard(developing: _Developing, until: ExitStack, *, wanted: bool, port: int) -> None:
    if not wanted or importlib.util.find_spec("jinja2") is None:
        return
    from relayq_core.local.history import LogHistory
    from relayq_core.local.web import serve

    logs = [Path(".relayq/dev-logs") / f"{name}.log" for name in ("relayq-runner", "relayq-sweeper")]
    relayq = developing.relayq
    try:
        server = until.enter_context(serve(relayq, port, history=LogHistory(logs, relayq.clock)))
    except OSError as error:
        raise Stop(f"port {port} cannot be used: {error.strerror}; try --dashboard-port 0") from error
    developing.dashboard = server


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
