"""The jobs of the simulation: what a handler does is a script in its payload, one step for each attempt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relayq_core.errors import Bury, RetryAfter, Snooze
from relayq_core.jobs.context import JobContext
from relayq_core.jobs.lineage import current_job
from relayq_core.jobs.registry import Origin, RunnableJob
from relayq_core.model.options import Options
from relayq_core.model.record import JobRecord
from tests.adversity.simulation.world import CANARY, Actor

if TYPE_CHECKING:
    from tests.adversity.simulation.cast import Stage


def payload(script: list[str], failed: str = "") -> dict[str, Any]:
    """What a scripted job is dispatched with: a step for each attempt, and what its failed() does."""
    return {"script": script, "failed": failed, "note": CANARY}


@dataclass(frozen=True)
class SimType:
    """A job type without pydantic."""

    stage: Stage
    name: str = "scripted"
    options: Options = field(default_factory=lambda: Options(timeout=60.0))
    origin: Origin = field(default_factory=lambda: Origin("simulation", "scripted"))

    def encode(self, args: Any) -> str:
        return json.dumps(args)

    def recheck(self, payload_json: str) -> str:
        return payload_json

    def is_same(self, mine: str, other: str) -> bool:
        return mine == other

    def build(self, payload_json: str) -> tuple[RunnableJob, list[str]]:
        given = json.loads(payload_json)
        return SimJob(self.stage, given["script"], given["failed"]), []

    def build_schema(self) -> dict[str, Any]:
        return {}


@dataclass
class SimJob:
    """A handler that does what its script says; the last step is repeated."""

    stage: Stage
    script: list[str]
    when_failed: str

    def handle(self, make_context: Callable[[], JobContext]) -> Any:
        context = make_context()
        stage, actor, judge = self.stage, self.stage.world.actor, self.stage.checker.handlers
        record = _running()
        lease = record.lease_id or ""
        judge.starts(actor, context.job_id, context.attempt, record)
        step = self.script[min(context.attempt, len(self.script)) - 1]
        stage.world.note(f"{actor.name} runs {context.job_id} attempt {context.attempt}: {step}")
        try:
            returned = self._do(step, actor, context)
        except Exception as error:
            judge.raised(context.job_id, lease, error)
            raise
        else:
            judge.returned(context.job_id, lease, _as_json(returned))
            return returned
        finally:
            judge.ends(context.job_id, lease)

    def _do(self, step: str, actor: Actor, context: JobContext) -> Any:
        verb, _, argument = step.partition(":")
        clock = self.stage.clock(actor)
        clock.sleep(10)
        match verb:
            case "ok":
                return {"ok": context.attempt, "of": context.job_id}
            case "sleep":
                clock.sleep(int(argument) * 1000)
                return None
            case "fail":
                clock.sleep(int(argument or 0) * 1000)
                raise ValueError(f"scripted failure {context.attempt}")
            case "later":
                raise RetryAfter(int(argument))
            case "snooze":
                # a snooze keeps the attempt, so the script would never move on: the first that is awake ends it
                if self.stage.snoozed(context.job_id) > 2:
                    return None
                raise Snooze(int(argument))
            case "bury":
                raise Bury("scripted burial")
            case "die":
                self.stage.world.kill(actor)
            case "stubborn":
                actor.stopped_at = None
                clock.sleep(1_000_000)
            case "progress":
                context.progress(0.5, "half")
                clock.sleep(3_000)
                context.progress(1.0)
                if argument == "fail":
                    raise ValueError("scripted failure, half way")
            case "child":
                self.stage.dispatch_inside(actor, argument)
        return None

    def failed(self, error: BaseException) -> Any:
        actor, clock = self.stage.world.actor, self.stage.clock(self.stage.world.actor)
        self.stage.checker.handlers.failed_starts(actor, _running(), error)
        clock.sleep(10)
        verb, _, argument = self.when_failed.partition(":")
        match verb:
            case "sleep":
                clock.sleep(int(argument) * 1000)
            case "raise":
                raise ValueError(CANARY)
            case "die" if self.stage.dies_in_failed(_running().id):
                self.stage.world.kill(actor)


def _running() -> JobRecord:
    record = current_job.get()
    assert record is not None
    return record


def _as_json(returned: Any) -> str | None:
    return None if returned is None else json.dumps(returned, separators=(",", ":"))
