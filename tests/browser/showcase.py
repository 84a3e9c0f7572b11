"""A shop's evening, made up: the same each time, for the screens to show all that they can."""

from __future__ import annotations

import json
import math
import random

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.client import RelayQ
from relayq_core.dashboard.history import MemoryHistory
from relayq_core.settings import Settings
from relayq_core.testing import MemoryStore, RecordingHandoff
from tests.support.factories import a_burial, a_job, a_lease

MINUTE = 60_000
FAILED_JOB = "01KAXWFAB0000000000000000F"
RUNNING_JOB = "01KAXWRVN0000000000000000R"
_ERRORS = {
    "post_webhook": (
        "webhooks",
        ["ConnectTimeout: https://shop:s3cr3t@hooks.example.com/orders did not answer in 10 s"],
    ),
    "send_email": ("emails", ["SMTPServerDisconnected: Connection unexpectedly closed"]),
    "render_invoice": ("reports", ["KeyError: 'vat_id'", "MemoryError: page 214 of 300"]),
}


class Showcase:
    """Three queues with jobs of every kind, an hour of history, and a sweeper that is on time."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.store = MemoryStore(self.clock)
        settings = Settings(jobs_table="jobs", failed_table="failed", runner_function="runner")
        self.relayq = RelayQ(settings, store=self.store, handoff=RecordingHandoff(), clock=self.clock)
        self._chance = random.Random(7)
        self._now = self.clock.now()
        self.history = self._an_hour()
        for queue in ("emails", "reports", "webhooks"):
            self.store.register_queue(queue)
        self._live()
        self._failures()
        self.store.record_tick(self._now - 21_000, {"nudged": 3, "released": 1, "waited": 2})

    def _an_hour(self) -> MemoryHistory:
        history = MemoryHistory(self.clock)
        for minute in range(60):
            at = self._now - minute * MINUTE
            runs = round(24 + 15 * math.sin(minute / 7) + self._chance.random() * 8)
            history.count(at, "completed", runs)
            history.count(at, "retried", self._chance.choice([0, 0, 0, 1, 3]))
            history.count(at, "failed", self._chance.choice([0, 0, 0, 0, 0, 1]))
            for _ in range(runs):
                history.record_duration(at, self._chance.lognormvariate(5.6, 0.5))
        return history

    def _live(self) -> None:
        for n in range(86):
            queue, name = self._chance.choice(
                [("emails", "send_email"), ("emails", "send_email"), ("webhooks", "post_webhook")]
            )
            waits = self._chance.choice([0, 0, 900_000])
            created = self._now - self._chance.randrange(1000, 25_000)
            self._add(f"01KAXW{n:020d}", name, queue, created, waits, '{"to": "ada@example.com"}')
        self._add(RUNNING_JOB, "render_invoice", "reports", self._now - 9_000, 0, '{"month": "2026-10", "pages": 300}')
        claimed = self.store.claim(RUNNING_JOB, a_lease(now=self._now - 8_000)).record
        assert claimed is not None
        self.store.save_progress(claimed, json.dumps({"fraction": 0.62, "note": "page 186 of 300"}))

    def _failures(self) -> None:
        for n in range(64):
            name = self._chance.choice(["post_webhook", "post_webhook", "send_email", "render_invoice"])
            self._fail(f"01KAXV{n:020d}", name, self._chance.randrange(MINUTE, 900 * MINUTE))
        self._fail(FAILED_JOB, "post_webhook", 3 * MINUTE)

    def _fail(self, job_id: str, name: str, ago: int) -> None:
        queue, errors = _ERRORS[name]
        error = self._chance.choice(errors)
        failed_at = self._now - ago
        tries = [failed_at - 42_000, failed_at - 31_000, failed_at]
        payload = {
            "url": "https://hooks.example.com/orders",
            "headers": {"Authorization": "Bearer 8f14e45fceea167a"},
            "payload": {"order": 4711, "paid": True, "total": "89.90"},
        }
        self._add(job_id, name, queue, failed_at - 60_000, 0, json.dumps(payload))
        claimed = self.store.claim(job_id, a_lease(now=failed_at - 400)).record
        assert claimed is not None
        self.store.settle(claimed, a_burial(claimed, now=failed_at))
        self.store.failures[job_id] = self.store.failures[job_id].evolve(
            error=f"{error}\n  at jobs/{name}.py:41 in {name}\n  at jobs/http.py:17 in post",
            errors_json=json.dumps([{"attempt": n, "at": at, "error": error} for n, at in enumerate(tries, 1)]),
            attempt=3,
            max_attempts=3,
            parent_id=RUNNING_JOB if job_id == FAILED_JOB else None,
            root_id=RUNNING_JOB if job_id == FAILED_JOB else None,
        )

    def _add(self, job_id: str, name: str, queue: str, created: int, waits: int, payload: str) -> None:
        times = {"created_at": created, "updated_at": created, "available_at": created + waits}
        due = created + waits + 30_000
        self.store.add(
            a_job(id=job_id, name=name, queue=queue, due_at=due, payload_json=payload, max_attempts=3, **times)
        )
