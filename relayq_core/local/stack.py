"""The whole embedded stack: tables, runner, sweeper and its schedule, as the template deploys them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import relayq_core
from relayq_core.local.aws import EmbeddedAws
from relayq_core.local.environ import applied
from relayq_core.local.functions import Function, Functions
from relayq_core.local.private import private_folder
from relayq_core.local.schedule import Schedule

RUNNER = "relayq-runner"
SWEEPER = "relayq-sweeper"
#: Seconds, as in the template; a job whose timeout does not fit into the runner's is never run.
_RUNNER_LIVES, _SWEEPER_LIVES = 900, 150
_TICK = json.dumps({"version": "0", "detail-type": "Scheduled Event", "source": "aws.scheduler"}).encode()


class Stack:
    """Runs inside `with`, where the environment of this process leads to it: RelayQ() is a client of it.

    `settings` are further variables of the runner's and sweeper's environment, `path` the folders that job modules
    are imported from, `tick` the seconds between two sweeps (None: nobody sweeps). Logs go to `logs`, a folder.
    `port` is that of its AWS (0: a free one); `heard` hears of every event that a function is given. Raises
    WorkerStartFailed where a job module cannot be imported, OSError where the port is taken.
    """

    def __init__(
        self,
        logs: Path,
        *,
        settings: Mapping[str, str],
        path: list[Path],
        tick: float | None,
        port: int = 0,
        heard: Callable[[str, bytes], object] = lambda function, event: None,
    ) -> None:
        self._logs = logs
        self._path = path
        self._tick = tick
        self._parts = ExitStack()
        self.functions = Functions()
        self._heard = heard
        self.aws = EmbeddedAws(self._invoke, port)
        self._parts.callback(self.aws.close)
        self.environ = {**self.aws.environ, "RELAYQ_RUNNER_FUNCTION": RUNNER, **settings}

    def __enter__(self) -> Self:
        with ExitStack() as on_error:
            on_error.push(self._parts)
            private_folder(self._logs)
            self._parts.callback(self.functions.close)
            self._parts.enter_context(applied(self.environ))
            self.functions.begin(self._described())
            self.aws.create_tables()
            self.functions.wait()
            if self._tick is not None:
                schedule = Schedule(self._tick, lambda: self.functions.invoke(SWEEPER, _TICK))
                self._parts.callback(schedule.close)
            on_error.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._parts.close()

    def reload(self) -> None:
        """Start the runner anew, with the code as it now is; the former one ends when it has run what it was given.

        Raises WorkerStartFailed, and then the former one goes on.
        """
        self.functions.replace(next(function for function in self._described() if function.name == RUNNER))

    def _invoke(self, name: str, event: bytes) -> bool:
        self._heard(name, event)
        return self.functions.invoke(name, event)

    def kill_runner_of(self, job_id: str) -> int | None:
        """SIGKILL the runner process that has this job; its process id, or None if no runner has it."""
        return self.functions.kill(RUNNER, job_id=job_id)

    def _described(self) -> list[Function]:
        powertools = {"POWERTOOLS_METRICS_NAMESPACE": "RelayQ", "POWERTOOLS_SERVICE_NAME": "relayq"}
        environ = {**self.environ, **powertools}
        return [
            Function(
                name=RUNNER,
                handler="relayq_core.handlers.runner.handler",
                # the runner finds itself, as it must in the template
                environ={
                    **{key: value for key, value in environ.items() if key != "RELAYQ_RUNNER_FUNCTION"},
                    "RELAYQ_RUNNER_TIMEOUT_SECONDS": str(_RUNNER_LIVES),
                },
                path=self._path,
                timeout=_RUNNER_LIVES,
                log=self._logs / f"{RUNNER}.log",
            ),
            Function(
                name=SWEEPER,
                handler="relayq_core.handlers.sweeper.handler",
                environ=environ,
                timeout=_SWEEPER_LIVES,
                concurrency=1,
                log=self._logs / f"{SWEEPER}.log",
            ),
        ]


def shipped_jobs() -> Path:
    """The folder that holds the `jobs` package RelayQ comes with: e-mail, templated e-mail, webhook."""
    package = Path(relayq_core.__file__).resolve().parent
    in_repository = package.parent / "functions" / "runner"
    return in_repository if (in_repository / "jobs").is_dir() else package / "local" / "shipped"
