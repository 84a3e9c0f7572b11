"""Perform one job as a runner would, with nothing around it: no row, no lease, no retry."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.engine.attempt import run_to_completion
from relayq_core.engine.ids import new_id
from relayq_core.jobs.context import JobContext, isolate
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request
from relayq_core.ports import Clock

T = TypeVar("T")

#: What a job without a timeout has, in a runner of Lambda's longest life (seconds).
_LONGEST = 890.0


def perform(
    job: Any,
    args: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    max_attempts: int | None = None,
    clock: Clock | None = None,
) -> Any:
    """Run a job's handler, and give back what it returned, or let through what it raised.

    `job` is what dispatch() takes. The payload goes through JSON first, as on its way to a runner, and the handler is
    given a context that says it is try number `attempt`. Raises InvalidPayload, UnknownJob.
    """
    request = resolve_request(job, args, registry)
    job_type = request.job_type or registry.find(request.name)
    made, _ = job_type.build(job_type.recheck(request.payload_json))
    options = request.options.complete_from(job_type.options)
    time = clock or SystemClock()
    context = JobContext(
        job_id=options.job_id or new_id(time.now()),
        name=request.name,
        queue=options.queue or "default",
        attempt=attempt,
        max_attempts=max_attempts or options.max_attempts or 3,
        deadline_ms=time.now() + round(1000 * (options.timeout or _LONGEST)),
        _now=time.now,
        _report=lambda progress_json: True,
    )

    return apart_from_loops(lambda: isolate(run_to_completion, lambda: made.handle(lambda: context)))


def apart_from_loops(action: Callable[[], T]) -> T:
    """Do it here; or, inside an async test, in a thread of its own: a job runs a loop of its own, as in a runner."""
    if not _is_in_loop():
        return action()
    done: list[T] = []
    raised: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            done.append(context.run(action))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="relayq-testing")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return done[0]


def _is_in_loop() -> bool:
    # the action may not run inside the `except`: its errors would name this one as their cause
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
