"""What a worker's process runs: one claimed job after another, received and reported over a connection.

Its two arguments are inherited descriptors: for jobs, and a lifeline. The worker claims jobs and renews their leases;
here each is run and settled by the same Runner as in the Lambda.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from relayq_core import api
from relayq_core.client import RelayQ
from relayq_core.engine.results import RunOutcome
from relayq_core.jobs.registry import import_jobs
from relayq_core.model.record import JobRecord
from relayq_core.process.loggers import job_logger, logger, write_by
from relayq_core.text import locate_error

#: A job without a timeout may run for a week; its lease is renewed all that time.
_LONGEST_MS = 604_800_000


@dataclass(frozen=True, slots=True)
class Ready:
    """The jobs are imported."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """The jobs cannot be imported; `problem` says why, in a sentence."""

    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """How the run of a job ended here."""

    ended: RunOutcome


def main() -> None:
    """Import the jobs, report that, and run each job that arrives until the worker closes the connection."""
    connection, lifeline = (Connection(int(number)) for number in sys.argv[1:3])
    threading.Thread(target=_die_with, args=(lifeline,), daemon=True).start()
    _log_to_stderr()
    try:
        relayq = _build_relayq()
    except BaseException as error:
        connection.send(NotReady(locate_error(error)))
        return
    connection.send(Ready())
    while True:
        try:
            claimed: JobRecord = connection.recv()
        except EOFError:
            return
        with relayq.publishing():
            result = relayq.runner.run_claimed(claimed, lambda: _LONGEST_MS)
        connection.send(Report(result.ended))


def _build_relayq() -> RelayQ:
    relayq = RelayQ()
    relayq.policy = relayq.policy.evolve(renews=True, runner_ms=None)
    api.use(relayq)
    import_jobs(relayq.settings.job_modules)
    relayq.connect()
    return relayq


def _die_with(lifeline: Connection) -> None:
    """End this process and all that it has started when the worker is gone, for then its leases are not renewed."""
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def _log_to_stderr() -> None:
    """Write what jobs and the runner log to stderr; what a job prints goes where the worker's own output goes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    write_by(logging.root.handlers[0], logger)  # the jobs may configure the root as they like
    job_logger.setLevel(logging.INFO)
