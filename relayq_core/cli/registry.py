"""`relayq registry`: the job types there are, their options, and what their payloads look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from relayq_core.cli.command import Cli, command
from relayq_core.cli.output import Column, print_details, print_table, say, span
from relayq_core.jobs.registry import JobType, explain_unknown_payload


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "registry", example="relayq registry send_email")(registry)


def registry(
    cli: Cli,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one, with its payload schema.")
    ] = None,
) -> None:
    """The job types, their options and payloads.

    They are those of RELAYQ_JOB_MODULES, which are looked for in this folder, in src, in functions/runner and on
    Python's path.

    JSON: {"jobs": [{"name", "queue", "max_attempts", "backoff", "timeout", "origin", "payload"}]}, the last a JSON
    Schema. One without "properties" says that the payload is unknown, and in "$comment" why.
    """
    jobs = cli.jobs(cli.settings())
    types = [jobs.find(name)] if name else [jobs[known] for known in sorted(jobs)]
    data = [_described(job_type) for job_type in types]
    cli.answer({"jobs": data}, lambda: _show_one(data[0]) if name else _show(data))


def _described(job_type: JobType) -> dict[str, Any]:
    options = job_type.options
    return {
        "name": job_type.name,
        "queue": options.queue,
        "max_attempts": options.max_attempts,
        "backoff": None if options.backoff is None else str(options.backoff),
        "timeout": options.timeout,
        "origin": {"file": job_type.origin.file, "qualname": job_type.origin.qualname},
        "payload": job_type.build_schema(),
    }


def _show(jobs: list[dict[str, Any]]) -> None:
    if not jobs:
        say("no job is defined in the modules of RELAYQ_JOB_MODULES; `relayq make-job hello` writes a first one")
        return
    columns = (
        Column("name"),
        Column("queue"),
        Column("attempts", right=True),
        Column("timeout", right=True),
        Column("payload", wide=True),
    )
    rows = [(job["name"], job["queue"] or "", _attempts(job), _timeout(job), _payload(job)) for job in jobs]
    print_table(columns, rows)


def _show_one(job: dict[str, Any]) -> None:
    file = Path(job["origin"]["file"])
    near = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    print_details(
        [
            ("job", job["name"]),
            ("defined", f"{job['origin']['qualname']} in {near}"),
            ("queue", job["queue"] or "the default"),
            ("attempts", _attempts(job) or "the default"),
            ("backoff", f"{job['backoff']} s" if job["backoff"] else "the default"),
            ("timeout", _timeout(job) or "the default"),
            ("payload", json.dumps(job["payload"], indent=2, ensure_ascii=False)),
        ]
    )


def _attempts(job: dict[str, Any]) -> str:
    return str(job["max_attempts"] or "")


def _timeout(job: dict[str, Any]) -> str:
    return span(round(job["timeout"] * 1000)) if job["timeout"] else ""


def _payload(job: dict[str, Any]) -> str:
    reason = explain_unknown_payload(job["payload"])
    return ", ".join(_fields(job)) if reason is None else f"unknown: {reason}"


def _fields(job: dict[str, Any]) -> list[str]:
    """`to, subject, text?`: what may be left out bears a question mark."""
    schema = job["payload"]
    needed = schema.get("required", ())
    return [name if name in needed else f"{name}?" for name in schema.get("properties", {})]
