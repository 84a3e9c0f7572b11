"""`relayq doctor`: check a deployed stack."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from relayq_core.cli.aws import Aws, DescribedStack
from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.doctor.checks import Finding, Verdict, examine
from relayq_core.cli.exit_codes import ERROR, OK, Stop
from relayq_core.cli.output import Column, complain, print_table, say
from relayq_core.client import RelayQ
from relayq_core.settings import Settings

_STYLES = {Verdict.OK.value: "green", Verdict.WRONG.value: "red", Verdict.UNKNOWN.value: "yellow"}


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "doctor", example="relayq doctor --stack relayq --region eu-west-1")(doctor)


def doctor(cli: Cli) -> int:
    """Check that a deployed stack is configured correctly.

    Checks functions, permissions, tables and schedule, and says how to fix what is wrong. It only reads. What you may
    not read is reported as unknown, with the permission that is missing. If your jobs' code is here
    (RELAYQ_JOB_MODULES), their longest timeout is compared with the runner's. Needs --stack.

    JSON: {"stack", "healthy", "findings": [{"check", "verdict": "ok", "wrong" or "unknown", "found", "fix"}]}. Exit
    code 1 if something is wrong; unknown does not count.
    """
    if cli.target.stack is None:
        raise typer.BadParameter("say which stack: --stack NAME")
    settings = cli.load_settings()
    assert cli.stack is not None
    findings = _examine(cli.aws, cli.stack, _find_longest_timeout(cli, settings))
    wrong = [finding for finding in findings if finding.verdict is Verdict.WRONG]
    data = {"stack": cli.stack.name, "healthy": not wrong, "findings": [asdict(finding) for finding in findings]}
    cli.answer(data, lambda: _show(findings))
    return ERROR if wrong else OK


def _examine(aws: Aws, stack: DescribedStack, longest_timeout: float | None) -> list[Finding]:
    from relayq_core.cli.doctor.reading import OUTPUTS, read

    stack.require_outputs(*OUTPUTS)
    # the stack's own table, whatever the environment says
    relayq = RelayQ(Settings(jobs_table=stack.outputs["JobsTableName"], handoff="none"), session=aws.session)
    return examine(read(aws.get_client, stack, relayq.store, relayq.clock.now(), longest_timeout))


def _find_longest_timeout(cli: Cli, settings: Settings) -> float | None:
    """Return the longest timeout of the jobs whose code is here, in seconds; None if there is none."""
    try:
        jobs = cli.load_jobs_if_found(settings)
    except Stop as stop:
        complain("note", str(stop))
        return None
    timeouts: list[Any] = [] if jobs is None else [jobs[name].options.timeout for name in jobs]
    return max((timeout for timeout in timeouts if timeout is not None), default=None)


def _show(findings: list[Finding]) -> None:
    columns = (Column("check"), Column("verdict"), Column("found", wide=True))
    print_table(
        columns, [(finding.check, finding.verdict.value, finding.found) for finding in findings], styles=_STYLES
    )
    for finding in findings:
        if finding.fix:
            say()
            say(f"{finding.check}: {finding.found}", style=_STYLES[finding.verdict.value])
            say(f"  {finding.fix}")
    counts = [(verdict, sum(finding.verdict is verdict for finding in findings)) for verdict in Verdict]
    say()
    say(", ".join(f"{number} {verdict.value}" for verdict, number in counts if number), style="bold")
