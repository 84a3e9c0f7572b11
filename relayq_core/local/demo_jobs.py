"""The demo's own jobs: a plain one, a delayed one, a slow one, and one that always fails."""

from __future__ import annotations

import os
import time

from relayq_core import Job, JobContext, job

PAGES = 5
SECONDS_PER_PAGE = 0.3
SECONDS_UNTIL_KILLED = 10


@job(name="demo.hello")
def hello(name: str) -> str:
    """Return a greeting."""
    return f"Hello, {name}!"


@job(name="demo.reminder")
def reminder(text: str) -> str:
    """Return the text, when the job is due."""
    return text


@job(name="demo.report", queue="reports", max_attempts=3, backoff=0.1, timeout=2.5)
def report(context: JobContext, title: str) -> str:
    """Write a report, page by page. The first attempt stays at page 2, where the demo kills its runner."""
    for page in range(1, PAGES + 1):
        context.progress(page / PAGES, f"page {page} of {PAGES}")
        # longer than its timeout: on a busy machine the kill comes late, and must not find the report finished
        time.sleep(SECONDS_UNTIL_KILLED if context.attempt == 1 and page == 2 else SECONDS_PER_PAGE)
    return f"{title}: {PAGES} pages"


class NoPrinter(Exception):
    """There is nothing to print on."""


class Label(Job, name="demo.label", queue="labels", max_attempts=3, backoff=[0.5, 1]):
    """Print a label. It fails in every Lambda, and works on your machine with `relayq run`."""

    text: str

    def handle(self) -> str:
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            raise NoPrinter("no printer in the cloud")
        width = len(self.text) + 2
        for line in (f"+{'-' * width}+", f"| {self.text} |", f"+{'-' * width}+"):
            print(line)  # noqa: T201 - this is the printer
        return "printed"
