"""Names are dispatched here whose code must not be there; another test module may have imported it."""

from tests.support.isolation import isolated

__all__ = ["isolated"]
