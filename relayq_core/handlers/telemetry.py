"""Logs and metrics of the Lambda functions: structured lines, and EMF metrics from the core's events."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from relayq_core.events.listeners import Events, JobEvent, Listener
from relayq_core.ports import METRICS_NAMESPACE
from relayq_core.process.extras import extra
from relayq_core.process.forks import Lock
from relayq_core.process.loggers import logger, make_lasting, write_by

with extra("lambda"):
    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The stack's name, from the template: runner and sweeper share their metrics, stacks do not.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME") or "relayq"


def build_logger(*others: str) -> Logger:
    """Return a Powertools Logger through which the core's loggers, and those of these names, write.

    Its level is POWERTOOLS_LOG_LEVEL if that is stricter than the level by which Lambda itself filters.
    """
    logger = Logger(service=SERVICE, log_uncaught_exceptions=False)
    level = logging.getLevelNamesMapping().get(os.environ.get("POWERTOOLS_LOG_LEVEL", "").upper(), logging.NOTSET)
    if level > logger.log_level:
        # Powertools itself, setLevel included, prefers Lambda's level; with that level Lambda would filter metrics too
        logging.getLogger(logger.name).setLevel(level)
    for name in ("relayq", *others):
        write_by(logger.registered_handler, make_lasting(name))
        make_lasting(name).setLevel(logger.log_level)
    make_lasting(logger.name)
    return logger


def build_metrics() -> EphemeralMetrics:
    """Return RelayQ's own metrics. Powertools' `Metrics` share one set: a job's own metrics would count as RelayQ's."""
    return EphemeralMetrics(namespace=METRICS_NAMESPACE, service=SERVICE)


def count_events(events: Events, metrics: EphemeralMetrics) -> None:
    """Count every event of the core in a metric."""
    lock = Lock()  # the sweeper works in threads, and Powertools' metrics are not thread-safe
    listeners: dict[str, Listener] = {
        "dispatched": _make_counter(metrics, "Dispatched"),
        "started": partial(_add_started, metrics),
        "processed": partial(_add_processed, metrics),
        "failed": partial(_add_failed, metrics),
        "snoozed": _make_counter(metrics, "Snoozed"),
        "cancelled": _make_counter(metrics, "Cancelled"),
        "lease_lost": _make_counter(metrics, "LeaseLost"),
        "handoff_failed": _make_counter(metrics, "HandoffFailed"),
        "hint_failed": _make_counter(metrics, "HintFailed"),
        "publish_failed": _make_counter(metrics, "PublishFailed"),
    }
    for kind, listener in listeners.items():
        events.on(kind)(_lock_listener(listener, lock))


def _lock_listener(listener: Listener, lock: Lock) -> Listener:
    def listen(event: JobEvent) -> None:
        with lock:
            listener(event)

    return listen


def _make_counter(metrics: EphemeralMetrics, name: str) -> Callable[[JobEvent], None]:
    def count(event: JobEvent) -> None:
        metrics.add_metric(name, MetricUnit.Count, 1)

    return count


def _add_started(metrics: EphemeralMetrics, event: JobEvent) -> None:
    metrics.add_metric("Started", MetricUnit.Count, 1)
    metrics.add_metric("Wait", MetricUnit.Milliseconds, event.wait_ms or 0)


def _add_processed(metrics: EphemeralMetrics, event: JobEvent) -> None:
    metrics.add_metric("Completed", MetricUnit.Count, 1)
    metrics.add_metric("Duration", MetricUnit.Milliseconds, event.duration_ms or 0)


def _add_failed(metrics: EphemeralMetrics, event: JobEvent) -> None:
    metrics.add_metric("Retried" if event.will_retry else "Failed", MetricUnit.Count, 1)
    if event.duration_ms is not None:
        metrics.add_metric("Duration", MetricUnit.Milliseconds, event.duration_ms)


def flush_at_end(metrics: EphemeralMetrics) -> AbstractContextManager[None]:
    """Write the metrics of one invocation at the end of the block, if there are any, even if the block raises."""

    @contextmanager
    def flush() -> Iterator[None]:
        try:
            yield
        finally:
            if metrics.metric_set:
                try:
                    metrics.flush_metrics()
                except Exception:  # a job may have closed or replaced stdout; its invocation must not fail for that
                    logger.exception("the metrics could not be written")
                metrics.clear_metrics()  # a flush does not clear them if POWERTOOLS_METRICS_DISABLED is set

    return flush()
