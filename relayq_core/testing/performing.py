"""Perform one job as a runner does, without a row, a lease or retries."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from relayq_core.adapters.system_clock import SystemClock
from relayq_core.engine.attempt import run_to_completion
from relayq_core.engine.ids import generate_id
from relayq_core.jobs.context import JobContext, isolate
from relayq_core.jobs.registry import registry
from relayq_core.jobs.request import resolve_request
from relayq_core.ports import Clock

T = TypeVar("T")

#: The time of a job without a timeout in a runner with Lambda's longest timeout, in seconds.
_LONGEST_SECONDS = 890.0


def perform(
    job: Any,
    args: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    max_attempts: int | None = None,
    clock: Clock | None = None,
) -> Any:
    """Run a job's handler; return what it returns, and raise what it raises.

    `job` is what dispatch() takes. The payload goes through JSON first, as on its way to a runner, and the handler gets
    a context with this `attempt`. Raises InvalidPayload and UnknownJob.
    """
    request = resolve_request(job, args, registry)
    job_type = request.job_type or registry.find(request.name)
    instance, _ = job_type.build(job_type.recheck(request.payload_json))
    options = request.options.complete_from(job_type.options)
    time = clock or SystemClock()
    context = JobContext(
        job_id=options.job_id or generate_id(time.now()),
        name=request.name,
        queue=options.queue or "default",
        attempt=attempt,
        max_attempts=max_attempts or options.max_attempts or 3,
        deadline_ms=time.now() + round(1000 * (options.timeout or _LONGEST_SECONDS)),
        _now=time.now,
        _report=lambda progress_json: True,
    )

    return run_outside_loop(lambda: isolate(run_to_completion, lambda: instance.handle(lambda: context)))


def run_outside_loop(action: Callable[[], T]) -> T:
    """Call the action and return its result; inside an async test, in a thread: a job runs its own event loop."""
    if not _is_in_loop():
        return action()
    results: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            results.append(context.run(action))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="relayq-testing")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _is_in_loop() -> bool:
    # the action must not run inside the `except`: its errors would have this one as their context
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
