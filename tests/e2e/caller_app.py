"""Copied over the caller's app.py: as it is shipped, and by class too, since this caller has the job's code."""

from typing import Any

from probes import Greet  # type: ignore[import-not-found]
from shipped import handler as shipped  # type: ignore[import-not-found]

from relayq_core import dispatch


def handler(event: dict[str, Any], context: object) -> Any:
    """`{"greet": name}` dispatches an object; anything else is the shipped handler's."""
    if "greet" in event:
        return {"job_id": dispatch(Greet(name=event["greet"])).job_id}
    return shipped(event, context)
