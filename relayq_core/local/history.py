"""Read the history of the embedded stack from the metrics in its functions' logs, as CloudWatch does."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relayq_core.dashboard.history import MemoryHistory
from relayq_core.ports import METRICS_NAMESPACE, Bin, Clock

_COUNTED = {"Completed": "completed", "Retried": "retried", "Failed": "failed"}
#: The largest value that CloudWatch keeps; JSON may even hold infinity.
_LARGEST = 2**360
#: Of a long log only this much of its end is read.
_MOST_BYTES = 8 * 1024 * 1024


class LogHistory:
    """The History port on log files in CloudWatch's embedded metric format; reads each line once."""

    def __init__(self, logs: Sequence[Path], clock: Clock) -> None:
        self._memory = MemoryHistory(clock)
        self._read_to = dict.fromkeys(logs, 0)
        self._lock = threading.Lock()

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """Return the counts and durations since a moment, in bins; see the port."""
        with self._lock:
            for log in self._read_to:
                self._read_on(log)
        return self._memory.bins(since, step_ms, count)

    def _read_on(self, log: Path) -> None:
        try:
            size = log.stat().st_size
        except OSError:
            return
        begin = self._read_to[log] if self._read_to[log] <= size else 0  # a new log has begun
        begin = max(begin, size - _MOST_BYTES)
        with log.open("rb") as file:
            file.seek(begin)
            text = file.read(size - begin)
        whole = text.rpartition(b"\n")[0]  # the last line may still be written
        self._read_to[log] = begin + (len(whole) + 1 if whole else 0)
        for line in whole.splitlines():
            if b'"_aws"' in line:
                self._count(line)

    def _count(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            at = int(record["_aws"]["Timestamp"])
            own = _list_own_metrics(record)
            for metric, outcome in _COUNTED.items():
                if metric in own:
                    self._memory.count(at, outcome, round(sum(_parse_values(record[metric]))))
            for duration in _parse_values(record["Duration"]) if "Duration" in own else ():
                self._memory.record_duration(at, duration)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return  # not a metric: a job may print anything


def _list_own_metrics(record: Any) -> set[str]:
    """Return the names of the metrics in RelayQ's namespace; a job may have metrics of its own in another."""
    directives = [
        directive for directive in record["_aws"]["CloudWatchMetrics"] if directive["Namespace"] == METRICS_NAMESPACE
    ]
    return {metric["Name"] for directive in directives for metric in directive["Metrics"]}


def _parse_values(metric: Any) -> list[float]:
    """Return the measured values, without those that CloudWatch does not keep, such as Infinity."""
    values = [value for value in (metric if isinstance(metric, list) else [metric]) if isinstance(value, int | float)]
    return [float(value) for value in values if abs(value) <= _LARGEST]
