"""The demo: plays its story on the embedded stack, and looks into the tables whether it came true."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relayq_core.local.chapters import STORY, Chapter, Stage
from relayq_core.local.stack import Stack, shipped_jobs
from relayq_core.model.record import JobRecord

JOB_MODULES = "jobs,relayq_core.local.demo_jobs"
#: What a production stack takes its time for goes faster here.
_SETTINGS = {
    "RELAYQ_JOB_MODULES": JOB_MODULES,
    "RELAYQ_STALE_SECONDS": "2",
    "RELAYQ_LEASE_GRACE_SECONDS": "1",
    "RELAYQ_LOOKAHEAD_SECONDS": "1",
    "WEBHOOK_ALLOW_PRIVATE": "true",  # the receiver of the demo is on 127.0.0.1
}
_TICK_SECONDS = 1.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """How one chapter stands: its job's status, or `duplicate`; its tries as `2/3`; and what there is to say."""

    key: str
    about: str
    job_id: str
    name: str
    status: str
    tries: str
    note: str


@dataclass(frozen=True, slots=True)
class Scene:
    """How the story stands, `seconds` after its beginning."""

    seconds: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What the demo promised, whether the tables say so, and what they say."""

    promise: str
    kept: bool
    found: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last scene, and what came of the promises."""

    scene: Scene
    checks: tuple[Check, ...]

    @property
    def came_true(self) -> bool:
        """Every promise was kept."""
        return all(check.kept for check in self.checks)

    def job_id(self, key: str) -> str:
        """The job of one chapter."""
        return next(line.job_id for line in self.scene.lines if line.key == key)


def demo_stack(logs: Path, *, sweeper: bool = True) -> Stack:
    """The stack the story is played on."""
    return Stack(logs, settings=_SETTINGS, path=[shipped_jobs()], tick=_TICK_SECONDS if sweeper else None)


def play(stage: Stage, show: Callable[[Scene], None], *, patience: float) -> Outcome:
    """Dispatch everything, watch until all jobs have ended or `patience` seconds are over, and judge."""
    began = time.monotonic()
    chapters = [begin(stage) for begin in STORY]
    while True:
        jobs = _jobs(stage, chapters)
        for chapter, job in zip(chapters, jobs, strict=True):
            chapter.watch(job)
        lines = tuple(_line(stage, chapter, job) for chapter, job in zip(chapters, jobs, strict=True))
        scene = Scene(time.monotonic() - began, lines)
        show(scene)
        if scene.seconds > patience or all(job.status.is_ended for job in jobs):
            checks = (
                Check(chapter.promise, chapter.kept(job), chapter.found(job))
                for chapter, job in zip(chapters, jobs, strict=True)
            )
            return Outcome(scene, tuple(checks))
        time.sleep(_LOOK_SECONDS)


def _jobs(stage: Stage, chapters: list[Chapter]) -> list[JobRecord]:
    """Each chapter's job as it now is, from whichever table has it."""
    ids = [chapter.dispatched.job_id for chapter in chapters]
    live = {job.id: job for job in stage.relayq.store.get_many(ids)}
    found = [live.get(job_id) or stage.relayq.get(job_id) for job_id in ids]
    assert all(found), f"a job is in neither table: {ids}"
    return [job for job in found if job is not None]


def _line(stage: Stage, chapter: Chapter, job: JobRecord) -> Line:
    status, tries = str(job.status), f"{job.attempt}/{job.max_attempts or stage.relayq.policy.max_attempts}"
    if chapter.dispatched.duplicate:
        status, tries = "duplicate", ""
    return Line(chapter.key, chapter.about, job.id, job.name, status, tries, chapter.note(job))
