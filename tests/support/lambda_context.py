"""What Lambda gives a handler beside its event."""

from __future__ import annotations


class Context:
    """An invocation that has plenty of time left."""

    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        """Return the most that Lambda allows."""
        return 900_000
