"""`relayq work`: run jobs in processes of this machine, until stopped."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.output import print_json, say
from relayq_core.cli.params import flag, parse_queue
from relayq_core.process.loggers import logger
from relayq_core.worker.output import OutputThread, ThreadedLogHandler
from relayq_core.worker.pool import ProcessSlots
from relayq_core.worker.worker import Worker, WorkerEvent

_STYLES = {"completed": "green", "failed": "red", "crashed": "red", "lease lost": "red", "started": "dim"}


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "work", example="relayq work --queue emails --queue reports --concurrency 4")(work)


def work(
    cli: Cli,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="QUEUE",
            help="Only this queue; repeat it for several, in this order.",
            parser=parse_queue,
        ),
    ] = None,
    once: Annotated[bool, flag("--once", help="Run one job, if one is due, and exit.")] = False,
    max_jobs: Annotated[int | None, typer.Option("--max-jobs", min=1, metavar="N", help="Exit after N jobs.")] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=64, metavar="N", help="How many jobs run at a time.")
    ] = 1,
) -> None:
    """Run due jobs on this machine until stopped.

    For containers, laptops, and jobs that take longer than a Lambda may. It finds due jobs itself, claims them as a
    runner does, and performs them in processes of its own, renewing their leases. The first Ctrl-C (SIGINT, SIGTERM)
    finishes the current jobs and exits; the second ends the handlers and gives their jobs back. If there are runners
    too, it takes a job that was handed off only if no runner claimed it within RELAYQ_STALE_SECONDS.

    JSON: one object a line, {"event", "job_id", "name", "queue", "attempt", "ms"}; at the end {"event": "left",
    "counts"}.
    """
    relayq = cli.connect()
    cli.load_jobs(relayq.settings)
    relayq.store.list_queues()  # fail now, in one sentence, if the tables cannot be used
    # handlers dispatch and retry with this command's handoff
    environ = {"RELAYQ_HANDOFF": relayq.settings.handoff}
    queues, most = queue or [], 1 if once else max_jobs

    def run_worker(voice: OutputThread) -> None:
        with _count_signals() as signals, ProcessSlots(concurrency, environ, quiet=cli.json) as slots:
            if not cli.json:
                where = ", ".join(queues) or "all queues"
                line = f"working on {where}, {concurrency} at a time; Ctrl-C stops after the current job"
                voice.submit(lambda: say(line))
            worker = Worker(
                relayq,
                slots,
                stopping=lambda: len(signals),
                notify=lambda event: voice.submit(lambda: _report(event, as_json=cli.json)),
            )
            counts = worker.work(queues, most=most, once=once)
        with suppress(BrokenPipeError):  # the reader of our output has gone
            voice.submit(lambda: _sum_up(counts, as_json=cli.json))

    voice, log, status = OutputThread(), OutputThread(), 1
    try:
        with voice, log, _log_through(log):
            run_worker(voice)
        status = 0
    finally:
        if voice.is_blocked or log.is_blocked:
            os._exit(status)  # Python would wait for them


def _sum_up(counts: Counter[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"event": "left", "counts": dict(counts)}, line=True)
    else:
        say(", ".join(f"{count} {what}" for what, count in counts.most_common()) or "no job was due")


@contextmanager
def _log_through(output: OutputThread) -> Iterator[None]:
    """While the block runs, have the output thread write RelayQ's log lines."""
    own, propagates = list(logger.handlers), logger.propagate
    inherited = logging.root.handlers if propagates else []
    for handler in own or inherited or filter(None, [logging.lastResort]):
        logger.addHandler(ThreadedLogHandler(handler, output))
        logger.removeHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        for handler in own:
            logger.addHandler(handler)


def _report(event: WorkerEvent, *, as_json: bool) -> None:
    job = event.job
    if as_json:
        fields = {"job_id": job.id, "name": job.name, "queue": job.queue, "attempt": job.attempt, "ms": event.took_ms}
        print_json({"event": event.what, **fields}, line=True)
        return
    duration = "" if event.what == "started" else f"  {event.took_ms / 1000:.2f} s"
    say(
        f"{event.what:<11} {job.name}  {job.id}  attempt {job.attempt}{duration}",
        style=_STYLES.get(event.what, "yellow"),
    )


@contextmanager
def _count_signals() -> Iterator[list[int]]:
    """While the block runs, collect SIGINT and SIGTERM in the list it yields; they end nothing by themselves."""
    signals: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: signals.append(number)) for kind in kinds]
    try:
        yield signals
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
