"""Share what all commands need: the common options, the settings, and the way from an error to an exit code."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.cli.exit_codes import ERROR, OK, USAGE, Stop
from relayq_core.cli.hints import HintingGroup
from relayq_core.cli.output import complain, print_json, show_traceback
from relayq_core.cli.params import flag
from relayq_core.cli.target import Target, extend_import_path, prepare_environment
from relayq_core.client import RelayQ
from relayq_core.errors import RelayQError, SettingsError
from relayq_core.jobs.registry import Registry, import_jobs, registry
from relayq_core.process.extras import explain_missing_extra
from relayq_core.process.loggers import logger
from relayq_core.settings import Settings
from relayq_core.text import locate_error, summarize_error

P = ParamSpec("P")

_TARGET = "Where the jobs are"

Stack = Annotated[
    str | None,
    typer.Option(
        "--stack", metavar="NAME", help="Use the tables and runner in this stack's outputs.", rich_help_panel=_TARGET
    ),
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="REGION", help="The stack's AWS region.", rich_help_panel=_TARGET)
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="PROFILE", help="The AWS profile to take credentials from.", rich_help_panel=_TARGET
    ),
]
Local = Annotated[
    bool,
    flag("--local", help="Use the tables in .relayq/, which the demo leaves.", rich_help_panel=_TARGET),
]
Json = Annotated[bool, flag("--json", help="Print JSON for programs, errors included.")]
Debug = Annotated[bool, flag("--debug", help="Print tracebacks.")]


@dataclass(kw_only=True)
class Cli:
    """What a command works with. `close` undoes what its methods set up: environment, import path, local tables."""

    target: Target = field(default_factory=Target)
    json: bool = False
    debug: bool = False
    aws: Aws = field(default_factory=Aws)
    #: the stack named by --stack, once the settings have been read from it
    stack: DescribedStack | None = None
    _until: ExitStack = field(default_factory=ExitStack)

    def load_settings(self, *, begin: bool = False) -> Settings:
        """Return the settings from the environment, `.env`, the stack or `.relayq/`. Raises SettingsError.

        `begin`: with --local, create empty tables if there are none.
        """
        self.stack = prepare_environment(self.target, self._until, self.aws, begin=begin)
        return Settings.from_environ()

    def connect(self, *, hands_off: bool = False, failed: bool = True) -> RelayQ:
        """Return a client for the tables, after checking that the settings it needs are there.

        `hands_off`: the command hands jobs to a runner, so one must be configured. `failed`: it uses the failed table
        too. Raises SettingsError.
        """
        settings = self.load_settings()
        has_no_runner = settings.handoff == "lambda" and not settings.runner_functions and not settings.runner_function
        conditions = {"jobs_table": True, "failed_table": failed, "runner_function": has_no_runner and hands_off}
        _require(settings, [name for name, is_needed in conditions.items() if is_needed])
        session = self.aws.session if self.stack else None
        # without a runner, the sweeper starts what becomes due again
        return RelayQ(settings.evolve(handoff="none") if has_no_runner else settings, session=session)

    def load_jobs(self, settings: Settings) -> Registry:
        """Import RELAYQ_JOB_MODULES and return the registry. Raises Stop if a module cannot be imported."""
        extend_import_path(self._until, local=self.target.local)
        try:
            import_jobs(settings.job_modules)
        except SettingsError as error:
            hint = f"{error.problem}; `relayq make-job hello` writes a first job"
            raise SettingsError(error.variable, hint) from None
        except RelayQError:
            raise
        except Exception as error:
            raise Stop(
                f"cannot import the job modules {', '.join(settings.job_modules)}: {locate_error(error)}",
                kind=type(error).__name__,
            ) from error
        return registry

    def load_jobs_if_found(self, settings: Settings) -> Registry | None:
        """Return the registry if those modules are in this folder or on Python's path, else None."""
        extend_import_path(self._until, local=self.target.local)
        tops = {module.partition(".")[0] for module in settings.job_modules}
        return self.load_jobs(settings) if all(importlib.util.find_spec(top) for top in tops) else None

    def answer(self, data: Any, show: Callable[[], None]) -> None:
        """Print `data` as JSON if --json was given; otherwise call `show`, which prints it for people."""
        if self.json:
            print_json(data)
        else:
            show()

    def close(self) -> None:
        """Undo what the methods set up."""
        self._until.close()


def register_command(
    app: typer.Typer, name: str, *, example: str, place: bool = True
) -> Callable[[Callable[Concatenate[Cli, P], int | None]], Callable[Concatenate[Cli, P], int | None]]:
    """Return a decorator that adds a function to `app` as a command.

    The function takes a Cli and the command's own options, and returns an exit code (None: 0). `place`: the command
    also takes the options that say where the jobs are.
    """

    def decorate(body: Callable[Concatenate[Cli, P], int | None]) -> Callable[Concatenate[Cli, P], int | None]:
        shared = {"stack": Stack, "region": Region, "profile": Profile, "local": Local} if place else {}
        shared |= {"json": Json, "debug": Debug}

        def run(context: typer.Context, **options: Any) -> None:
            cli = _build_cli(context.obj or {}, {key: options.pop(key) for key in shared})
            raise typer.Exit(_run_body(cli, lambda cli: body(cli, **options)))  # type: ignore[call-arg]

        # Typer reads a command's options from its signature: built here, no command has to repeat the shared six
        own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
                *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
                *(
                    inspect.Parameter(
                        key,
                        inspect.Parameter.KEYWORD_ONLY,
                        default=False if key in {"local", "json", "debug"} else None,
                        annotation=annotation,
                    )
                    for key, annotation in shared.items()
                ),
            ]
        )
        run.__annotations__ = {"context": typer.Context, **{p.name: p.annotation for p in own}, **shared}
        run.__doc__ = reflow(body.__doc__ or "")
        run.__name__ = body.__name__
        app.command(name, epilog=f"Example: {example}")(run)
        return body

    return decorate


def add_command_group(app: typer.Typer, name: str, *, help: str) -> typer.Typer:
    """Return a new group of commands under a common name; the name alone shows its help."""
    group = typer.Typer(cls=HintingGroup)

    @group.callback(invoke_without_command=True)
    def collect_options(
        context: typer.Context,
        stack: Stack = None,
        region: Region = None,
        profile: Profile = None,
        local: Local = False,
        json: Json = False,
        debug: Debug = False,
    ) -> None:
        shared = {"stack": stack, "region": region, "profile": profile, "local": local, "json": json, "debug": debug}
        context.obj = {**(context.obj or {}), **{key: value for key, value in shared.items() if value}}
        show_help_alone(context)

    app.add_typer(group, name=name, help=help)
    return group


def show_help_alone(context: typer.Context) -> None:
    """Print the help and exit with a usage error if no command was given."""
    if context.invoked_subcommand is None:
        if text := context.get_help():  # typer's rich help is printed, and not returned
            print(text)  # noqa: T201
        raise typer.Exit(USAGE)


def reflow(doc: str) -> str:
    """Join each paragraph of a docstring into one line, so that it wraps at the terminal's width."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(doc).split("\n\n"))


def _build_cli(before: dict[str, Any], after: dict[str, Any]) -> Cli:
    """Combine the shared options that stand before the command's name with those after it; the latter win."""
    options = {**before, **{key: value for key, value in after.items() if value}}
    target = Target(
        stack=options.get("stack"),
        region=options.get("region"),
        profile=options.get("profile"),
        local=options.get("local", False),
    )
    if target.local and (target.stack or target.profile or target.region):
        raise typer.BadParameter("--local means this machine: leave out --stack, --region and --profile")
    return Cli(target=target, json=options.get("json", False), debug=options.get("debug", False))


def _require(settings: Settings, names: Iterable[str]) -> None:
    """Raise SettingsError, with what the command line can do about it, unless these settings are set."""
    try:
        settings.require(*names)
    except SettingsError as error:
        hint = f"{error.problem}, name that stack with --stack, or use --local after `relayq demo`"
        raise SettingsError(error.variable, hint) from None


def _run_body(cli: Cli, body: Callable[[Cli], int | None]) -> int:
    """Run a command's body and return the exit code; report an error in one sentence."""
    with _report_logs(cli):
        try:
            try:
                return body(cli) or OK
            finally:
                cli.close()
        except Stop as stop:
            return _report_failure(cli, str(stop), stop.kind, stop.code)
        except RelayQError as error:
            return _report_failure(cli, str(error), type(error).__name__, ERROR)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except OSError as error:
            return _report_failure(
                cli, f"{error.filename or 'system'}: {error.strerror or error}", type(error).__name__, ERROR
            )
        except Exception as error:
            from relayq_core.cli.aws_errors import (
                describe_aws_error,  # loads botocore, which few commands need
            )

            extra = explain_missing_extra(error) if isinstance(error, ImportError) else None
            problem = (
                extra
                or describe_aws_error(error)
                or f"unexpected {summarize_error(error)}; please report it, with the output of --debug"
            )
            return _report_failure(cli, problem, type(error).__name__, ERROR)


def _report_failure(cli: Cli, message: str, kind: str, code: int) -> int:
    if cli.debug:
        show_traceback()
    report_error(message, kind, code, as_json=cli.json)
    return code


def report_error(message: str, kind: str, code: int, *, as_json: bool) -> None:
    """Print an error: a sentence on stderr, or with --json `{"error", "type", "exit_code"}` on stdout."""
    if as_json:
        print_json({"error": message, "type": kind, "exit_code": code})
    else:
        complain("error", message)


@contextmanager
def _report_logs(cli: Cli) -> Iterator[None]:
    """Print RelayQ's log records and Python's warnings as sentences on stderr while the block runs."""
    handler = _LogReporter(cli.debug)
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: complain("warning", str(message))
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagated


class _LogReporter(logging.Handler):
    """Prints a log record in one sentence, and its traceback only with --debug."""

    def __init__(self, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        with suppress(Exception):
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                message += f" ({summarize_error(error)})"
            if record.levelno >= logging.WARNING:
                complain("error" if record.levelno >= logging.ERROR else "warning", message)
            else:
                complain("note", message)
            if error is not None and self._debug:
                show_traceback(error)
