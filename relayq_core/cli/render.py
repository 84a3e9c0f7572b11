"""A job, as commands show it to people: in a line of a table, and whole."""

from __future__ import annotations

import json

from relayq_core.cli.exit_codes import JOB_FAILED, OK, STILL_RUNNING
from relayq_core.cli.output import STATUS_STYLES, Column, age, moment, print_details, say, span
from relayq_core.model.record import JobRecord, Status
from relayq_core.operations.serialize import decoded, headline, share, unique_key

_BROUGHT_BACK = "redriven: its attempts count anew"


def attempts(job: JobRecord) -> str:
    """`2/3`; `2` where only the runner knows the limit."""
    return f"{job.attempt}/{job.max_attempts}" if job.max_attempts else str(job.attempt)


LIVE_COLUMNS = (
    Column("id"),
    Column("name"),
    Column("queue"),
    Column("status"),
    Column("attempts"),
    Column("", wide=True),
)


def live_row(job: JobRecord, now: int) -> tuple[str, ...]:
    """A job that waits or runs, in a table."""
    return (job.id, job.name, job.queue, job.status.value, attempts(job), _stands(job, now))


def _stands(job: JobRecord, now: int) -> str:
    if job.status is not Status.PROCESSING:
        return f"starts {age(job.available_at, now)}" if job.available_at > now else f"due {age(job.available_at, now)}"
    parts = [f"runs for {span(now - (job.started_at or now))}"]
    if job.progress_json:
        parts.append(progress_of(job))
    if job.cancel_requested_at:
        parts.append("cancel asked for")
    if job.lease_until and job.lease_until < now:
        parts.append(f"its lease ended {age(job.lease_until, now)}")
    return ", ".join(parts)


def progress_of(job: JobRecord) -> str:
    """`40% rows read`, as its handler last said it."""
    progress = decoded(job.progress_json)
    if not isinstance(progress, dict):  # edited by hand
        return "" if progress is None else str(progress)
    return f"{share(progress.get('fraction')):.0%} {progress.get('note') or ''}".strip()


def show_job(job: JobRecord, now: int) -> None:
    """Everything there is to say of a job."""
    print_details(
        [
            ("job", job.id),
            ("name", job.name),
            ("queue", job.queue),
            ("status", job.status.value),
            ("now", "" if job.status.is_ended else _stands(job, now)),
            ("attempts", attempts(job)),
            ("dispatched", _when(job.created_at, now)),
            ("not before", _when(job.available_at, now) if job.available_at > now else ""),
            ("started", _when(job.started_at, now)),
            ("ended", _when(job.finished_at, now)),
            ("backoff", "" if job.backoff is None else f"{job.backoff} s"),
            ("timeout", "" if job.timeout_ms is None else span(job.timeout_ms)),
            ("unique key", unique_key(job) or ""),
            ("parent", job.parent_id or ""),
            ("trace", job.trace_id or ""),
            ("progress", progress_of(job) if job.progress_json else ""),
            ("payload", _pretty(job.payload_json)),
            ("result", f"not kept: {job.result_problem}" if job.result_problem else _pretty(job.result_json)),
            ("error", job.error or ""),
        ],
        styles=STATUS_STYLES,
    )
    if job.errors:
        say()
        for line in _history(job, now):
            say(line)


def _history(job: JobRecord, now: int) -> list[str]:
    """A line for each attempt that failed; and where the attempts count anew, that the job was brought back."""
    lines: list[str] = []
    before = 0
    for error in job.errors:
        attempt = error["attempt"] if isinstance(error.get("attempt"), int) else 0
        if attempt <= before:
            lines.append(_BROUGHT_BACK)
        lines.append(f"attempt {attempt} failed {age(error.get('at'), now)}: {error.get('error')}")
        before = attempt
    at_work = job.status in {Status.PROCESSING, Status.COMPLETED} and not job.exhausted
    if job.attempt < before or (job.attempt == before and at_work):
        lines.append(_BROUGHT_BACK)
    return lines


def _when(at: int | None, now: int) -> str:
    return "" if at is None else f"{moment(at)}, {age(at, now)}"


def _pretty(text: str | None) -> str:
    """JSON in one line if it is short, else indented."""
    if text is None:
        return ""
    value = decoded(text)
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= 60 else json.dumps(value, ensure_ascii=False, indent=2)


def exit_of(job: JobRecord) -> int:
    """The exit code that tells how a job stands."""
    if job.status is Status.COMPLETED:
        return OK
    return JOB_FAILED if job.status.is_ended else STILL_RUNNING


def show_ended(job: JobRecord | None, patience: float) -> None:
    """How a job ended that was waited for, or run."""
    if job is None:
        say("it has ended, and is not kept (RELAYQ_RETENTION_SECONDS)")
    elif job.status is Status.COMPLETED:
        problem = f"; its result is not kept: {job.result_problem}" if job.result_problem else ""
        say("completed" + problem if job.result_json is None else f"completed: {job.result_json}", style="green")
    elif job.status.is_ended:
        say(f"{job.status.value}: {headline(job)}".rstrip(": "), style="red")
    else:
        say(f"still {job.status.value} after {patience:g} s, attempt {job.attempt}", style="yellow")
