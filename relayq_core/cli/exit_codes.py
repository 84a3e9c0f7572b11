"""How a command ends: the exit codes, and the exception that carries one."""

from __future__ import annotations

from relayq_core.errors import Portable

OK = 0
ERROR = 1
USAGE = 2
JOB_FAILED = 3
NOT_FOUND = 4
STILL_RUNNING = 5

LEGEND = "0 ok, 1 error, 2 usage, 3 the job failed or was cancelled, 4 not found, 5 still waiting or running"


class Stop(Portable, Exception):
    """End the command with this sentence on stderr, and this exit code."""

    def __init__(self, message: str, code: int = ERROR, *, kind: str = "Error") -> None:
        self.code = code
        self.kind = kind
        super().__init__(message)


class NotFound(Stop):
    """End the command: what it was asked for does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, NOT_FOUND, kind="NotFound")


class JobNotFound(NotFound):
    """End the command: there is no job with this id."""

    def __init__(self, job_id: str, where: str = "in either table") -> None:
        super().__init__(f"there is no job {job_id!r} {where}")
