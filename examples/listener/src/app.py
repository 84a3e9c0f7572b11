"""React to a job that has failed for good; here by writing a line to the log."""

from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Handle one event of the rule in template.yaml. EventBridge may deliver the same event twice."""
    job = event["detail"]
    print(f"{job['name']} {job['id']} failed after {job['attempt']} attempts: {job.get('error', 'no error')}")
    return {"reported": job["id"]}
