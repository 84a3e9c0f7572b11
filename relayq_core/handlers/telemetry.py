"""Logs and metrics of the Lambda functions: structured lines, and EMF metrics made of the core's events."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from relayq_core.events.listeners import Events, JobEvent, Listener
from relayq_core.extras import extra
from relayq_core.process.forks import Lock
from relayq_core.process.loggers import logger, make_lasting, write_by

with extra("lambda"):
    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "RelayQ"
#: The stack's name in the template: runner and sweeper count together, stacks apart.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME") or "relayq"


def structured_logger(*others: str) -> Logger:
    """A Powertools Logger that the core's own loggers, and those of these names, write through.

    The level is POWERTOOLS_LOG_LEVEL's, if it is stricter than what Lambda itself filters by.
    """
    logger = Logger(service=SERVICE, log_uncaught_exceptions=False)
    asked = logging.getLevelNamesMapping().get(os.environ.get("POWERTOOLS_LOG_LEVEL", "").upper(), logging.NOTSET)
    if asked > logger.log_level:
        # Powertools itself, setLevel included, lets Lambda's level win; by that one Lambda would filter the metrics too
        logging.getLogger(logger.name).setLevel(asked)
    for name in ("relayq", *others):
        write_by(logger.registered_handler, make_lasting(name))
        make_lasting(name).setLevel(logger.log_level)
    make_lasting(logger.name)
    return logger


def own_metrics() -> EphemeralMetrics:
    """RelayQ's metrics. Powertools' `Metrics` share one set: those of a job's own code would be counted as ours."""
    return EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)


def counted(events: Events, metrics: EphemeralMetrics) -> None:
    """Count every event of the core: one metric each."""
    lock = Lock()  # the sweeper works in threads, and Powertools' metrics are not made for them
    for kind, listener in {
        "dispatched": _counter(metrics, "Dispatched"),
        "started": _on_started(metrics),
        "processed": _on_processed(metrics),
        "failed": _on_failed(metrics),
        "snoozed": _counter(metrics, "Snoozed"),
        "cancelled": _counter(metrics, "Cancelled"),
        "lease_lost": _counter(metrics, "LeaseLost"),
        "handoff_failed": _counter(metrics, "HandoffFailed"),
        "hint_failed": _counter(metrics, "HintFailed"),
        "publish_failed": _counter(metrics, "PublishFailed"),
    }.items():
        events.on(kind)(_one_at_a_time(listener, lock))


def _one_at_a_time(listener: Listener, lock: Lock) -> Listener:
    def listen(event: JobEvent) -> None:
        with lock:
            listener(event)

    return listen


def _counter(metrics: EphemeralMetrics, name: str) -> Callable[[JobEvent], None]:
    def count(event: JobEvent) -> None:
        metrics.add_metric(name, MetricUnit.Count, 1)

    return count


def _on_started(metrics: EphemeralMetrics) -> Callable[[JobEvent], None]:
    def started(event: JobEvent) -> None:
        metrics.add_metric("Started", MetricUnit.Count, 1)
        metrics.add_metric("Wait", MetricUnit.Milliseconds, event.wait_ms or 0)

    return started


def _on_processed(metrics: EphemeralMetrics) -> Callable[[JobEvent], None]:
    def processed(event: JobEvent) -> None:
        metrics.add_metric("Completed", MetricUnit.Count, 1)
        metrics.add_metric("Duration", MetricUnit.Milliseconds, event.duration_ms or 0)

    return processed


def _on_failed(metrics: EphemeralMetrics) -> Callable[[JobEvent], None]:
    def failed(event: JobEvent) -> None:
        metrics.add_metric("Retried" if event.will_retry else "Failed", MetricUnit.Count, 1)
        if event.duration_ms is not None:
            metrics.add_metric("Duration", MetricUnit.Milliseconds, event.duration_ms)

    return failed


def flushing(metrics: EphemeralMetrics) -> AbstractContextManager[None]:
    """Write the metrics of one invocation at its end, also when it raised; nothing where there are none."""

    @contextmanager
    def flush() -> Iterator[None]:
        try:
            yield
        finally:
            if metrics.metric_set:
                try:
                    metrics.flush_metrics()
                except Exception:  # a job may have closed or replaced stdout: its invocation has not failed for that
                    logger.exception("the metrics could not be written")
                metrics.clear_metrics()  # a flush keeps them where POWERTOOLS_METRICS_DISABLED is set

    return flush()
