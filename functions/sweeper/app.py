"""The sweeper's entry point."""

from relayq_core.handlers.sweeper import handler

__all__ = ["handler"]
