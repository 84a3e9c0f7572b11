"""What an operator asks of a deployed stack, with the command line and by its name alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relayq_core import JobRecord, RelayQ
from relayq_core.cli.doctor.checks import CHECKS
from tests.e2e.deployment import Deployment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

#: What the emulator takes from the template and forgets.
_FORGOTTEN = {"recursive loop", "time to live", "point-in-time recovery"}

Asked = Callable[..., Any]


@pytest.fixture
def asked(deployment: Deployment, tmp_path: Path) -> Asked:
    """Run a command with --stack and --json, with nothing but credentials; return its exit code and answer."""

    def ask(*argv: str) -> tuple[int, Any]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RELAYQ_"))}
        done = subprocess.run(
            [str(Path(sys.prefix) / "bin/relayq"), *argv, "--stack", "relayq", "--json"],
            cwd=tmp_path,
            env={**inherited, **deployment.emulator.environ()},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout)

    return ask


def test_the_doctor_finds_nothing_wrong_with_the_shipped_template(relayq: RelayQ, asked: Asked) -> None:
    """What the emulator ignores is left out: the check of the translated template stands for it."""
    until = time.monotonic() + 180
    while relayq.store.read_last_tick() is None:
        assert time.monotonic() < until, "the schedule never fired"
        time.sleep(1)
    _, answer = asked("doctor")
    findings = {finding["check"]: finding for finding in answer["findings"]}
    assert list(findings) == list(CHECKS)
    not_good = {name: finding for name, finding in findings.items() if finding["verdict"] != "ok"}
    assert not_good.keys() <= _FORGOTTEN, not_good
    assert asked("health")[1]["sweep_is_late"] is False


def test_the_lines_of_a_job_are_found_by_its_id(
    relayq: RelayQ, completed: Callable[[str], JobRecord], asked: Asked
) -> None:
    """In the log groups that the template names."""
    job_id = completed(relayq.dispatch("Greet", {"name": "log"}, queue="probes").job_id).id
    for _ in range(50):
        code, answer = asked("logs", job_id)
        if code == 0:
            break
        time.sleep(0.2)
    assert any(line["fields"].get("job_id") == job_id for line in answer["lines"])
