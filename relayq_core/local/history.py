"""The history of the embedded stack: the metrics that its functions write into their logs, as CloudWatch reads them."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relayq_core.adapters.cloudwatch import NAMESPACE
from relayq_core.dashboard.history import MemoryHistory
from relayq_core.ports import Bin, Clock

_COUNTED = {"Completed": "completed", "Retried": "retried", "Failed": "failed"}
#: CloudWatch keeps none that is larger, and JSON may hold infinity.
_LARGEST = 2**360
#: Of a long log only so much of its end is read.
_MOST_BYTES = 8 * 1024 * 1024


class LogHistory:
    """The History port on log files in CloudWatch's embedded metric format; each line is read once."""

    def __init__(self, logs: Sequence[Path], clock: Clock) -> None:
        self._memory = MemoryHistory(clock)
        self._read_to = dict.fromkeys(logs, 0)
        self._lock = threading.Lock()

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """See the port."""
        with self._lock:
            for log in self._read_to:
                self._read_on(log)
        return self._memory.bins(since, step_ms, count)

    def _read_on(self, log: Path) -> None:
        try:
            size = log.stat().st_size
        except OSError:
            return
        begin = self._read_to[log] if self._read_to[log] <= size else 0  # it was begun anew
        begin = max(begin, size - _MOST_BYTES)
        with log.open("rb") as file:
            file.seek(begin)
            found = file.read(size - begin)
        whole = found.rpartition(b"\n")[0]  # the last line may still be written
        self._read_to[log] = begin + (len(whole) + 1 if whole else 0)
        for line in whole.splitlines():
            if b'"_aws"' in line:
                self._count(line)

    def _count(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            at = int(found["_aws"]["Timestamp"])
            own = _own_metrics(found)
            for metric, what in _COUNTED.items():
                if metric in own:
                    self._memory.count(at, what, round(sum(_values(found[metric]))))
            for duration in _values(found["Duration"]) if "Duration" in own else ():
                self._memory.record_duration(at, duration)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return  # a job may print what it likes


def _own_metrics(found: Any) -> set[str]:
    """The names of those that stand under RelayQ's own namespace: a job may count what it likes under its own."""
    directives = [each for each in found["_aws"]["CloudWatchMetrics"] if each["Namespace"] == NAMESPACE]
    return {metric["Name"] for each in directives for metric in each["Metrics"]}


def _values(found: Any) -> list[float]:
    """What was measured; what is no number, such as Infinity, was not."""
    values = [value for value in (found if isinstance(found, list) else [found]) if isinstance(value, int | float)]
    return [float(value) for value in values if abs(value) <= _LARGEST]
