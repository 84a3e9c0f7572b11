"""The demo's own jobs: one that works, one that comes later, one that takes its time, and one that cannot work."""

from __future__ import annotations

import os
import time

from relayq_core import Job, JobContext, job

PAGES = 5
SECONDS_PER_PAGE = 0.3


@job(name="demo.hello")
def hello(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


@job(name="demo.reminder")
def reminder(text: str) -> str:
    """Say it when the time has come."""
    return text


@job(name="demo.report", queue="reports", max_attempts=3, backoff=0.1, timeout=2.5)
def report(context: JobContext, title: str) -> str:
    """Write a report, page by page: long enough for its runner to be killed in the middle."""
    for page in range(1, PAGES + 1):
        context.progress(page / PAGES, f"page {page} of {PAGES}")
        time.sleep(SECONDS_PER_PAGE)
    return f"{title}: {PAGES} pages"


class NoPrinter(Exception):
    """There is nothing to print on."""


class Label(Job, name="demo.label", queue="labels", max_attempts=3, backoff=[0.5, 1]):
    """Print a label. It fails in every Lambda; `relayq run` runs it on your machine, and there it works."""

    text: str

    def handle(self) -> str:
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            raise NoPrinter("no printer in the cloud")
        width = len(self.text) + 2
        for line in (f"+{'-' * width}+", f"| {self.text} |", f"+{'-' * width}+"):
            print(line)  # noqa: T201 - this is the printer
        return "printed"
