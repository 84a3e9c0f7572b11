"""One deployment for all end-to-end tests: RelayQ, a caller's stack, and a runner in a stack of its own."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relayq_core import Dispatched, JobRecord, RelayQ, Status
from relayq_core.settings import Settings
from tests.e2e import harness
from tests.e2e.deployment import API_TOKEN, OWN_QUEUES, Deployment
from tests.e2e.harness import REGION, copied
from tests.support.paths import ROOT


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """These tests take minutes and environments of their own: they run when they are asked for by `-m e2e`."""
    return None if config.getoption("-m") == "e2e" else True


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """The shipped template and both examples, each a stack of its own, with jobs added to the runners."""
    folder = tmp_path_factory.mktemp("e2e")
    probes = (ROOT / "tests/e2e/probes.py").read_text()

    relayq = copied(ROOT, "template.yaml", "samconfig.toml", "functions", "relayq_core", to=folder / "relayq")
    (relayq / "functions/runner/jobs/probes.py").write_text(probes)

    caller = copied(ROOT / "examples/caller", "template.yaml", "src", to=folder / "caller")
    (caller / "src/app.py").rename(caller / "src/shipped.py")
    (caller / "src/app.py").write_text((ROOT / "tests/e2e/caller_app.py").read_text())
    (caller / "src/probes.py").write_text(probes)

    own = copied(ROOT / "examples/own-jobs", "template.yaml", "src", to=folder / "own")
    (own / "src/jobs/probes.py").write_text(probes)

    with harness.emulator(folder) as emulator:
        outputs = emulator.deploy(
            relayq,
            "relayq",
            WebhookAllowPrivate="true",
            EnableApi="true",
            ApiToken=API_TOKEN,
            ApiDashboard="write",
            MailFrom="ada@example.com",
            SesIdentityArn=f"arn:aws:ses:{REGION}:000000000000:identity/example.com",
            EventBusName="default",
            AlarmEmail="ops@example.com",
            RunnerFunctions=json.dumps(OWN_QUEUES),
            RunnerFunctionArns=f"arn:aws:lambda:{REGION}:000000000000:function:own-jobs-runner",
        )
        called = emulator.deploy(caller, "caller", RunnerFunctions=json.dumps(OWN_QUEUES))
        owned = emulator.deploy(own, "own-jobs", RunnerTimeout="30")
        yield Deployment(emulator, folder, outputs, called["CallerFunctionName"], owned["OwnRunnerName"])
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)  # it is large: builds, and a copy of the layer for each Lambda


@pytest.fixture(scope="session")
def relayq(deployment: Deployment) -> Iterator[RelayQ]:
    """What a process has that holds the outputs of the stack, and a key with DispatchPolicy and no other right."""
    emulator, outputs = deployment.emulator, deployment.outputs
    key, secret = emulator.access_key("dispatcher", outputs["DispatchPolicyArn"])
    environ = emulator.environ(key, secret)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "RELAYQ_"))]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        yield RelayQ(
            Settings.from_environ(
                {
                    "RELAYQ_JOBS_TABLE": outputs["JobsTableName"],
                    "RELAYQ_FAILED_TABLE": outputs["FailedJobsTableName"],
                    "RELAYQ_RUNNER_FUNCTION": outputs["RunnerFunctionName"],
                    "RELAYQ_RUNNER_FUNCTIONS": json.dumps(OWN_QUEUES),
                }
            )
        )


@pytest.fixture(scope="session")
def ended(relayq: RelayQ, deployment: Deployment) -> Callable[[str], JobRecord]:
    """Wait for a job to end, by reading its row. What it waits for is minutes at most: the sweeper's ticks."""

    def wait(job_id: str, seconds: float = 180) -> JobRecord:
        until = time.monotonic() + seconds
        while (record := relayq.get(job_id)) is None or not record.status.is_ended:
            assert time.monotonic() < until, f"{record!r}\n{deployment.told()}"
            time.sleep(0.2)
        return record

    return wait


@pytest.fixture(scope="session")
def slow(relayq: RelayQ, deployment: Deployment) -> dict[str, Dispatched]:
    """Jobs that take up to minutes, dispatched together so that the tests wait for all of them at once."""

    def start(name: str, queue: str = "probes", **options: Any) -> Dispatched:
        args = {"name": "later"} if name == "Greet" else {"log": str(deployment.log(name))}
        return relayq.dispatch(name, args, queue=queue, **options)

    unaware = RelayQ(replace(relayq.settings, runner_functions={}))
    started = {
        "misdirected": unaware.dispatch("build_report", {"month": "2026-10"}, queue="reports"),
        "frozen": start("freeze", queue="reports"),
        "within a tick": start("Greet", delay=5),
        "beyond a tick": start("Greet", delay=70),  # more than MAX_WAIT_SECONDS: no handoff, the sweeper starts it
        # by name, the row holds the timeout of the call alone: without it the lease is as long as a runner may live
        "killed": start("linger", timeout=12),
    }
    _kill_the_writer_of(deployment.log("linger"))
    return started


def _kill_the_writer_of(log: Path) -> None:
    """SIGKILL for the runner whose handler has written down its process."""
    until = time.monotonic() + 30
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < until, "the job never started"
        time.sleep(0.1)
    os.kill(int(log.read_text()), signal.SIGKILL)


@pytest.fixture(scope="session")
def completed(ended: Callable[[str], JobRecord]) -> Callable[[str], JobRecord]:
    """Wait for a job to complete; if it ends otherwise, the test fails with the job's error."""

    def wait(job_id: str) -> JobRecord:
        record = ended(job_id)
        assert record.status is Status.COMPLETED, f"{record!r}\n{record.error}"
        return record

    return wait
