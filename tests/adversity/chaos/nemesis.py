"""The nemesis: what kills, stops and disturbs the runners and sweepers while jobs are dispatched."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.adversity.chaos.log import Log, Start
from tests.e2e.harness import Emulator

#: What it does, dealt like cards: all of it comes in any run that is long enough.
_ACTS = (
    *["kill a handler"] * 5,
    *["kill any runner"] * 2,
    *["kill a sweeper"],
    *["stop a handler past its lease"] * 3,
    *["stop a handler for a moment"],
    *["start a sweeper"] * 2,
    *["start two sweepers"],
)
#: The schedule is missed in this part of the run; then two sweepers begin at once.
_OUTAGE = (0.3, 0.6)
#: Seconds between two acts.
_PAUSE = (0.6, 1.8)
#: The most processes that are stopped at once, none for longer than this (seconds).
_MOST_STOPPED = 8
_LONGEST_STOP = 75.0
#: A handler that logged within this (seconds) is still running, unless something killed it.
_FRESH = 1.5
#: Sweepers live for over a minute; more than this many at once prove no more.
_SWEEPER_EVERY = 5.0
#: A younger process may not have begun yet: the emulator answers its death by ending all others of its function.
_BEGINS = 8.0


@dataclass(frozen=True, slots=True)
class Act:
    """What was done, and to whom."""

    mono: float
    what: str
    pid: int = 0
    job: str = ""


@dataclass(slots=True)
class Stop:
    """A process that was stopped by SIGSTOP, and from when until when at least (monotonic seconds)."""

    pid: int
    job: str
    since: float
    #: until another runner has begun with its job; else for this long (seconds)
    lasts: float | None
    #: None while it lasts
    until: float | None = None


class Nemesis:
    """Acts at random until calm, and leaves no process stopped."""

    def __init__(self, seed: int, emulator: Emulator, runner: str, sweeper: str, log: Log) -> None:
        self._luck = random.Random(f"{seed}/nemesis")
        self._emulator = emulator
        self._runner = runner
        self._sweeper = sweeper
        self._log = log
        self._lambda = emulator.client("lambda")
        self._scheduler = emulator.client("scheduler")
        self._lock = threading.Lock()
        self._swept = 0.0
        self._cards: list[str] = []
        self.acts: list[Act] = []
        self.stops: list[Stop] = []
        self.calm = threading.Event()
        self._scheduled = True

    # --- the schedule ---

    def _schedule(self, *, enabled: bool) -> None:
        """Switch the schedule of the sweeper off, and on again."""
        if enabled == self._scheduled:
            return
        (found,) = self._scheduler.list_schedules()["Schedules"]
        whole = self._scheduler.get_schedule(Name=found["Name"])
        kept = {key: whole[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
        self._scheduler.update_schedule(**kept, State="ENABLED" if enabled else "DISABLED")
        self._scheduled = enabled
        self._did("the schedule " + ("returns" if enabled else "stops"))
        if enabled:
            self._sweep(2)

    # --- acts ---

    def run(self, progress: Callable[[], float]) -> None:
        """Act until calm; then only let go whom it stopped. `progress` says how much has been dispatched, 0 to 1."""
        while not self.calm.wait(self._luck.uniform(*_PAUSE)):
            self._schedule(enabled=not _OUTAGE[0] <= progress() < _OUTAGE[1])
            self._let_go()
            self._act()
        self._schedule(enabled=True)
        while self.stopped():
            self._let_go()
            time.sleep(0.2)

    def stopped(self) -> list[Stop]:
        """The processes that are stopped now."""
        with self._lock:
            return [stop for stop in self.stops if stop.until is None]

    def stop_at_its_end(self, job_id: str) -> bool:
        """Stop the runner that is about to write the end of this job; True if it was."""
        if self.calm.is_set():
            return False
        starts = [start for start in self._log.starts() if start.first.job == job_id]
        if not starts or starts[-1].ended is None:
            return False
        return self._stop(starts[-1], "stop a runner at its settle", lasts=None)

    def _act(self) -> None:
        """The next card that finds a victim."""
        if not self._cards:
            self._cards = self._luck.sample(_ACTS, len(_ACTS))
        for number, what in enumerate(self._cards):
            if self._acted(what):
                del self._cards[number]
                return

    def _acted(self, what: str) -> bool:
        match what:
            case "kill a handler":
                start = self._running()
                return start is not None and self._kill(start.first.pid, what, start.first.job)
            case "kill any runner":
                return self._kill_any(self._runner, what)
            case "kill a sweeper":
                return self._kill_any(self._sweeper, what)
            case "stop a handler past its lease":
                start = self._running()
                return start is not None and self._stop(start, what, lasts=None)
            case "stop a handler for a moment":
                start = self._running()
                return start is not None and self._stop(start, what, lasts=self._luck.uniform(0.5, 5))
            case "start a sweeper":
                return self._sweep(1)
            case "start two sweepers":
                return self._sweep(2)
        raise AssertionError(what)

    def _did(self, what: str, pid: int = 0, job: str = "") -> None:
        self.acts.append(Act(time.monotonic(), what, pid, job))

    def _running(self) -> Start | None:
        """Some handler that runs now, and is not stopped."""
        stopped = {stop.pid for stop in self.stopped()}
        now = time.monotonic()
        running = [
            start
            for start in self._log.starts()
            if start.is_running and now - start.last.mono < _FRESH and start.first.pid not in stopped
        ]
        return self._luck.choice(running) if running else None

    def _kill(self, pid: int, what: str, job: str = "") -> bool:
        if not self._send(pid, signal.SIGKILL):
            return False
        self._did(what, pid, job)
        return True

    def _kill_any(self, function: str, what: str) -> bool:
        pids = sorted(self._processes(function))
        return bool(pids) and self._kill(self._luck.choice(pids), what)

    def _stop(self, start: Start, what: str, *, lasts: float | None) -> bool:
        pid, job = start.first.pid, start.first.job
        with self._lock:
            now = [stop for stop in self.stops if stop.until is None]
            if len(now) >= _MOST_STOPPED or any(stop.pid == pid for stop in now):
                return False
            since = time.monotonic()
            if not self._send(pid, signal.SIGSTOP):
                return False
            self.stops.append(Stop(pid, job, since, lasts))
        self._did(what, pid, job)
        return True

    def _let_go(self) -> None:
        """Send SIGCONT to each process stopped long enough: until another runner has begun with the same job."""
        starts = self._log.starts()
        now = time.monotonic()
        for stop in self.stopped():
            followed = any(
                start.first.job == stop.job and start.first.mono > stop.since and start.first.pid != stop.pid
                for start in starts
            )
            over = now - stop.since > _LONGEST_STOP or _is_dead(stop.pid)
            if over or (followed if stop.lasts is None else now - stop.since > stop.lasts):
                self._send(stop.pid, signal.SIGCONT)
                with self._lock:
                    stop.until = time.monotonic()
                self._did("let go" if stop.lasts is not None or over else "let go after its job went on", stop.pid)

    def _sweep(self, times: int) -> bool:
        """Beside the schedule; not while that is to be missed."""
        if not self._scheduled or time.monotonic() - self._swept < _SWEEPER_EVERY:
            return False
        self._swept = time.monotonic()
        for _ in range(times):
            self._lambda.invoke(FunctionName=self._sweeper, InvocationType="Event", Payload="{}")["Payload"].read()
        self._did("start a sweeper" if times == 1 else "start two sweepers")
        return True

    # --- processes ---

    def _group(self) -> int | None:
        """The process group of the emulator: nothing outside of it is touched."""
        return next((line.group for line in self._log.lines if line.group), None)

    def _send(self, pid: int, number: signal.Signals) -> bool:
        group = self._group()
        try:
            if group is None or os.getpgid(pid) != group:
                return False
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _processes(self, function: str) -> Iterator[int]:
        """The processes that run a Lambda function, on a machine that can list them (Linux)."""
        group = self._group()
        for entry in Path("/proc").glob("[0-9]*") if group else ():
            pid = int(entry.name)
            try:
                alive = os.getpgid(pid) == group and not _is_dead(pid) and _age(pid) > _BEGINS
                if alive and _function_of(entry) == function:
                    yield pid
            except OSError:
                continue


def _function_of(entry: Path) -> str:
    """The Lambda function that a process runs, or ''."""
    pairs = (variable.partition(b"=") for variable in (entry / "environ").read_bytes().split(b"\0"))
    return {key: value for key, _, value in pairs}.get(b"AWS_LAMBDA_FUNCTION_NAME", b"").decode()


def _is_dead(pid: int) -> bool:
    """Gone, or waiting for its parent to hear of it."""
    try:
        return _stat(pid)[0] == "Z"
    except FileNotFoundError:
        return Path("/proc/self").exists()


def _age(pid: int) -> float:
    """Seconds since the process began."""
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return since_boot - int(_stat(pid)[19]) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """What Linux says of a process, from its state on; see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def was_stopped(stops: list[Stop], pid: int, since: float, until: float) -> bool:
    """This process was stopped at some time between the two."""
    return any(
        stop.pid == pid and stop.since <= until and (stop.until is None or stop.until >= since) for stop in stops
    )


def describe(act: Act) -> dict[str, Any]:
    """For people to read."""
    return {"what": act.what, **({"pid": act.pid} if act.pid else {}), **({"job": act.job} if act.job else {})}
