"""The history of a deployed stack: the metrics that its functions write anyway, read back for the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from relayq_core.errors import HistoryUnknown
from relayq_core.ports import METRICS_NAMESPACE, Bin, Clock

#: Each metric of a call is paid for, and a page that is watched refreshes every few seconds.
KEPT_MS = 30_000
#: field of a bin -> metric and statistic
_METRICS = {
    "completed": ("Completed", "Sum"),
    "retried": ("Retried", "Sum"),
    "failed": ("Failed", "Sum"),
    "p50_ms": ("Duration", "p50"),
    "p95_ms": ("Duration", "p95"),
}


class CloudWatchHistory:
    """The History port on CloudWatch: five metrics a call. `service` is the stack's name.

    `client` returns a boto3 client of CloudWatch.
    """

    def __init__(self, client: Callable[[], Any], service: str, clock: Clock) -> None:
        self._client = client
        self._service = service
        self._clock = clock
        self._kept: dict[tuple[int, int, int], tuple[int, list[Bin] | Exception]] = {}

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """See the port; the same question within 30 s has the same answer. Raises what boto3 does, HistoryUnknown."""
        now = self._clock.now()
        self._kept = {question: kept for question, kept in self._kept.items() if now < kept[0]}
        question = (since, step_ms, count)
        if question not in self._kept:
            self._kept[question] = (now + KEPT_MS, self._try_to_read(*question))
        answer = self._kept[question][1]
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)  # or each time it is raised would add a traceback
        return answer

    def _try_to_read(self, since: int, step_ms: int, count: int) -> list[Bin] | Exception:
        """Return what was read, or the error. Both are kept: a question that fails costs as much."""
        try:
            return self._read(since, step_ms, count)
        except Exception as error:
            return error

    def _read(self, since: int, step_ms: int, count: int) -> list[Bin]:
        values: dict[str, dict[int, float]] = {name: {} for name in _METRICS}
        request: dict[str, Any] = {
            "MetricDataQueries": [self._build_query(name, step_ms // 1000) for name in _METRICS],
            "StartTime": _time(since),
            "EndTime": _time(since + step_ms * count),
            "ScanBy": "TimestampAscending",
        }
        while True:
            answer = self._client().get_metric_data(**request)
            for result in answer["MetricDataResults"]:
                _check(result, has_more=bool(answer.get("NextToken")))
                for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                    values[result["Id"]][round(at.timestamp() * 1000)] = value
            if not answer.get("NextToken"):
                break
            request["NextToken"] = answer["NextToken"]
        return [self._build_bin(values, since + n * step_ms) for n in range(count)]

    def _build_query(self, name: str, period: int) -> dict[str, Any]:
        metric, statistic = _METRICS[name]
        return {
            "Id": name,
            "MetricStat": {
                "Metric": {
                    "Namespace": METRICS_NAMESPACE,
                    "MetricName": metric,
                    "Dimensions": [{"Name": "service", "Value": self._service}],
                },
                "Period": period,
                "Stat": statistic,
            },
        }

    @staticmethod
    def _build_bin(values: dict[str, dict[int, float]], at: int) -> Bin:
        return Bin(
            at=at,
            completed=round(values["completed"].get(at, 0)),
            retried=round(values["retried"].get(at, 0)),
            failed=round(values["failed"].get(at, 0)),
            p50_ms=values["p50_ms"].get(at),
            p95_ms=values["p95_ms"].get(at),
        )


def _check(result: Mapping[str, Any], *, has_more: bool) -> None:
    """Raise HistoryUnknown if values are missing and will not follow: they must not count as 0."""
    status = result.get("StatusCode", "Complete")
    if status != "Complete" and not (status == "PartialData" and has_more):
        raise HistoryUnknown(result["Id"], status)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
