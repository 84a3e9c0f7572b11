"""A deployed stack, and what tests ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness import Emulator

OWN_QUEUES = {"reports": "own-jobs-runner"}


API_TOKEN = "the-token-of-the-end-to-end-tests"


@dataclass(frozen=True)
class Deployment:
    """What was deployed, and what a process that dispatches knows of it."""

    emulator: Emulator
    folder: Path
    outputs: dict[str, str]
    caller: str
    own_runner: str

    @property
    def project(self) -> Path:
        """The copy of this repository that was built and deployed."""
        return self.folder / "relayq"

    def told(self) -> str:
        """The last of what the emulator and the functions logged, for a test that fails."""
        lines = (self.folder / "ministack.log").read_text().splitlines()[-40:]
        logs = self.emulator.client("logs")
        for group in ("/relayq/relayq/runner", "/relayq/relayq/sweeper", "/relayq/own-jobs/runner"):
            lines.append(f"---- {group}")
            lines += [event["message"].rstrip() for event in logs.filter_log_events(logGroupName=group)["events"]][-40:]
        return "\n".join(lines)

    def log(self, name: str) -> Path:
        """A file for a job to leave traces in."""
        return self.folder / f"{name}.log"
