"""Workers and runners on one table, on DynamoDB Local: none starts what another holds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import boto3
import pytest

from relayq_core import RelayQ, Settings
from relayq_core.adapters.dynamodb.tables import failed_table, jobs_table
from relayq_core.local.environ import isolate
from tests.support.figures import tell

pytestmark = pytest.mark.dynamodb_local

JOBS_COUNT = 2_000
RUNNERS = 4
_QUEUES = ("a", "b", "c")

JOBS = """
import os

from relayq_core import JobContext, job

LOG = os.open(f"starts-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@job(timeout=60)
def note(context: JobContext, number: int) -> int:
    os.write(LOG, f"{context.job_id} {context.attempt}\\n".encode())
    return number
"""

#: A process that is handed jobs as Lambda hands them to runners: each once, and some twice.
RUNNER = """
import random, sys
from relayq_core import RelayQ, api
from relayq_core.jobs.registry import import_jobs

relayq = RelayQ()
api.use(relayq)
import_jobs(["jobs"])
ids = open("ids").read().split()
share = ids[int(sys.argv[1]) :: int(sys.argv[2])] + ids[: len(ids) // 10]
random.shuffle(share)
ran = [relayq.runner.run(job_id, None, lambda: 900_000).ended.value for job_id in share]
print(ran.count("completed"))
"""


@pytest.mark.timeout(240)
def test_a_worker_beside_four_runners_starts_no_job_twice(dynamodb_local: str, tmp_path: Path) -> None:
    """Two thousand jobs, each handed off to a runner, a tenth of them to all, and the worker after the same ones."""
    (tmp_path / "jobs.py").write_text(JOBS)
    environ = {
        "AWS_ENDPOINT_URL": dynamodb_local,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "RELAYQ_JOBS_TABLE": "beside-jobs",
        "RELAYQ_FAILED_TABLE": "beside-failed",
        "RELAYQ_HANDOFF": "none",
        "RELAYQ_JOB_MODULES": "jobs",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])]),
    }
    session = boto3.Session("test", "test", region_name="eu-central-1")
    client = session.client("dynamodb", endpoint_url=dynamodb_local)
    for table in (jobs_table("beside-jobs"), failed_table("beside-failed")):
        client.create_table(**table)
    try:
        settings = Settings.from_environ({key: value for key, value in environ.items() if key.startswith("RELAYQ_")})
        relayq = RelayQ(settings)
        relayq.clients.by_service["dynamodb"] = client
        ids = [
            relayq.dispatch("note", {"number": number}, queue=_QUEUES[number % 3]).job_id
            for number in range(JOBS_COUNT)
        ]
        (tmp_path / "ids").write_text("\n".join(ids))
        commands = [["-c", RUNNER, str(number), str(RUNNERS)] for number in range(RUNNERS)]
        commands.append(["-m", "relayq_core.cli", "work", "--concurrency", "2"])
        processes = [
            subprocess.Popen(
                [sys.executable, *command],
                cwd=tmp_path,
                env=isolate(environ, os.environ) | {"PYTHONPATH": environ["PYTHONPATH"]},
                stdout=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]
        by_runners = sum(int(process.communicate(timeout=200)[0]) for process in processes[:RUNNERS])
        processes[-1].terminate()
        told = processes[-1].communicate(timeout=60)[0]
        statuses = Counter(record.status.value for record in relayq.store.get_many(ids))
    finally:
        for name in ("beside-jobs", "beside-failed"):
            client.delete_table(TableName=name)
        client.close()
    assert statuses == {"completed": JOBS_COUNT}
    starts = [line for path in tmp_path.glob("starts-*") for line in path.read_text().splitlines()]
    assert Counter(starts) == Counter(f"{job_id} 1" for job_id in ids)
    by_worker = JOBS_COUNT - by_runners
    assert f"{by_worker} completed" in told
    assert by_worker > 0
    tell(f"{JOBS_COUNT:,} jobs before {RUNNERS} runners and a worker: each started once, {by_worker} by the worker")
