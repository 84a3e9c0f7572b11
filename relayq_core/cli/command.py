"""What all commands share: the options, how settings are found, and how a command ends."""

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
from relayq_core.cli.output import complain, print_json, show_traceback
from relayq_core.cli.params import flag
from relayq_core.cli.target import Where, job_modules_findable, prepared
from relayq_core.client import RelayQ
from relayq_core.errors import RelayQError, SettingsError
from relayq_core.extras import missing_extra
from relayq_core.jobs.registry import Registry, import_jobs, registry
from relayq_core.process.loggers import logger
from relayq_core.settings import Settings
from relayq_core.text import locate_error, summarize_error

P = ParamSpec("P")

_PLACE = "Where the jobs are"

Stack = Annotated[
    str | None,
    typer.Option(
        "--stack", metavar="NAME", help="Take tables and runner from this stack's outputs.", rich_help_panel=_PLACE
    ),
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="REGION", help="The stack's AWS region.", rich_help_panel=_PLACE)
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="PROFILE", help="The AWS profile whose credentials to use.", rich_help_panel=_PLACE
    ),
]
Local = Annotated[
    bool,
    flag("--local", help="The tables kept in .relayq/, as `relayq demo` left them.", rich_help_panel=_PLACE),
]
Json = Annotated[bool, flag("--json", help="Print JSON, errors too, for programs.")]
Debug = Annotated[bool, flag("--debug", help="Show the traceback of an error.")]


@dataclass(kw_only=True)
class Cli:
    """What a command works with. Each ends what it began when the command ends."""

    where: Where = field(default_factory=Where)
    json: bool = False
    debug: bool = False
    aws: Aws = field(default_factory=Aws)
    #: the stack that was named by --stack, once the settings were taken from it
    stack: DescribedStack | None = None
    _until: ExitStack = field(default_factory=ExitStack)

    def settings(self, *needed: str, begin: bool = False) -> Settings:
        """The settings; `needed` ones must be set. `begin`: see where.prepared. Raises SettingsError."""
        self.stack = prepared(self.where, self._until, self.aws, begin=begin)
        return _checked(Settings.from_environ(), needed)

    def relayq(self, *, hands_off: bool = False, failed: bool = True) -> RelayQ:
        """The tables (without `failed`: only that of live jobs), and the runner where the command `hands_off` jobs.

        Raises SettingsError.
        """
        settings = self.settings()
        alone = settings.handoff == "lambda" and not settings.runner_functions and not settings.runner_function
        needed = {"jobs_table": True, "failed_table": failed, "runner_function": alone and hands_off}
        _checked(settings, [name for name, wanted in needed.items() if wanted])
        # without a runner, what is to run again is left to the sweeper
        session = self.aws.session if self.stack else None
        return RelayQ(settings.evolve(handoff="none") if alone else settings, session=session)

    def jobs(self, settings: Settings) -> Registry:
        """The job types of RELAYQ_JOB_MODULES. Raises Stop where a module cannot be imported."""
        job_modules_findable(self._until, local=self.where.local)
        try:
            import_jobs(settings.job_modules)
        except SettingsError as error:
            problem = str(error).removeprefix(f"{error.variable}: ")
            raise SettingsError(
                error.variable,
                f"{problem}; `relayq make-job hello` writes a first job",
            ) from None
        except RelayQError:
            raise
        except Exception as error:
            raise Stop(
                f"the job modules {', '.join(settings.job_modules)} cannot be imported: {locate_error(error)}",
                kind=type(error).__name__,
            ) from error
        return registry

    def jobs_at_hand(self, settings: Settings) -> Registry | None:
        """The same where those modules are found in this folder or on Python's path, else None."""
        job_modules_findable(self._until, local=self.where.local)
        tops = {module.partition(".")[0] for module in settings.job_modules}
        return self.jobs(settings) if all(importlib.util.find_spec(top) for top in tops) else None

    def answer(self, data: Any, show: Callable[[], None]) -> None:
        """`data` as JSON where that was asked for, else whatever `show` prints."""
        if self.json:
            print_json(data)
        else:
            show()

    def close(self) -> None:
        """End what was begun."""
        self._until.close()


def command(
    app: typer.Typer, name: str, *, example: str, place: bool = True
) -> Callable[[Callable[Concatenate[Cli, P], int | None]], Callable[Concatenate[Cli, P], int | None]]:
    """Make a function a command: it is given a Cli and its own options, and answers with an exit code (None: 0).

    `place`: whether the command cares where the jobs are.
    """

    def decorate(body: Callable[Concatenate[Cli, P], int | None]) -> Callable[Concatenate[Cli, P], int | None]:
        shared = {"stack": Stack, "region": Region, "profile": Profile, "local": Local} if place else {}
        shared |= {"json": Json, "debug": Debug}

        def run(context: typer.Context, **given: Any) -> None:
            said = _said(context.obj or {}, {key: given.pop(key) for key in shared})
            raise typer.Exit(_ended(said, lambda cli: body(cli, **given)))  # type: ignore[call-arg]

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
        run.__doc__ = flowing(body.__doc__ or "")
        run.__name__ = body.__name__
        app.command(name, epilog=f"Example: {example}")(run)
        return body

    return decorate


def command_group(app: typer.Typer, name: str, *, help: str) -> typer.Typer:
    """Commands under a common name; the name alone shows their help."""
    group = typer.Typer()

    @group.callback(invoke_without_command=True)
    def between(
        context: typer.Context,
        stack: Stack = None,
        region: Region = None,
        profile: Profile = None,
        local: Local = False,
        json: Json = False,
        debug: Debug = False,
    ) -> None:
        given = {"stack": stack, "region": region, "profile": profile, "local": local, "json": json, "debug": debug}
        context.obj = {**(context.obj or {}), **{key: value for key, value in given.items() if value}}
        show_help_alone(context)

    app.add_typer(group, name=name, help=help)
    return group


def show_help_alone(context: typer.Context) -> None:
    """Without a command there is nothing to do but to show the help, which is a usage error."""
    if context.invoked_subcommand is None:
        if text := context.get_help():  # typer's rich help is printed, and not returned
            print(text)  # noqa: T201
        raise typer.Exit(USAGE)


def flowing(doc: str) -> str:
    """A docstring with one line for each paragraph: the terminal decides where lines end."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(doc).split("\n\n"))


def _said(at_root: dict[str, Any], here: dict[str, Any]) -> Cli:
    """Shared options count before the command's name, within it and after it."""
    said = {**at_root, **{key: value for key, value in here.items() if value}}
    where = Where(
        stack=said.get("stack"),
        region=said.get("region"),
        profile=said.get("profile"),
        local=said.get("local", False),
    )
    if where.local and (where.stack or where.profile or where.region):
        raise typer.BadParameter("--local is on this machine: it goes with none of --stack, --region, --profile")
    return Cli(where=where, json=said.get("json", False), debug=said.get("debug", False))


def _checked(settings: Settings, needed: Iterable[str]) -> Settings:
    try:
        return settings.needed(*needed)
    except SettingsError as error:
        problem = str(error).removeprefix(f"{error.variable}: ")
        raise SettingsError(
            error.variable,
            f"{problem}, name that stack by --stack, or say --local after `relayq demo`",
        ) from None


def _ended(cli: Cli, body: Callable[[Cli], int | None]) -> int:
    """Run a command's body; an error becomes one sentence, and an exit code."""
    with _spoken(cli):
        try:
            try:
                return body(cli) or OK
            finally:
                cli.close()
        except Stop as stop:
            return _failed(cli, str(stop), stop.kind, stop.code)
        except RelayQError as error:
            return _failed(cli, str(error), type(error).__name__, ERROR)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except OSError as error:
            return _failed(cli, f"{error.filename or 'system'}: {error.strerror or error}", type(error).__name__, ERROR)
        except Exception as error:
            from relayq_core.cli.aws_errors import sentence  # botocore is much to load, and few commands end like this

            extra = missing_extra(error) if isinstance(error, ImportError) else None
            problem = (
                extra
                or sentence(error)
                or f"unexpected {summarize_error(error)}; please report it, with what --debug shows"
            )
            return _failed(cli, problem, type(error).__name__, ERROR)


def _failed(cli: Cli, message: str, kind: str, code: int) -> int:
    if cli.debug:
        show_traceback()
    report_error(message, kind, code, as_json=cli.json)
    return code


def report_error(message: str, kind: str, code: int, *, as_json: bool) -> None:
    """One sentence on stderr; with --json the object `{"error", "type", "exit_code"}` on stdout instead."""
    if as_json:
        print_json({"error": message, "type": kind, "exit_code": code})
    else:
        complain("error", message)


@contextmanager
def _spoken(cli: Cli) -> Iterator[None]:
    """Log lines of RelayQ and Python's warnings are sentences on stderr while inside."""
    handler = _Spoken(cli.debug)
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


class _Spoken(logging.Handler):
    """Says a log line in one sentence; its traceback only for --debug."""

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
