"""The runner's entry point. Its jobs are the modules in `jobs/`."""

from relayq_core.handlers.runner import handler

__all__ = ["handler"]
