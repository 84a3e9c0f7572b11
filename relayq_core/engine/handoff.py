"""Handing off: tell a runner of a job. It never fails anybody: the row is safe, and the sweeper looks after it."""

from __future__ import annotations

import json

from relayq_core.events.listeners import Events, JobEvent
from relayq_core.jobs.context import job_fields
from relayq_core.model.record import JobRecord
from relayq_core.ports import Handoff
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error


def message(job_id: str, queue: str | None, run_at: int, name: str | None) -> str:
    """Return the JSON that every runner is handed, whichever way it takes.

    `run_at` in epoch milliseconds; queue and name are hints, null where they are not known.
    """
    return json.dumps({"job_id": job_id, "run_at": run_at, "queue": queue, "name": name})


def hand_off(handoff: Handoff, events: Events, record: JobRecord, run_at: int) -> bool:
    """Offer the job to a runner; True if the offer was taken. Any error is a log line and an event."""
    try:
        handoff.offer(record.id, record.queue, run_at, name=record.name)
    except Exception as error:
        logger.warning(
            "the handoff failed (%s); the sweeper will start the job",
            summarize_error(error),
            extra=job_fields(record),
        )
        events.emit(JobEvent(kind="handoff_failed", job=record, error=error))
        return False
    return True
