"""Handoff: offer a job to a runner. A failed handoff never fails the caller: the sweeper starts the stored job."""

from __future__ import annotations

import json

from relayq_core.events.listeners import Events, JobEvent
from relayq_core.jobs.context import log_fields
from relayq_core.model.record import JobRecord
from relayq_core.ports import Handoff
from relayq_core.process.budget import seconds_left
from relayq_core.process.loggers import logger
from relayq_core.text import summarize_error


def build_message(job_id: str, queue: str | None, run_at: int, name: str | None) -> str:
    """Return the JSON that every runner is handed, whichever way it takes.

    `run_at` in epoch milliseconds, 0 for a job that is to start at once; queue and name are hints, null
    where they are not known.
    """
    return json.dumps({"job_id": job_id, "run_at": run_at, "queue": queue, "name": name})


class Handoffs:
    """Offers jobs to runners, and reports the offers that fail."""

    def __init__(self, handoff: Handoff, events: Events) -> None:
        self._handoff = handoff
        self._events = events

    def hand_off(self, record: JobRecord) -> bool:
        """Offer the job for the moment it is available; True if the offer was taken. An error is logged and emitted."""
        try:
            if seconds_left() <= 0:
                raise TimeoutError("no time is left for it")
            run_at = 0 if record.is_immediate else record.available_at
            self._handoff.offer(record.id, record.queue, run_at, name=record.name)
        except Exception as error:
            logger.warning(
                "the handoff failed (%s); the sweeper will start the job",
                summarize_error(error),
                extra=log_fields(record),
            )
            self._events.emit(JobEvent(kind="handoff_failed", job=record, error=error))
            return False
        return True
