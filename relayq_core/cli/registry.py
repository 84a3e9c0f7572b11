"""`relayq registry`: list the job types, their options and their payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from relayq_core.cli.command import Cli, register_command
from relayq_core.cli.output import Column, print_details, print_table, say
from relayq_core.dashboard.words import format_span
from relayq_core.jobs.registry import JobType, explain_unknown_payload


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    register_command(app, "registry", example="relayq registry send_email")(registry)


def registry(
    cli: Cli,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show only this job type, with its schema.")
    ] = None,
) -> None:
    """List the job types, their options and payloads.

    Imports the modules of RELAYQ_JOB_MODULES from this folder, from src, from functions/runner or from Python's path.

    JSON: {"jobs": [{"name", "queue", "max_attempts", "backoff", "timeout", "origin", "payload"}]}, the last a JSON
    Schema. A schema without "properties" means that the payload is unknown; its "$comment" says why.
    """
    jobs = cli.load_jobs(cli.load_settings())
    types = [jobs.find(name)] if name else [jobs[name] for name in sorted(jobs)]
    data = [_describe(job_type) for job_type in types]
    cli.answer({"jobs": data}, lambda: _show_one(data[0]) if name else _show(data))


def _describe(job_type: JobType) -> dict[str, Any]:
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
        say("the modules of RELAYQ_JOB_MODULES define no job; `relayq make-job hello` writes a first one")
        return
    columns = (
        Column("name"),
        Column("queue"),
        Column("attempts", right=True),
        Column("timeout", right=True),
        Column("payload", wide=True),
    )
    rows = [
        (job["name"], job["queue"] or "", _format_attempts(job), _format_timeout(job), _format_payload(job))
        for job in jobs
    ]
    print_table(columns, rows)


def _show_one(job: dict[str, Any]) -> None:
    file = Path(job["origin"]["file"])
    path = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    print_details(
        [
            ("job", job["name"]),
            ("defined", f"{job['origin']['qualname']} in {path}"),
            ("queue", job["queue"] or "the default"),
            ("attempts", _format_attempts(job) or "the default"),
            ("backoff", f"{job['backoff']} s" if job["backoff"] else "the default"),
            ("timeout", _format_timeout(job) or "the default"),
            ("payload", json.dumps(job["payload"], indent=2, ensure_ascii=False)),
        ]
    )


def _format_attempts(job: dict[str, Any]) -> str:
    return str(job["max_attempts"] or "")


def _format_timeout(job: dict[str, Any]) -> str:
    return format_span(round(job["timeout"] * 1000)) if job["timeout"] else ""


def _format_payload(job: dict[str, Any]) -> str:
    reason = explain_unknown_payload(job["payload"])
    return ", ".join(_list_fields(job)) if reason is None else f"unknown: {reason}"


def _list_fields(job: dict[str, Any]) -> list[str]:
    """Return the fields as `to`, `subject`, `text?`: those with a question mark are optional."""
    schema = job["payload"]
    required = schema.get("required", ())
    return [name if name in required else f"{name}?" for name in schema.get("properties", {})]
