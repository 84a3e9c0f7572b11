"""Receivers on this machine, for all tests of the webhook job."""

from tests.functions.webhook.receivers import connects, dns, private_allowed, receiver

__all__ = ["connects", "dns", "private_allowed", "receiver"]
