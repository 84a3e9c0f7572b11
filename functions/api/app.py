"""The API's entry point: jobs over HTTP."""

from relayq_core.handlers.api import handler

__all__ = ["handler"]
