"""What a job writes to the log is paid by the byte."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.aws import ROOT, start_stand
from docs import cost

_ONE_JOB = """
from benchmarks.running import JOB_ID, Invocation
from relayq_core.handlers.runner import handler
assert handler({"job_id": JOB_ID}, Invocation())["ended"] == "completed"
"""


def test_a_job_logs_no_more_than_is_reckoned_with() -> None:
    """Its line at INFO and the line of metrics; docs/cost.py takes that much."""
    with start_stand() as aws:
        done = subprocess.run(
            [sys.executable, "-c", _ONE_JOB],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                **aws.environ,
                "RELAYQ_JOBS_TABLE": "jobs",
                "RELAYQ_FAILED_TABLE": "failed",
                "RELAYQ_RUNNER_FUNCTION": "runner",
                "RELAYQ_JOB_MODULES": "benchmarks.running",
                "POWERTOOLS_LOG_LEVEL": "INFO",
            },
            capture_output=True,
            text=True,
            check=True,
        )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, lines
    assert 400 < len(done.stdout.encode()) <= cost.LOG_BYTES
