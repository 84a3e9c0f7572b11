"""The history of a deployed stack: the metrics that its functions write anyway, read back when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from relayq_core.errors import HistoryUnknown
from relayq_core.ports import METRICS_NAMESPACE, Bin, Clock

#: Each metric of a call is paid for, and a page that is watched refreshes every few seconds.
KEPT_MS = 30_000
#: field of a bin -> metric and statistic
_ASKED = {
    "completed": ("Completed", "Sum"),
    "retried": ("Retried", "Sum"),
    "failed": ("Failed", "Sum"),
    "p50_ms": ("Duration", "p50"),
    "p95_ms": ("Duration", "p95"),
}


class CloudWatchHistory:
    """The History port on CloudWatch: five metrics a call. `service` is the stack's name.

    `client` answers with a boto3 client of CloudWatch.
    """

    def __init__(self, client: Callable[[], Any], service: str, clock: Clock) -> None:
        self._client = client
        self._service = service
        self._clock = clock
        self._kept: dict[tuple[int, int, int], tuple[int, list[Bin] | Exception]] = {}

    def bins(self, since: int, step_ms: int, count: int) -> list[Bin]:
        """See the port; the same question within 30 s has the same answer. Raises what boto3 does, HistoryUnknown."""
        now = self._clock.now()
        self._kept = {asked: kept for asked, kept in self._kept.items() if now < kept[0]}
        question = (since, step_ms, count)
        if question not in self._kept:
            self._kept[question] = (now + KEPT_MS, self._asked(*question))
        found = self._kept[question][1]
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # else each look would add its own
        return found

    def _asked(self, since: int, step_ms: int, count: int) -> list[Bin] | Exception:
        """What was read, or why it could not be: a question that fails is paid for as well."""
        try:
            return self._read(since, step_ms, count)
        except Exception as error:
            return error

    def _read(self, since: int, step_ms: int, count: int) -> list[Bin]:
        found: dict[str, dict[int, float]] = {name: {} for name in _ASKED}
        request: dict[str, Any] = {
            "MetricDataQueries": [self._query(name, step_ms // 1000) for name in _ASKED],
            "StartTime": _time(since),
            "EndTime": _time(since + step_ms * count),
            "ScanBy": "TimestampAscending",
        }
        while True:
            answer = self._client().get_metric_data(**request)
            for result in answer["MetricDataResults"]:
                _check(result, has_more=bool(answer.get("NextToken")))
                for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                    found[result["Id"]][round(at.timestamp() * 1000)] = value
            if not answer.get("NextToken"):
                break
            request["NextToken"] = answer["NextToken"]
        return [self._bin(found, since + n * step_ms) for n in range(count)]

    def _query(self, name: str, period: int) -> dict[str, Any]:
        metric, statistic = _ASKED[name]
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
    def _bin(found: dict[str, dict[int, float]], at: int) -> Bin:
        return Bin(
            at=at,
            completed=round(found["completed"].get(at, 0)),
            retried=round(found["retried"].get(at, 0)),
            failed=round(found["failed"].get(at, 0)),
            p50_ms=found["p50_ms"].get(at),
            p95_ms=found["p95_ms"].get(at),
        )


def _check(result: Mapping[str, Any], *, has_more: bool) -> None:
    """Raises HistoryUnknown where values are missing that nobody will bring: they must not be taken for none."""
    status = result.get("StatusCode", "Complete")
    if status != "Complete" and not (status == "PartialData" and has_more):
        raise HistoryUnknown(result["Id"], status)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
