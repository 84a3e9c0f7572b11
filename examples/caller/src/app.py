"""Dispatch a job by its name, and ask how it is doing. None of the job's code is here."""

from typing import Any

from relayq_core import dispatch, get


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """`{"dispatch": name, "args": {...}, "options": {"delay": 5}}`, or `{"status": job id}`."""
    if "status" in event:
        record = get(event["status"])
        return {
            "status": record.status.value if record else "unknown",
            "result": record.result if record else None,
        }
    dispatched = dispatch(event["dispatch"], event.get("args"), **event.get("options", {}))
    return {"job_id": dispatched.job_id, "duplicate": dispatched.duplicate}
