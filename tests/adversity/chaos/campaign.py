"""One run: deploy, dispatch while the nemesis acts, then calm until every job has ended, and read what is left."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relayq_core import DispatchUnknown, RelayQ, RelayQError, Settings
from relayq_core.adapters.dynamodb.items import read_failed, read_job
from relayq_core.ports import Handoff
from tests.adversity.chaos.history import Ack, CancelAck, History, Moment, Tables
from tests.adversity.chaos.log import Log
from tests.adversity.chaos.mutants import MUTANTS
from tests.adversity.chaos.nemesis import Nemesis
from tests.adversity.chaos.plan import Order, plan
from tests.adversity.chaos.wire import Wire, address, wire
from tests.e2e import harness
from tests.e2e.harness import Emulator, copied
from tests.support.paths import ROOT

#: Long enough for a delay that a runner sleeps; a process that stopped itself is ended by Lambda after this.
RUNNER_TIMEOUT = 90
_DISPATCHERS = 8
#: Dispatching waits while this many jobs that are due have not been started, so that a slow machine is not buried.
_MOST_WAITING = 4
#: A job that has not been started this long after it was due has met a fault: it is not waited for (seconds).
_PATIENCE = 6.0
_LONGEST_WAIT = 300.0
#: How long the nemesis goes on after the last dispatch (seconds).
_TAIL = 15.0
#: The longest calm: a job that crashes in its last attempts needs a lease and a tick for each (seconds).
LONGEST_CALM = 600.0
#: Handlers whose log was quiet for this long are done.
_QUIET = 3.0


@dataclass(frozen=True)
class Stage:
    """What was deployed, and the wire before it."""

    emulator: Emulator
    wire: Wire
    folder: Path
    outputs: dict[str, str]


@contextmanager
def deployed(folder: Path, seed: int, mutant: str | None = None) -> Iterator[Stage]:
    """The shipped template, with one more file of jobs; its functions call AWS through the wire."""
    project = copied(ROOT, "template.yaml", "samconfig.toml", "functions", "relayq_core", to=folder / "relayq")
    (project / "functions/runner/jobs/chaos.py").write_text((ROOT / "tests/adversity/chaos/trial.py").read_text())
    if mutant is not None:
        MUTANTS[mutant].apply(project / "relayq_core")
    with wire(seed) as before, harness.emulator(folder) as emulator:
        before.target = address(emulator.endpoint)
        outputs = emulator.deploy(project, "relayq", RunnerTimeout=str(RUNNER_TIMEOUT))
        functions = emulator.client("lambda")
        for name in (outputs["RunnerFunctionName"], outputs["SweeperFunctionName"]):
            variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            variables["AWS_ENDPOINT_URL"] = before.endpoint
            functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        yield Stage(emulator, before, folder, outputs)


class LeakyHandoff:
    """What dispatch() hands off with: some handoffs are dropped, refused, or made twice."""

    def __init__(self, handoff: Handoff, seed: int) -> None:
        self._handoff = handoff
        self._luck = random.Random(f"{seed}/handoff")
        self._lock = threading.Lock()
        self.reliable = False
        self.fate: dict[str, str] = {}

    def offer(
        self, job_id: str, queue: str | None, run_at: int, *, name: str | None = None, here: bool = False
    ) -> None:
        """Offer the job, or do not."""
        with self._lock:
            fate = self._luck.choices(("", "dropped", "refused", "doubled"), (80, 5, 5, 10))[0]
            self.fate[job_id] = fate = "" if self.reliable else fate
        if fate == "refused":
            raise ConnectionError("refused by the chaos run")
        for _ in range({"dropped": 0, "doubled": 2}.get(fate, 1)):
            self._handoff.offer(job_id, queue, run_at, name=name, here=here)


@dataclass(order=True)
class _Task:
    at: float
    turn: int
    work: Callable[[], None] = field(compare=False)


class Run:
    """Dispatches the plan of a seed, and cancels what it says."""

    def __init__(self, stage: Stage, relayq: RelayQ, handoff: LeakyHandoff, log: Log) -> None:
        self._stage = stage
        self._relayq = relayq
        self._handoff = handoff
        self._log = log
        self._agenda: list[_Task] = []
        self._turns = itertools.count()
        self._lock = threading.Lock()
        self._busy = 0
        self._waited = 0.0
        #: how much of the plan has been dispatched
        self.progress = 0.0
        self.acks: list[Ack] = []
        self.cancels: list[CancelAck] = []

    def dispatch_all(self, orders: list[Order]) -> None:
        """Each at its time, several at once. Returns when all is said."""
        began = self._now()
        for order in orders:
            self._soon(began + order.after, lambda order=order: self._order(order))  # type: ignore[misc]
        with ThreadPoolExecutor(_DISPATCHERS) as pool:
            futures: list[Future[None]] = []
            while self._is_busy():
                task = self._next()
                if task is not None:
                    futures.append(pool.submit(self._do, task))
                    continue
                time.sleep(0.02)
                self.progress = len({ack.order.number for ack in self.acks}) / len(orders)
                while self._waiting() > _MOST_WAITING and self._waited < _LONGEST_WAIT:
                    time.sleep(0.1)
                    self._waited += 0.1
        for future in futures:
            future.result()

    def _now(self) -> float:
        """Seconds, not counting those in which dispatching waited for the machine."""
        return time.monotonic() - self._waited

    def _waiting(self) -> int:
        """How many jobs are due, were handed off just now, and have not been started."""
        now = time.monotonic()
        due = {
            ack.order.number
            for ack in list(self.acks)
            if ack.answer is not None and ack.answer.handed_off and ack.handoff != "dropped"
            if 0 < now - ack.ended.mono - ack.order.delay < _PATIENCE
        }
        return len(due - {line.number for line in self._log.read()}) if len(due) > _MOST_WAITING else 0

    def _soon(self, at: float, work: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._agenda, _Task(at, next(self._turns), work))

    def _is_busy(self) -> bool:
        with self._lock:
            return bool(self._agenda) or self._busy > 0

    def _next(self) -> _Task | None:
        with self._lock:
            if self._agenda and self._agenda[0].at <= self._now():
                self._busy += 1
                return heapq.heappop(self._agenda)
        return None

    def _do(self, task: _Task) -> None:
        try:
            task.work()
        finally:
            with self._lock:
                self._busy -= 1

    def _order(self, order: Order) -> None:
        if order.cut is None:
            ack = self._dispatch(order)
        else:
            with self._stage.wire.cut_off(order.job_id or "", order.cut):
                ack = self._dispatch(order)
            if order.again:
                self._dispatch(order)
        job_id = ack.answer.job_id if ack.answer and not ack.answer.duplicate else None
        if order.cancel_after is not None and job_id is not None:
            self._soon(self._now() + order.cancel_after, lambda: self._cancel(job_id))

    def _dispatch(self, order: Order) -> Ack:
        began = Moment.now()
        found: dict[str, Any] = {}
        try:
            found["answer"] = self._relayq.dispatch(
                order.name,
                order.payload(str(self._log.path)),
                job_id=order.job_id,
                queue=order.queue,
                delay=order.delay or None,
                max_attempts=order.max_attempts,
                backoff=[order.backoff],
                timeout=order.timeout,
                unique=order.unique,
                unique_for=order.unique_for,
            )
            found["handoff"] = self._handoff.fate.get(found["answer"].job_id, "")
        except DispatchUnknown as unknown:
            found["unknown_id"] = unknown.job_id
            found["error"] = f"DispatchUnknown: {unknown}"
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"
        ack = Ack(order=order, began=began, ended=Moment.now(), **found)
        self.acks.append(ack)
        return ack

    def _cancel(self, job_id: str) -> None:
        record, error = None, None
        try:
            record = self._relayq.cancel(job_id)
        except RelayQError as raised:
            error = f"{type(raised).__name__}: {raised}"
        self.cancels.append(CancelAck(job_id=job_id, ended=Moment.now(), record=record, error=error))


def play(stage: Stage, seed: int, jobs: int) -> History:
    """The whole run of one seed on what is deployed."""
    log = Log(stage.folder / "handlers.log")
    outputs = stage.outputs
    nemesis = Nemesis(seed, stage.emulator, outputs["RunnerFunctionName"], outputs["SweeperFunctionName"], log)
    stage.wire.on_end = nemesis.stop_at_its_end
    with pytest.MonkeyPatch.context() as patch, relayq_of(stage, seed, patch) as (relayq, handoff):
        run = Run(stage, relayq, handoff, log)
        began = Moment.now()
        stage.wire.faulty = True
        striking = threading.Thread(target=nemesis.run, args=(lambda: run.progress,), name="nemesis")
        striking.start()
        try:
            run.dispatch_all(plan(seed, jobs))
            time.sleep(_TAIL)
        finally:
            nemesis.calm.set()
            stage.wire.faulty = False
            handoff.reliable = True
        calm_from = time.monotonic()
        striking.join()
        _wait_until_all_has_ended(stage, log)
        ended = time.monotonic()
    sweeps, swept = swept_by(stage)
    return History(
        seed=seed,
        asked_jobs=jobs,
        acks=run.acks,
        cancels=run.cancels,
        lines=log.read(),
        stops=nemesis.stops,
        acts=nemesis.acts,
        faults=stage.wire.faults,
        tables=tables(stage),
        defects=stage.wire.defects,
        swept=swept,
        sweeps=sweeps,
        leases_lost=len(_logged(stage, "runner", "no longer this runner")),
        complaints=_logged(stage, "runner", "a defect of RelayQ"),
        began=began,
        calm_from=calm_from,
        ended=ended,
    )


@contextmanager
def relayq_of(stage: Stage, seed: int, patch: pytest.MonkeyPatch) -> Iterator[tuple[RelayQ, LeakyHandoff]]:
    """What a process has that holds the outputs of the stack, and a key with DispatchPolicy: behind the wire too."""
    key, secret = stage.emulator.access_key("dispatcher", stage.outputs["DispatchPolicyArn"])
    for name in [name for name in os.environ if name.startswith(("AWS_", "RELAYQ_"))]:
        patch.delenv(name)
    for name, value in {**stage.emulator.environ(key, secret), "AWS_ENDPOINT_URL": stage.wire.endpoint}.items():
        patch.setenv(name, value)
    settings = Settings.from_environ(
        {
            "RELAYQ_JOBS_TABLE": stage.outputs["JobsTableName"],
            "RELAYQ_FAILED_TABLE": stage.outputs["FailedJobsTableName"],
            "RELAYQ_RUNNER_FUNCTION": stage.outputs["RunnerFunctionName"],
        }
    )
    leaky = LeakyHandoff(RelayQ(settings).handoff, seed)
    yield RelayQ(settings, handoff=leaky), leaky


def _wait_until_all_has_ended(stage: Stage, log: Log) -> None:
    """Until no row is live, no invocation is still to come, and no handler says a word; or until patience ends."""
    until = time.monotonic() + LONGEST_CALM
    quiet = time.monotonic()
    seen = 0
    while time.monotonic() < until:
        lines = len(log.read())
        if lines != seen or stage.wire.under_way or _live(stage):
            seen, quiet = lines, time.monotonic()
        elif time.monotonic() - quiet > _QUIET:
            return
        time.sleep(0.5)


# --- what is left ---


def _scanned(stage: Stage, table: str, **more: Any) -> list[dict[str, Any]]:
    pages = stage.emulator.client("dynamodb").get_paginator("scan").paginate(TableName=stage.outputs[table], **more)
    return [item for page in pages for item in page["Items"]]


def _live(stage: Stage) -> list[str]:
    """The jobs that the index has."""
    return [item["pk"]["S"].removeprefix("job#") for item in _scanned(stage, "JobsTableName", IndexName="due")]


def tables(stage: Stage) -> Tables:
    """Both tables as they are."""
    items = _scanned(stage, "JobsTableName", ConsistentRead=True)
    jobs = [read_job(item) for item in items if item["pk"]["S"].startswith("job#")]
    failed = [read_failed(item) for item in _scanned(stage, "FailedJobsTableName", ConsistentRead=True)]
    keys = {
        item["pk"]["S"]: (item["job_id"]["S"], int(item["expires_at"]["N"]) if "expires_at" in item else None)
        for item in items
        if item["pk"]["S"].startswith("unique#")
    }
    return Tables(
        jobs={job.id: job for job in jobs},
        failed={job.id: job for job in failed},
        keys=keys,
        due=tuple(_live(stage)),
    )


def _logged(stage: Stage, function: str, words: str) -> list[str]:
    """Log lines of a function with these words."""
    pages = stage.emulator.client("logs").get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=f"/relayq/relayq/{function}")
    return [event["message"] for page in found for event in page["events"] if words in event["message"]]


def swept_by(stage: Stage) -> tuple[int, Counter[str]]:
    """In how many sweeps something was done, and what, by the sweepers' own logs."""
    counts: Counter[str] = Counter()
    lines = _logged(stage, "sweeper", '"swept"')
    for line in lines:
        counts.update(json.loads(line)["counts"])
    return len(lines), counts
