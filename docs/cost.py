"""Compute what a million jobs cost: the units of docs/units.json, which tests check, times docs/prices.json.

`python docs/cost.py` prints the tables; `--write` puts them into README.md and explanation/costs-and-limits.md.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
PAGE = DOCS / "explanation" / "costs-and-limits.md"

MILLION = 1_000_000
#: The template's defaults.
RUNNER_GB = 512 / 1024
SWEEPER_GB = 256 / 1024
#: Assumed, since nothing was measured on AWS: two DynamoDB calls of a job, and a tick's ten.
JOB_SECONDS = 0.010
TICK_SECONDS = 0.050
#: The least that a function is billed for: Lambda bills whole milliseconds.
LEAST_SECONDS = 0.001
#: One log line and one line of metrics at INFO; a test checks it.
LOG_BYTES = 650
#: A row of up to a kilobyte is kept for a week.
WEEK_OF_MONTH = 7 / 30
TICKS = 60 * 24 * 30
#: Each tick queries eight shards; an empty query is half a unit on AWS, and none on DynamoDB Local.
IDLE_QUERIES = 8 * 0.5
#: Looking 75 s ahead every minute, one and a quarter sweepers run on average.
SWEEPERS = 75 / 60
#: Lambda polls a queue with five long polls of 20 seconds.
EMPTY_RECEIVES = 5 * 3 * TICKS


@dataclass(frozen=True)
class Line:
    """One line of a table: dollars, and what they consist of."""

    what: str
    usd: float
    made_of: str


def read_units() -> dict[str, dict[str, float]]:
    """Return the units of each step, by table, index and read."""
    units: dict[str, dict[str, float]] = json.loads((DOCS / "units.json").read_text())
    return units


def read_prices() -> dict[str, Any]:
    """Return the contents of docs/prices.json."""
    prices: dict[str, Any] = json.loads((DOCS / "prices.json").read_text())
    return prices


_PRICES: dict[str, float] = {name: price["usd"] for name, price in read_prices()["prices"].items()}
_STEPS = read_units()


def count_write_units(*steps: str) -> float:
    """Return the write units of some steps, table and index together."""
    return sum(_STEPS[step]["table"] + _STEPS[step]["index"] for step in steps)


def compute_job_cost(write_units: float, *, runs: int = 1, slept: float = 0.0, kilobytes: float = 1.0) -> float:
    """Return the dollars for a million jobs with these write units each. `slept`: seconds that a runner waited."""
    return (
        write_units * _PRICES["dynamodb write unit, per million"]
        + runs * compute_invocation_cost(RUNNER_GB, JOB_SECONDS)
        + compute_lambda_time_cost(RUNNER_GB, slept)
        + runs * MILLION * LOG_BYTES / 1e9 * _PRICES["cloudwatch logs GB ingested"]
        + MILLION * kilobytes * 1024 / 1e9 * WEEK_OF_MONTH * _PRICES["dynamodb GB-month stored"]
    )


def compute_invocation_cost(gigabytes: float, seconds: float) -> float:
    """Return the dollars for a million invocations."""
    return _PRICES["lambda request, per million"] + compute_lambda_time_cost(gigabytes, seconds)


def compute_lambda_time_cost(gigabytes: float, seconds: float, times: float = MILLION) -> float:
    """Return the dollars for Lambda time: `times` runs of `seconds` each."""
    return times * gigabytes * seconds * _PRICES["lambda GB-second, arm64"]


def list_jobs() -> list[Line]:
    """Return a line for a million jobs, for each way they may go."""
    plain = "a job that succeeds at once"
    # a transaction's writes are billed double, by DynamoDB's rules; its index entry is taken to be billed once
    windowed = count_write_units(plain) + 1 + 2
    held = windowed + 1 + 2
    return [
        Line(
            "RelayQ: succeeds at once",
            compute_job_cost(count_write_units(plain)),
            f"{count_write_units(plain):g} write units",
        ),
        Line("with a unique key for a window", compute_job_cost(windowed), f"{windowed:g} write units"),
        Line("with a unique key until it has ended", compute_job_cost(held), f"{held:g} write units"),
        Line(
            "with 3 KB of payload",
            compute_job_cost(count_write_units("a job with 3 KB of payload that succeeds at once"), kilobytes=4),
            f"{count_write_units('a job with 3 KB of payload that succeeds at once'):g} write units",
        ),
        Line(
            "one retry at once",
            compute_job_cost(count_write_units(plain, "a short retry, more"), runs=2),
            f"{count_write_units(plain, 'a short retry, more'):g} write units, two runs",
        ),
        Line(
            "one retry after 10 s, the default",
            compute_job_cost(count_write_units(plain, "a short retry, more"), runs=2, slept=10),
            "the same, and 10 s slept in the runner",
        ),
        Line("a delay of 30 s", compute_job_cost(count_write_units(plain), slept=30), "30 s slept in the runner"),
        Line(
            "started by the sweeper: a long delay",
            compute_job_cost(count_write_units(plain, "a start by the sweeper, more")),
            f"{count_write_units(plain, 'a start by the sweeper, more'):g} write units",
        ),
    ]


def list_others() -> list[Line]:
    """Return a line for a million jobs on each other service, plus the least of Lambda if it needs one."""
    sqs = _PRICES["sqs standard request, per million"]
    least = compute_invocation_cost(RUNNER_GB, LEAST_SECONDS)
    status = 3 * _PRICES["dynamodb write unit, per million"]
    return [
        Line("SQS + Lambda, one by one", 3 * sqs + least, "send, receive, delete"),
        Line("SQS + Lambda, ten at a time", 1.2 * sqs + least / 10, "the sender sends one by one"),
        Line(
            "SQS + Lambda + a status row",
            3 * sqs + compute_invocation_cost(RUNNER_GB, JOB_SECONDS) + status,
            "three writes of a row without an index",
        ),
        Line(
            "Step Functions Standard + Lambda",
            _PRICES["step functions standard transition, per million"] + least,
            "one transition; a workflow has more",
        ),
        Line(
            "EventBridge Scheduler + Lambda", _PRICES["scheduler invocation, per million"] + least, "one-time schedules"
        ),
        Line("QStash", _PRICES["qstash message, per million"], "pay as you go; your endpoint is not in it"),
        Line(
            "Cloud Tasks", 2 * _PRICES["cloud tasks operation, per million"], "create, push; your endpoint is not in it"
        ),
    ]


def list_months() -> list[Line]:
    """Return a line for a month in which nothing happens, or only waiting."""
    tick = _STEPS["an idle tick of one queue"]
    idle = (
        TICKS
        / MILLION
        * (
            _PRICES["scheduler invocation, per million"]
            + compute_invocation_cost(SWEEPER_GB, TICK_SECONDS)
            + tick["table"] * _PRICES["dynamodb write unit, per million"]
            + (tick["read"] + IDLE_QUERIES) * _PRICES["dynamodb read unit, per million"]
        )
    )
    metric = _PRICES["cloudwatch custom metric, per month"]
    busy = compute_lambda_time_cost(SWEEPER_GB, TICKS * 60 * SWEEPERS, times=1)
    return [
        Line("RelayQ, idle, one queue", idle + metric, f"{TICKS:,} ticks, and one custom metric"),
        Line("RelayQ, a sweeper that always waits for a delay", idle + metric + busy, "75 of every 60 seconds, 256 MB"),
        Line(
            "SQS + Lambda, idle, one queue",
            EMPTY_RECEIVES / MILLION * _PRICES["sqs standard request, per million"],
            f"{EMPTY_RECEIVES:,} empty receives",
        ),
    ]


def render_table(title: str, lines: Iterable[Line]) -> str:
    """Return the lines as a Markdown table."""
    rows = [f"| {line.what} | {line.usd:.2f} | {line.made_of} |" for line in lines]
    return "\n".join([f"| {title} | US$ | |", "|---|---|---|", *rows])


def render_tables() -> str:
    """Return the tables that README.md and the page show."""
    return (
        f"{render_table('A million jobs', [*list_jobs(), *list_others()])}\n\n{render_table('A month', list_months())}"
    )


def render_sources() -> str:
    """Return a Markdown table of each price with its page and date."""
    rows = [
        f"| {name} | {price['usd']:g} | <{price['source']}> | {price['dated'] or 'none'} "
        f"| {'yes' if price['first_hand'] else 'no'} |"
        for name, price in read_prices()["prices"].items()
    ]
    return "\n".join(["| Price | US$ | Page | Its date | First hand |", "|---|---|---|---|---|", *rows])


def put(text: str, mark: str, content: str) -> str:
    """Return the text with this content between its marks."""
    marked = re.compile(rf"(<!-- {mark}, written by docs/cost.py -->\n).*?(<!-- end -->)", re.DOTALL)
    return marked.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


def render_page(path: Path) -> str:
    """Return a page with its current tables."""
    return put(put(path.read_text(), "costs", render_tables()), "prices", render_sources())


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        for path in (README, PAGE):
            path.write_text(render_page(path))
    else:
        print(render_tables())
