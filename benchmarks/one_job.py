"""A module of jobs, for a runner to start with."""

from relayq_core import job


@job(queue="emails", timeout=30)
def send_email(to: str, subject: str) -> None:
    """Do nothing."""
