"""Run the whole embedded stack: tables, runner, sweeper and its schedule, as the template deploys them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import relayq_core
from relayq_core.local.aws import EmbeddedAws
from relayq_core.local.environ import apply_environ
from relayq_core.local.functions import Function, Functions
from relayq_core.local.private import make_private_folder
from relayq_core.local.schedule import Schedule

RUNNER = "relayq-runner"
SWEEPER = "relayq-sweeper"
#: Timeouts in seconds, as in the template; a job whose own timeout does not fit into the runner's is never run.
_RUNNER_LIVES, _SWEEPER_LIVES = 900, 150
_TICK = json.dumps({"version": "0", "detail-type": "Scheduled Event", "source": "aws.scheduler"}).encode()


class Stack:
    """Runs inside `with`, where the environment of this process points to it: RelayQ() is a client of it.

    `settings` are more variables for the runner's and sweeper's environment, `path` the folders that job modules are
    imported from, `tick` the seconds between two sweeps (None: no sweeps), `logs` the folder for logs. `port` is that
    of its AWS (0: any free one). `on_event` is called with the function's name and each event it is invoked with.
    Raises WorkerStartFailed if a job module cannot be imported, and OSError if the port is taken.
    """

    def __init__(
        self,
        logs: Path,
        *,
        settings: Mapping[str, str],
        path: list[Path],
        tick: float | None,
        port: int = 0,
        on_event: Callable[[str, bytes], object] = lambda function, event: None,
    ) -> None:
        self._logs = logs
        self._path = path
        self._tick = tick
        self._parts = ExitStack()
        self.functions = Functions()
        self._on_event = on_event
        self.aws = EmbeddedAws(self._invoke, port)
        self._parts.callback(self.aws.close)
        self.environ = {**self.aws.environ, "RELAYQ_RUNNER_FUNCTION": RUNNER, **settings}

    def __enter__(self) -> Self:
        with ExitStack() as on_error:
            on_error.push(self._parts)
            make_private_folder(self._logs)
            self._parts.callback(self.functions.close)
            self._parts.enter_context(apply_environ(self.environ))
            self.functions.begin(self._build_functions())
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
        """Restart the runner with the current code; the old one ends when it has run its queued events.

        Raises WorkerStartFailed; then the old one stays.
        """
        self.functions.replace(next(function for function in self._build_functions() if function.name == RUNNER))

    def _invoke(self, name: str, event: bytes) -> bool:
        self._on_event(name, event)
        return self.functions.invoke(name, event)

    def kill_runner_of(self, job_id: str) -> int | None:
        """Kill the runner process that runs this job; return its process id, or None if no runner has it."""
        return self.functions.kill(RUNNER, job_id=job_id)

    def _build_functions(self) -> list[Function]:
        powertools = {"POWERTOOLS_METRICS_NAMESPACE": "RelayQ", "POWERTOOLS_SERVICE_NAME": "relayq"}
        environ = {**self.environ, **powertools}
        return [
            Function(
                name=RUNNER,
                handler="relayq_core.handlers.runner.handler",
                # the runner finds its own name, as it does in the template
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


def find_shipped_jobs() -> Path:
    """Return the folder with the `jobs` package that RelayQ ships: e-mail, templated e-mail, webhook."""
    package = Path(relayq_core.__file__).resolve().parent
    in_repository = package.parent / "functions" / "runner"
    return in_repository if (in_repository / "jobs").is_dir() else package / "local" / "shipped"
