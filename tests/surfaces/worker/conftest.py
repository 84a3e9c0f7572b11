"""Jobs and listeners that a test defines are forgotten after it."""

from tests.support.isolation import isolated

__all__ = ["isolated"]
