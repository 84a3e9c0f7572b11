"""The kit on a system without forks, alarms and POSIX modules, as Windows is."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import os, signal, sys, threading
for module, names in {
    os: ("fork", "forkpty", "register_at_fork", "getuid", "geteuid"),
    signal: ("setitimer", "getitimer", "alarm", "SIGALRM", "ITIMER_REAL", "ITIMER_VIRTUAL", "SIGKILL", "SIGHUP",
             "SIGUSR1", "SIGCHLD", "pthread_sigmask", "pthread_kill", "sigpending"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in ("resource", "termios", "pwd", "grp"):
    sys.modules[name] = None

from relayq_core import dispatch, get, job
from relayq_core.testing import fake, inline

@job(timeout=30)
def greet(name: str) -> str:
    return f"Hello, {name}!"

@job(timeout=30)
async def greet_slowly(name: str) -> str:
    return f"Hello, {name}!"

with inline():
    for greeting in (greet, greet_slowly):
        record = get(dispatch(greeting.job(name="Ada"), timeout=5).job_id)
        assert record.result == "Hello, Ada!", record
with fake() as kit:
    dispatch(greet.job(name="Ada"))
    assert [record.status for record in kit.drain()] == ["completed"]
print("done")
"""


def test_the_kit_runs_jobs_where_there_is_neither_fork_nor_alarm() -> None:
    """Dispatch, run, time out by a thread: nothing of it asks the system for what only POSIX has."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", _SCRIPT], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("done\n", "", 0)
