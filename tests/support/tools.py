"""Programs that a part of the tests needs on the PATH, in a version that is new enough."""

from __future__ import annotations

import re
import shutil
import subprocess


def find_problem(what: str, name: str, version_flag: str, pattern: str, *, oldest: int) -> str | None:
    """Return why `what` cannot use the program of this name, or None if it can.

    `pattern` finds the major version, as its first group, in what the program prints for `version_flag`.
    """
    wanted = f"{what} needs {name.title()} {oldest} or newer"
    program = shutil.which(name)
    if program is None:
        return f"{wanted}, and there is no {name} on the PATH"
    answer = subprocess.run([program, version_flag], capture_output=True, text=True, check=False)
    printed = answer.stdout + answer.stderr
    version = re.search(pattern, printed)
    if version is None or int(version[1]) < oldest:
        return f"{wanted}, this is {printed.splitlines()[:1] or 'unknown'}"
    return None
