"""Jobs that a test defines are forgotten after it."""

from __future__ import annotations

from tests.support.isolation import isolated

__all__ = ["isolated"]
