"""`relayq doctor`: examine a deployed stack."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.cli.command import Cli, command
from relayq_core.cli.doctor.checks import Finding, Verdict, examined
from relayq_core.cli.exit_codes import ERROR, OK, Stop
from relayq_core.cli.output import Column, complain, print_table, say
from relayq_core.client import RelayQ
from relayq_core.settings import Settings

_STYLES = {Verdict.OK.value: "green", Verdict.WRONG.value: "red", Verdict.UNKNOWN.value: "yellow"}


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "doctor", example="relayq doctor --stack relayq --region eu-west-1")(doctor)


def doctor(cli: Cli) -> int:
    """Examine a deployed stack: is it as RelayQ needs it?

    Some fifteen checks of functions, grants, tables and schedule, each with its fix. It only reads. What you may not
    read is unknown, and named with the right that is missing. The longest timeout of your jobs counts where their
    code is at hand (RELAYQ_JOB_MODULES). Needs --stack.

    JSON: {"stack", "healthy", "findings": [{"check", "verdict": "ok", "wrong" or "unknown", "found", "fix"}]}. Exit
    code 1 if something is wrong; what is unknown is not.
    """
    if cli.where.stack is None:
        raise typer.BadParameter("say which stack: --stack NAME")
    settings = cli.settings()
    assert cli.stack is not None
    findings = _examined(cli.aws, cli.stack, _longest_timeout(cli, settings))
    wrong = [finding for finding in findings if finding.verdict is Verdict.WRONG]
    data = {"stack": cli.stack.name, "healthy": not wrong, "findings": [asdict(finding) for finding in findings]}
    cli.answer(data, lambda: _show(findings))
    return ERROR if wrong else OK


def _examined(aws: Aws, stack: DescribedStack, longest_timeout: float | None) -> list[Finding]:
    from relayq_core.cli.doctor.reading import OUTPUTS, read

    stack.checked(*OUTPUTS)
    # the stack's own table, whatever the environment says
    relayq = RelayQ(Settings(jobs_table=stack.outputs["JobsTableName"], handoff="none"), session=aws.session)
    return examined(read(aws.client, stack, relayq.store, relayq.clock.now(), longest_timeout))


def _longest_timeout(cli: Cli, settings: Settings) -> float | None:
    """Of the jobs whose code is at hand; where it cannot be imported the doctor goes on without."""
    try:
        jobs = cli.jobs_at_hand(settings)
    except Stop as stop:
        complain("note", str(stop))
        return None
    timeouts: list[Any] = [] if jobs is None else [jobs[name].options.timeout for name in jobs]
    return max((timeout for timeout in timeouts if timeout is not None), default=None)


def _show(findings: list[Finding]) -> None:
    columns = (Column("check"), Column("verdict"), Column("found", wide=True))
    print_table(columns, [(each.check, each.verdict.value, each.found) for each in findings], styles=_STYLES)
    for each in findings:
        if each.fix:
            say()
            say(f"{each.check}: {each.found}", style=_STYLES[each.verdict.value])
            say(f"  {each.fix}")
    counts = [(verdict, sum(each.verdict is verdict for each in findings)) for verdict in Verdict]
    say()
    say(", ".join(f"{number} {verdict.value}" for verdict, number in counts if number), style="bold")
