"""Where the jobs are: the settings come from the environment, `.env`, a stack's outputs, or `.relayq/`."""

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
from relayq_core.cli.project_layout import code_folders, jobs_folder

#: output of the stack -> the setting it stands for
_OUTPUTS = {
    "JobsTableName": "RELAYQ_JOBS_TABLE",
    "FailedJobsTableName": "RELAYQ_FAILED_TABLE",
    "RunnerFunctionName": "RELAYQ_RUNNER_FUNCTION",
}
_EMBEDDED = ("moto", "flask", "flask_cors", "aws_lambda_powertools")
#: The jobs that RelayQ comes with, by module: beside them its clone may have jobs of its own, which belong there alone.
_SHIPPED = "jobs.email,jobs.webhook"
#: What `.env` may say. AWS_CONFIG_FILE and the like name files, and those name programs to run.
_FROM_DOTENV = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"})
_ALL_FROM_DOTENV = ("RELAYQ_", "AWS_ENDPOINT_URL_")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What was said on the command line."""

    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    local: bool = False


def prepared(where: Where, until: ExitStack, aws: Aws, *, begin: bool = False) -> DescribedStack | None:
    """Make this process's environment say where the jobs are, as long as `until` is open; the stack, if one was named.

    First of all counts what the environment says, then `.env`, then the stack. `begin`: with --local, begin with
    empty tables where none are kept.
    """
    before = dict(os.environ)
    until.callback(_restore, before)
    _read_dotenv()
    if where.local:
        _use_local(until, begin=begin)
        return None
    if where.region:
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = where.region
    if where.profile:
        os.environ["AWS_PROFILE"] = where.profile
        for key in _KEYS:  # keys in the environment would win over the profile that was asked for
            os.environ.pop(key, None)
    if not where.stack:
        return None
    stack = aws.stack(where.stack).checked(*_OUTPUTS)
    _use_outputs(stack)
    return stack


def job_modules_findable(until: ExitStack, *, local: bool) -> None:
    """Job modules are imported from wherever a repository may keep them: src, functions/runner, the folder itself."""
    until.callback(sys.path.__setitem__, slice(None), list(sys.path))
    wanted = [str(folder) for folder in code_folders(Path.cwd())]
    sys.path[:] = [*wanted, *(folder for folder in sys.path if folder not in wanted)]
    # a jobs folder without an __init__.py would lose to one that has it, wherever that stands
    if local and not _has_jobs():
        from relayq_core.local.stack import shipped_jobs

        sys.path.append(str(shipped_jobs()))  # the demo's webhook


def _has_jobs() -> bool:
    """This folder has a package `jobs` where one may be."""
    return jobs_folder(Path.cwd()).is_dir()


def _restore(before: dict[str, str]) -> None:
    for key in os.environ.keys() - before.keys():
        del os.environ[key]
    os.environ.update(before)


def _read_dotenv() -> None:
    """Take from `.env` what says where the jobs are, and nothing that could run a program: folders may be foreign."""
    from dotenv import dotenv_values

    # no ${NAME}: an address in it could carry a secret of the environment away
    said = {key: value for key, value in dotenv_values(Path(".env"), interpolate=False).items() if value is not None}
    taken = {key: value for key, value in said.items() if key in _FROM_DOTENV or key.startswith(_ALL_FROM_DOTENV)}
    for key, value in taken.items():
        os.environ.setdefault(key, value)
    if left := sorted(key for key in said.keys() - taken.keys() - os.environ.keys() if key.startswith("AWS_")):
        complain("note", f"{', '.join(left)}: not read from .env; set it in the environment, or name an AWS_PROFILE")


def _use_local(until: ExitStack, *, begin: bool) -> None:
    check_embedded()
    from relayq_core.local.environ import applied
    from relayq_core.local.state import FOLDER, kept

    said = os.environ.get("RELAYQ_JOB_MODULES")

    def waiting(holder: str) -> None:
        complain("waiting", f"{holder} has the tables in {FOLDER}; this goes on when it ends. Ctrl-C gives up")

    aws, settings = until.enter_context(kept(FOLDER, begin=begin, waiting=waiting))
    modules = (said or settings.get("RELAYQ_JOB_MODULES", "jobs")).split(",")
    if not _has_jobs():
        modules = [_SHIPPED if module.strip() == "jobs" else module for module in modules]
    settings = {**settings, "RELAYQ_JOB_MODULES": ",".join(modules)}
    until.enter_context(applied({**aws.environ, "RELAYQ_HANDOFF": "none", **settings}))


def check_embedded() -> None:
    """The embedded stack needs what the command line alone does without. Raises Stop."""
    if os.name != "posix":
        raise Stop("the embedded stack runs on Linux and macOS; on Windows use WSL")
    if missing := [name for name in _EMBEDDED if importlib.util.find_spec(name) is None]:
        raise Stop(f"the embedded stack is not installed ({missing[0]} is missing): pip install 'relayq[local]'")


def _use_outputs(stack: DescribedStack) -> None:
    for output, variable in _OUTPUTS.items():
        given = os.environ[variable] = os.environ.get(variable) or stack.outputs[output]
        if given != stack.outputs[output]:
            complain(
                "warning",
                f"{variable}={given} from the environment wins over {stack.outputs[output]} of stack {stack.name}",
            )
