"""Where the numbers over time come from: memory, the logs of the embedded stack, CloudWatch."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from relayq_core import Settings
from relayq_core.adapters.cloudwatch import CloudWatchHistory
from relayq_core.client import RelayQ
from relayq_core.dashboard.charts import draw_bars, draw_lines, round_up
from relayq_core.dashboard.history import HOUR_MS, MINUTE_MS, WINDOWS, MemoryHistory
from relayq_core.errors import HistoryUnknown
from relayq_core.events.listeners import Events, JobEvent
from relayq_core.local.history import LogHistory
from relayq_core.ports import Bin
from relayq_core.testing import ManualClock
from tests.support.factories import NOW, a_job


def test_what_happened_is_counted_in_the_step_it_happened_in(clock: ManualClock) -> None:
    """Steps begin where they were asked to, and none is left out."""
    history = MemoryHistory(clock)
    history.count(NOW, "completed", 3)
    history.count(NOW + MINUTE_MS, "failed")
    for duration in range(1, 101):
        history.record_duration(NOW + MINUTE_MS, duration)
    assert history.bins(NOW, MINUTE_MS, 3) == [
        Bin(at=NOW, completed=3),
        Bin(at=NOW + MINUTE_MS, failed=1, p50_ms=51, p95_ms=96),
        Bin(at=NOW + 2 * MINUTE_MS),
    ]
    assert history.bins(NOW, 2 * MINUTE_MS, 1) == [Bin(at=NOW, completed=3, failed=1, p50_ms=51, p95_ms=96)]


def test_memory_keeps_a_day_and_no_more(clock: ManualClock) -> None:
    """A stack that is left on for a week must not grow with it."""
    history = MemoryHistory(clock)
    for _ in range(3000):
        history.count(clock.now(), "completed")
        clock.advance(minutes=1)
    assert len(history._minutes) <= 24 * 60 + 1


@pytest.mark.parametrize("window", WINDOWS.values(), ids=list(WINDOWS))
def test_a_window_ends_with_the_step_that_is_now(window: Any) -> None:
    """Its steps begin at full minutes, as CloudWatch's do."""
    for now in (NOW, NOW + 1, NOW + 59_999, NOW + 7 * HOUR_MS):
        begins = window.find_start(now)
        assert begins % window.step_ms == 0
        last = begins + window.length_ms - window.step_ms
        assert last <= now < last + window.step_ms


def test_the_logs_of_the_embedded_stack_are_read_on_from_where_they_were_read_to(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Each line once, a line that is half written when it is whole, and nothing else that jobs print."""
    log = tmp_path / "runner.log"
    history = LogHistory([log, tmp_path / "not there yet.log"], clock)
    assert history.bins(NOW, MINUTE_MS, 1) == [Bin(at=NOW)]
    line = _emf(Completed=[1.0, 1.0], Duration=[20.0, 40.0])
    log.write_text(f'hello\n{line}\n{{"_aws": 7}}\n{{"_aws"\n{line[:30]}')
    assert history.bins(NOW, MINUTE_MS, 1) == [Bin(at=NOW, completed=2, p50_ms=40, p95_ms=40)]
    with log.open("a") as file:
        file.write(f"{line[30:]}\n{_emf(Failed=[1.0])}\n")
    assert history.bins(NOW, MINUTE_MS, 1)[0].completed == 4
    assert history.bins(NOW, MINUTE_MS, 1)[0].failed == 1
    log.write_text(_emf(Retried=1.0) + "\n")  # begun again
    assert history.bins(NOW, MINUTE_MS, 1)[0].retried == 1


def _emf(namespace: str = "RelayQ", **metrics: Any) -> str:
    named = {"Namespace": namespace, "Dimensions": [["service"]], "Metrics": [{"Name": name} for name in metrics]}
    return json.dumps({"_aws": {"Timestamp": NOW + 5, "CloudWatchMetrics": [named]}, **metrics})


def test_metrics_of_a_job_s_own_are_not_counted(tmp_path: Path, clock: ManualClock) -> None:
    """CloudWatch keeps them under another namespace, whatever they are called there."""
    log = tmp_path / "runner.log"
    own = json.loads(_emf(Retried=1.0)) | {"Completed": 1.0}  # a field beside the metrics is none
    log.write_text(f"{_emf('Shop', Completed=[1.0], Failed=1.0, Duration=3.0)}\n{json.dumps(own)}\n")
    assert LogHistory([log], clock).bins(NOW, MINUTE_MS, 1) == [Bin(at=NOW, retried=1)]


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999", f"1{'0' * 400}", '"inf"'])
def test_a_number_that_is_none_is_left_out(tmp_path: Path, clock: ManualClock, number: str) -> None:
    """A line of a log may hold anything; the chart is drawn all the same."""
    log = tmp_path / "runner.log"
    log.write_text(
        f"{_emf(Duration=[7.0, 77777.0], Completed=88888.0)}\n".replace("77777.0", number).replace("88888.0", number)
    )
    assert LogHistory([log], clock).bins(NOW, MINUTE_MS, 1) == [Bin(at=NOW, p50_ms=7, p95_ms=7)]


def test_a_line_that_is_nested_without_end_is_let_be(tmp_path: Path, clock: ManualClock) -> None:
    """Python gives up on it; the page does not."""
    log = tmp_path / "runner.log"
    log.write_text('{"_aws": ' + "[" * 100_000 + f"\n{_emf(Failed=1.0)}\n")
    assert LogHistory([log], clock).bins(NOW, MINUTE_MS, 1) == [Bin(at=NOW, failed=1)]


def test_the_logs_hold_what_the_functions_write(tmp_path: Path, clock: ManualClock) -> None:
    """The names are those of the real metrics."""
    from relayq_core.handlers.telemetry import build_metrics, count_events, flush_at_end

    events, metrics, out = Events(), build_metrics(), io.StringIO()
    count_events(events, metrics)
    with redirect_stdout(out), flush_at_end(metrics):
        events.emit(JobEvent(kind="processed", job=a_job(), duration_ms=30))
        events.emit(JobEvent(kind="failed", job=a_job(), duration_ms=50, will_retry=True))
        events.emit(JobEvent(kind="failed", job=a_job(), duration_ms=70, will_retry=False))
    (tmp_path / "runner.log").write_text(out.getvalue())
    at = json.loads(out.getvalue())["_aws"]["Timestamp"]
    history = LogHistory([tmp_path / "runner.log"], ManualClock(at))
    [found] = history.bins(at - at % MINUTE_MS, MINUTE_MS, 1)
    assert (found.completed, found.retried, found.failed, found.p50_ms) == (1, 1, 1, 50)


class _CloudWatch:
    """Answers page by page, as CloudWatch may."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        """The next page."""
        self.asked.append(dict(request))
        return self.pages[len(self.asked) - 1]


def _result(name: str, *points: tuple[int, float]) -> dict[str, Any]:
    times = [datetime.fromisoformat("1970-01-01T00:00:00+00:00").fromtimestamp(at / 1000) for at, _ in points]
    return {"Id": name, "Timestamps": times, "Values": [value for _, value in points]}


def test_cloudwatch_is_asked_for_five_metrics_of_this_stack_and_for_every_page(clock: ManualClock) -> None:
    """What it does not mention is nothing."""
    cloudwatch = _CloudWatch(
        [
            {"MetricDataResults": [_result("completed", (NOW, 3.0))], "NextToken": "more"},
            {"MetricDataResults": [_result("failed", (NOW + MINUTE_MS, 1.0)), _result("p95_ms", (NOW, 7.5))]},
        ]
    )
    history = CloudWatchHistory(lambda: cloudwatch, "shop", clock)
    assert history.bins(NOW, MINUTE_MS, 2) == [
        Bin(at=NOW, completed=3, p95_ms=7.5),
        Bin(at=NOW + MINUTE_MS, failed=1),
    ]
    first, second = cloudwatch.asked
    assert len(first["MetricDataQueries"]) == 5
    assert second["NextToken"] == "more"
    metrics = [query["MetricStat"]["Metric"] for query in first["MetricDataQueries"]]
    assert {metric["Dimensions"][0]["Value"] for metric in metrics} == {"shop"}
    assert first["EndTime"].timestamp() * 1000 == NOW + 2 * MINUTE_MS


def test_a_watched_page_asks_cloudwatch_twice_a_minute_at_most(clock: ManualClock) -> None:
    """It refreshes every three seconds, and every metric that is asked for is paid for."""
    cloudwatch = _CloudWatch([{"MetricDataResults": []}] * 100)
    history = CloudWatchHistory(lambda: cloudwatch, "shop", clock)
    window = WINDOWS["1h"]
    for _ in range(200):
        history.bins(window.find_start(clock.now()), window.step_ms, 60)
        clock.advance(seconds=3)
    assert len(cloudwatch.asked) == 20


@pytest.mark.parametrize("status", ["InternalError", "Forbidden", "PartialData"])
def test_missing_data_of_cloudwatch_is_not_taken_for_nothing(clock: ManualClock, status: str) -> None:
    """Nought failures would be a fact. It is asked again after as long as an answer is kept: it is paid for too."""
    bad = {**_result("failed"), "StatusCode": status}
    good = {**_result("failed", (NOW, 2.0)), "StatusCode": "Complete"}
    cloudwatch = _CloudWatch([{"MetricDataResults": [bad]}, {"MetricDataResults": [good]}])
    history = CloudWatchHistory(lambda: cloudwatch, "shop", clock)
    for _ in range(3):
        with pytest.raises(HistoryUnknown, match=status):
            history.bins(NOW, MINUTE_MS, 1)
    assert len(cloudwatch.asked) == 1
    clock.advance(seconds=30)
    assert history.bins(NOW, MINUTE_MS, 1) == [Bin(at=NOW, failed=2)]


def test_an_answer_of_cloudwatch_in_parts_is_whole_with_the_last(clock: ManualClock) -> None:
    """Partial data is no failure while there are more pages."""
    part = {**_result("failed", (NOW, 2.0)), "StatusCode": "PartialData"}
    rest = {**_result("failed", (NOW + MINUTE_MS, 1.0)), "StatusCode": "Complete"}
    cloudwatch = _CloudWatch([{"MetricDataResults": [part], "NextToken": "more"}, {"MetricDataResults": [rest]}])
    history = CloudWatchHistory(lambda: cloudwatch, "shop", clock)
    assert [found.failed for found in history.bins(NOW, MINUTE_MS, 2)] == [2, 1]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto's CloudWatch."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield


@pytest.mark.usefixtures("aws")
def test_the_real_client_takes_what_is_asked() -> None:
    """botocore validates what is sent; percentiles, which moto does not compute, are not compared."""
    metric = {"MetricName": "Completed", "Dimensions": [{"Name": "service", "Value": "shop"}], "Value": 4}
    at = datetime.fromtimestamp(NOW / 1000).astimezone()
    boto3.client("cloudwatch").put_metric_data(Namespace="RelayQ", MetricData=[{**metric, "Timestamp": at}])
    settings = Settings(jobs_table="jobs", runner_function="runner")
    history = RelayQ(settings, validate_parameters=True).history("shop")
    found = history.bins(NOW, MINUTE_MS, 2)
    assert [step.completed for step in found] == [4, 0]


def test_bars_stand_on_one_another_and_fill_no_more_than_the_chart() -> None:
    """The highest fits, and every part is as high as its share."""
    chart = draw_bars([Bin(at=0, completed=6, retried=3, failed=1), Bin(at=1)])
    assert chart.top == 10
    first, second = chart.bars
    assert [(part.kind, part.top, part.height) for part in first.segments] == [
        ("completed", 40, 60),
        ("retried", 10, 30),
        ("failed", 0, 10),
    ]
    assert second.segments == ()


def test_a_line_has_a_gap_where_nothing_is_known() -> None:
    """A fall to zero would be a lie."""
    chart = draw_lines([Bin(at=0, p50_ms=10, p95_ms=10), Bin(at=1), Bin(at=2, p50_ms=5, p95_ms=10)])
    assert chart.p50.count("M") == 2
    assert "100" not in chart.p50


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (1.5, 2), (41, 50), (61, 80), (100, 100), (101, 200)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    """Never below what it has to hold."""
    assert round_up(value) == top


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10.0**300])
def test_an_axis_has_an_end_whatever_it_has_to_hold(value: float) -> None:
    """What is no number takes no room."""
    assert round_up(value) >= 1
    chart = draw_lines([Bin(at=0, p50_ms=value, p95_ms=value), Bin(at=1, p50_ms=1, p95_ms=1)])
    assert "nan" not in chart.p50 + chart.p95
    assert "inf" not in chart.p50 + chart.p95
