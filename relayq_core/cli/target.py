"""Find where the jobs are: in the environment, `.env`, a stack's outputs, or `.relayq/`."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.cli.exit_codes import Stop
from relayq_core.cli.output import complain
from relayq_core.cli.project_layout import find_jobs_folder, list_code_folders

#: output of the stack -> the setting that it gives
_OUTPUTS = {
    "JobsTableName": "RELAYQ_JOBS_TABLE",
    "FailedJobsTableName": "RELAYQ_FAILED_TABLE",
    "RunnerFunctionName": "RELAYQ_RUNNER_FUNCTION",
}
_EMBEDDED = ("moto", "flask", "flask_cors", "aws_lambda_powertools")
#: The modules of the jobs that RelayQ ships; a clone of its repository may have others beside them.
_SHIPPED = "jobs.email,jobs.webhook"
#: What is read from `.env`. AWS_CONFIG_FILE and the like are not: such files name programs to run.
_FROM_DOTENV = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"})
_ALL_FROM_DOTENV = ("RELAYQ_", "AWS_ENDPOINT_URL_")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the jobs are, as the command line says."""

    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    local: bool = False


def prepare_environment(target: Target, until: ExitStack, aws: Aws, *, begin: bool = False) -> DescribedStack | None:
    """Set the variables that say where the jobs are until `until` closes; return the stack, if one is named.

    The environment wins over `.env`, and that over the stack. `begin`: with --local, create empty tables if there are
    none.
    """
    before = dict(os.environ)
    until.callback(_restore, before)
    _read_dotenv()
    if target.local:
        _use_local(until, begin=begin)
        return None
    if target.region:
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = target.region
    if target.profile:
        os.environ["AWS_PROFILE"] = target.profile
        for key in _KEYS:  # keys in the environment would win over the profile
            os.environ.pop(key, None)
    if not target.stack:
        return None
    stack = aws.describe_stack(target.stack).require_outputs(*_OUTPUTS)
    _use_outputs(stack)
    return stack


def extend_import_path(until: ExitStack, *, local: bool) -> None:
    """Put the folders that may hold job modules first on Python's path until `until` closes."""
    until.callback(sys.path.__setitem__, slice(None), list(sys.path))
    folders = [str(folder) for folder in list_code_folders(Path.cwd())]
    sys.path[:] = [*folders, *(folder for folder in sys.path if folder not in folders)]
    # only without a jobs folder here: one that has no __init__.py would lose to the shipped one, which has it
    if local and not _has_jobs():
        from relayq_core.local.stack import find_shipped_jobs

        sys.path.append(str(find_shipped_jobs()))  # the demo's webhook


def _has_jobs() -> bool:
    """Return whether this folder has a package `jobs` in one of its places."""
    return find_jobs_folder(Path.cwd()).is_dir()


def _restore(before: dict[str, str]) -> None:
    for key in os.environ.keys() - before.keys():
        del os.environ[key]
    os.environ.update(before)


def _read_dotenv() -> None:
    """Read from `.env` where the jobs are, and nothing that could run a program: the folder may be someone else's."""
    from dotenv import dotenv_values

    # no ${NAME}: it could put a secret of the environment into an address
    values = {key: value for key, value in dotenv_values(Path(".env"), interpolate=False).items() if value is not None}
    accepted = {key: value for key, value in values.items() if key in _FROM_DOTENV or key.startswith(_ALL_FROM_DOTENV)}
    for key, value in accepted.items():
        os.environ.setdefault(key, value)
    if ignored := sorted(key for key in values.keys() - accepted.keys() - os.environ.keys() if key.startswith("AWS_")):
        complain("note", f"{', '.join(ignored)}: not read from .env; set it in the environment, or use AWS_PROFILE")


def _use_local(until: ExitStack, *, begin: bool) -> None:
    check_embedded()
    from relayq_core.local.environ import apply_environ
    from relayq_core.local.state import FOLDER, open_state

    variable = os.environ.get("RELAYQ_JOB_MODULES")

    def report_wait(holder: str) -> None:
        complain("waiting", f"{holder} is using the tables in {FOLDER}; this continues when it ends. Ctrl-C to give up")

    aws, settings = until.enter_context(open_state(FOLDER, begin=begin, waiting=report_wait))
    modules = (variable or settings.get("RELAYQ_JOB_MODULES", "jobs")).split(",")
    if not _has_jobs():
        modules = [_SHIPPED if module.strip() == "jobs" else module for module in modules]
    settings = {**settings, "RELAYQ_JOB_MODULES": ",".join(modules)}
    until.enter_context(apply_environ({**aws.environ, "RELAYQ_HANDOFF": "none", **settings}))


def check_embedded() -> None:
    """Raise Stop if the embedded stack cannot run here, or if its packages are not installed."""
    if os.name != "posix":
        raise Stop("the embedded stack runs on Linux and macOS; on Windows use WSL")
    if missing := [name for name in _EMBEDDED if importlib.util.find_spec(name) is None]:
        raise Stop(f"the embedded stack is not installed ({missing[0]} is missing): pip install 'relayq[local]'")


def _use_outputs(stack: DescribedStack) -> None:
    for output, variable in _OUTPUTS.items():
        value = os.environ[variable] = os.environ.get(variable) or stack.outputs[output]
        if value != stack.outputs[output]:
            complain(
                "warning",
                f"{variable}={value} from the environment wins over {stack.outputs[output]} of stack {stack.name}",
            )
