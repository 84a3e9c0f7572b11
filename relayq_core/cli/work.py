"""`relayq work`: run jobs here, one after another, until stopped."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.output import print_json, say
from relayq_core.cli.params import flag, queue_name
from relayq_core.process.loggers import logger
from relayq_core.worker.pool import ProcessSlots
from relayq_core.worker.speaking import Speaker, SpokenLog
from relayq_core.worker.worker import News, Worker

_STYLES = {"completed": "green", "failed": "red", "crashed": "red", "lease lost": "red", "started": "dim"}


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "work", example="relayq work --queue emails --queue reports --concurrency 4")(work)


def work(
    cli: Cli,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="QUEUE", help="Only this queue; several go in this order.", parser=queue_name),
    ] = None,
    once: Annotated[bool, flag("--once", help="Run one job, if one is due, and leave.")] = False,
    max_jobs: Annotated[int | None, typer.Option("--max-jobs", min=1, help="Leave after so many jobs.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=64, help="Jobs at a time.")] = 1,
) -> None:
    """Run jobs here until stopped: for containers, laptops, and jobs that outlast a Lambda.

    Finds what is due itself, claims it as a runner does, and performs it in processes of its own, renewing the lease.
    The first Ctrl-C (SIGINT, SIGTERM) finishes what is in hand and leaves; the second ends the handlers and gives their
    jobs back. Beside runners it sees a job that was handed off only if no runner took it within RELAYQ_STALE_SECONDS.

    JSON: one object a line, {"event", "job_id", "name", "queue", "attempt", "ms"}; at the end {"event": "left",
    "counts"}.
    """
    relayq = cli.relayq()
    cli.jobs(relayq.settings)
    relayq.store.list_queues()  # tables that cannot be used are told now, in a sentence
    # a handler's own dispatches, and retries, go the way that this command goes
    environ = {"RELAYQ_HANDOFF": relayq.settings.handoff}
    wanted, most = queue or [], 1 if once else max_jobs

    def worked(voice: Speaker) -> None:
        with _counted_signals() as signals, ProcessSlots(concurrency, environ, quiet=cli.json) as slots:
            if not cli.json:
                where = ", ".join(wanted) or "all queues"
                line = f"working on {where}, {concurrency} at a time; Ctrl-C stops after the job in hand"
                voice.say(lambda: say(line))
            worker = Worker(
                relayq,
                slots,
                stopping=lambda: len(signals),
                tell=lambda news: voice.say(lambda: _tell(news, as_json=cli.json)),
            )
            counts = worker.work(wanted, most=most, once=once)
        with suppress(BrokenPipeError):  # nobody listens
            voice.say(lambda: _sum_up(counts, as_json=cli.json))

    voice, log, status = Speaker(), Speaker(), 1
    try:
        with voice, log, _spoken_by(log):
            worked(voice)
        status = 0
    finally:
        if voice.is_blocked or log.is_blocked:
            os._exit(status)  # Python would wait for them


def _sum_up(counts: Counter[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"event": "left", "counts": dict(counts)}, line=True)
    else:
        say(", ".join(f"{count} {what}" for what, count in counts.most_common()) or "nothing was due")


@contextmanager
def _spoken_by(speaker: Speaker) -> Iterator[None]:
    """Inside, RelayQ's log lines are written by a thread of their own."""
    own, propagates = list(logger.handlers), logger.propagate
    inherited = logging.root.handlers if propagates else []
    for handler in own or inherited or filter(None, [logging.lastResort]):
        logger.addHandler(SpokenLog(handler, speaker))
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


def _tell(news: News, *, as_json: bool) -> None:
    job = news.job
    if as_json:
        fields = {"job_id": job.id, "name": job.name, "queue": job.queue, "attempt": job.attempt, "ms": news.took_ms}
        print_json({"event": news.what, **fields}, line=True)
        return
    took = "" if news.what == "started" else f"  {news.took_ms / 1000:.2f} s"
    say(f"{news.what:<11} {job.name}  {job.id}  attempt {job.attempt}{took}", style=_STYLES.get(news.what, "yellow"))


@contextmanager
def _counted_signals() -> Iterator[list[int]]:
    """Inside, SIGINT and SIGTERM are counted, and end nothing by themselves."""
    seen: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: seen.append(number)) for kind in kinds]
    try:
        yield seen
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
