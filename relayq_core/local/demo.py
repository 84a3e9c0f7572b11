"""Play the demo's story on the embedded stack, and check in the tables that it came true."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relayq_core.local.chapters import STORY, Chapter, Stage
from relayq_core.local.stack import Stack, find_shipped_jobs
from relayq_core.model.record import JobRecord

JOB_MODULES = "jobs,relayq_core.local.demo_jobs"
#: The demo uses shorter times than a production stack.
_SETTINGS = {
    "RELAYQ_JOB_MODULES": JOB_MODULES,
    "RELAYQ_STALE_SECONDS": "2",
    "RELAYQ_LEASE_GRACE_SECONDS": "1",
    "RELAYQ_LOOKAHEAD_SECONDS": "1",
    "WEBHOOK_ALLOW_PRIVATE": "true",  # the receiver of the demo is on 127.0.0.1
}
_TICK_SECONDS = 1.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """The state of one chapter: its job's status or `duplicate`, its attempt as in `2/3`, and a note."""

    key: str
    about: str
    job_id: str
    name: str
    status: str
    tries: str
    note: str


@dataclass(frozen=True, slots=True)
class Scene:
    """The state of the story, `seconds` after its beginning."""

    seconds: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A promise of the demo, whether it was kept, and what the tables show."""

    promise: str
    kept: bool
    found: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last scene, and a check of each promise."""

    scene: Scene
    checks: tuple[Check, ...]

    @property
    def came_true(self) -> bool:
        """Every promise was kept."""
        return all(check.kept for check in self.checks)

    def job_id(self, key: str) -> str:
        """Return the id of one chapter's job."""
        return next(line.job_id for line in self.scene.lines if line.key == key)


def build_stack(logs: Path, *, sweeper: bool = True) -> Stack:
    """Return the stack for the story."""
    return Stack(logs, settings=_SETTINGS, path=[find_shipped_jobs()], tick=_TICK_SECONDS if sweeper else None)


def play(stage: Stage, show: Callable[[Scene], None], *, patience: float) -> Outcome:
    """Dispatch all jobs, watch until they have ended or `patience` seconds are over, and check the promises."""
    began = time.monotonic()
    chapters = [begin(stage) for begin in STORY]
    while True:
        jobs = _read_jobs(stage, chapters)
        for chapter, job in zip(chapters, jobs, strict=True):
            chapter.watch(job)
        lines = tuple(_describe(stage, chapter, job) for chapter, job in zip(chapters, jobs, strict=True))
        scene = Scene(time.monotonic() - began, lines)
        show(scene)
        if scene.seconds > patience or all(job.status.is_ended for job in jobs):
            checks = (
                Check(chapter.promise, chapter.is_kept(job), chapter.describe_outcome(job))
                for chapter, job in zip(chapters, jobs, strict=True)
            )
            return Outcome(scene, tuple(checks))
        time.sleep(_POLL_SECONDS)


def _read_jobs(stage: Stage, chapters: list[Chapter]) -> list[JobRecord]:
    """Return the current record of each chapter's job, from whichever table has it."""
    ids = [chapter.dispatched.job_id for chapter in chapters]
    live = {job.id: job for job in stage.relayq.store.get_many(ids)}
    jobs = [live.get(job_id) or stage.relayq.get(job_id) for job_id in ids]
    assert all(jobs), f"a job is in neither table: {ids}"
    return [job for job in jobs if job is not None]


def _describe(stage: Stage, chapter: Chapter, job: JobRecord) -> Line:
    status, tries = str(job.status), f"{job.attempt}/{job.max_attempts or stage.relayq.policy.max_attempts}"
    if chapter.dispatched.duplicate:
        status, tries = "duplicate", ""
    return Line(chapter.key, chapter.about, job.id, job.name, status, tries, chapter.note(job))
