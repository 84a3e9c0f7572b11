"""Tells somebody that a job was given up; here, whoever reads the log."""

from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """One event of the rule in template.yaml. EventBridge may deliver it twice: `id` and `attempt` say so."""
    job = event["detail"]
    print(f"{job['name']} {job['id']} was given up after {job['attempt']} tries: {job.get('error', 'no error')}")
    return {"told": job["id"]}
