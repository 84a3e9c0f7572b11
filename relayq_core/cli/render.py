"""Show a job to people: in a row of a table, or in full."""

from __future__ import annotations

import json

from relayq_core.cli.exit_codes import JOB_FAILED, OK, STILL_RUNNING
from relayq_core.cli.output import STATUS_STYLES, Column, format_age, format_time, print_details, say
from relayq_core.dashboard.words import format_span
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.serialize import clamp_share, decode_json, get_headline, get_unique_key

_BROUGHT_BACK = "redriven: attempts are counted from 1 again"


def format_attempts(job: JobRecord) -> str:
    """Return `2/3`, or `2` if only the runner knows the limit."""
    return f"{job.attempt}/{job.max_attempts}" if job.max_attempts else str(job.attempt)


LIVE_COLUMNS = (
    Column("id"),
    Column("name"),
    Column("queue"),
    Column("status"),
    Column("attempts"),
    Column("", wide=True),
)


def format_live_row(job: JobRecord, now: int) -> tuple[str, ...]:
    """Return the cells of a waiting or running job."""
    return (job.id, job.name, job.queue, job.status.value, format_attempts(job), _describe_state(job, now))


def _describe_state(job: JobRecord, now: int) -> str:
    if job.status is not Status.PROCESSING:
        return (
            f"starts {format_age(job.available_at, now)}"
            if job.available_at > now
            else f"due {format_age(job.available_at, now)}"
        )
    parts = [f"running for {format_span(now - (job.started_at or now))}"]
    if job.progress_json:
        parts.append(format_progress(job))
    if job.cancel_requested_at:
        parts.append("cancellation requested")
    if job.lease_until and job.lease_until < now:
        parts.append(f"its lease ended {format_age(job.lease_until, now)}")
    return ", ".join(parts)


def format_progress(job: JobRecord) -> str:
    """Return `40% rows read`, as the handler last reported it."""
    progress = decode_json(job.progress_json)
    if not isinstance(progress, dict):  # the row was edited by hand
        return "" if progress is None else str(progress)
    return f"{clamp_share(progress.get('fraction')):.0%} {progress.get('note') or ''}".strip()


def show_job(job: JobRecord, now: int) -> None:
    """Print everything that is known about a job."""
    print_details(
        [
            ("job", job.id),
            ("name", job.name),
            ("queue", job.queue),
            ("status", job.status.value),
            ("now", "" if job.status.is_ended else _describe_state(job, now)),
            ("attempts", format_attempts(job)),
            ("dispatched", _format_when(job.created_at, now)),
            ("not before", _format_when(job.available_at, now) if job.available_at > now else ""),
            ("started", _format_when(job.started_at, now)),
            ("ended", _format_when(job.finished_at, now)),
            ("backoff", "" if job.backoff is None else f"{job.backoff} s"),
            ("timeout", "" if job.timeout_ms is None else format_span(job.timeout_ms)),
            ("unique key", get_unique_key(job) or ""),
            ("parent", job.parent_id or ""),
            ("trace", job.trace_id or ""),
            ("progress", format_progress(job) if job.progress_json else ""),
            ("payload", _format_json(job.payload_json)),
            ("result", f"not kept: {job.result_problem}" if job.result_problem else _format_json(job.result_json)),
            ("error", job.error or ""),
        ],
        styles=STATUS_STYLES,
    )
    if job.errors:
        say()
        for line in _format_history(job, now):
            say(line)


def _format_history(job: JobRecord, now: int) -> list[str]:
    """Return a line for each failed attempt, and one wherever the job was redriven and its count began again."""
    lines: list[str] = []
    before = 0
    for error in job.errors:
        attempt = error["attempt"] if isinstance(error.get("attempt"), int) else 0
        if attempt <= before:
            lines.append(_BROUGHT_BACK)
        lines.append(f"attempt {attempt} failed {format_age(error.get('at'), now)}: {error.get('error')}")
        before = attempt
    is_active = job.status in {Status.PROCESSING, Status.COMPLETED} and not job.exhausted
    if job.attempt < before or (job.attempt == before and is_active):
        lines.append(_BROUGHT_BACK)
    return lines


def _format_when(at: int | None, now: int) -> str:
    return "" if at is None else f"{format_time(at)}, {format_age(at, now)}"


def _format_json(text: str | None) -> str:
    """Return JSON in one line if it is short, else indented."""
    if text is None:
        return ""
    value = decode_json(text)
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= 60 else json.dumps(value, ensure_ascii=False, indent=2)


def get_exit_code(job: JobRecord) -> int:
    """Return the exit code for the state of a job."""
    if job.status is Status.COMPLETED:
        return OK
    return JOB_FAILED if job.status.is_ended else STILL_RUNNING


def show_ended(job: JobRecord | None, waited: float) -> None:
    """Print how a job ended, or that it has not after `waited` seconds; None is one that is not kept."""
    if job is None:
        say("the job has ended and is not kept (RELAYQ_RETENTION_SECONDS)")
    elif job.status is Status.COMPLETED:
        problem = f"; its result is not kept: {job.result_problem}" if job.result_problem else ""
        say("completed" + problem if job.result_json is None else f"completed: {job.result_json}", style="green")
    elif job.status.is_ended:
        say(f"{job.status.value}: {get_headline(job)}".rstrip(": "), style="red")
    else:
        say(f"still {job.status.value} after {waited:g} s, attempt {job.attempt}", style="yellow")
