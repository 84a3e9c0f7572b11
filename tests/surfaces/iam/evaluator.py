"""A policy evaluator from the npm registry: `python -m tests.surfaces.iam.evaluator` installs it into .engines/.

It is licensed AGPL-3.0-or-later: it is run beside the tests, as a program, and nothing of it is kept here. It checks
actions, resources and condition keys against AWS's own service reference, so a misspelt one is an error.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support.tools import find_problem

PACKAGE = "@cloud-copilot/iam-simulate"
VERSION = "0.1.173"
HOME = Path(__file__).parents[3] / ".engines" / "iam-simulate"
_MANIFEST = HOME / "node_modules" / PACKAGE / "package.json"
_SCRIPT = Path(__file__).with_name("evaluate.mjs")
_OLDEST_NODE = 20


@dataclass(frozen=True, slots=True)
class Request:
    """One question to IAM. `context` are condition keys; those of several values hold a list."""

    principal: str
    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)
    #: what the principal was doing
    why: str = field(default="", compare=False)


#: By name: `arn`, and `policies` of a `name` and a `policy` each.
Principals = Mapping[str, Mapping[str, Any]]


def missing() -> str | None:
    """Why nothing can be judged here, or None if it can."""
    node = find_problem("the policy evaluator", "node", "--version", r"v(\d+)", oldest=_OLDEST_NODE)
    if node is not None:
        return node
    if not _MANIFEST.exists() or json.loads(_MANIFEST.read_text())["version"] != VERSION:
        return "the policy evaluator is not there: `make engines` installs it"
    return None


def install() -> str | None:
    """Install it unless it is there. Answers with why that cannot be done, or None."""
    if missing() is None:
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm on the PATH to install the policy evaluator with"
    HOME.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", f"{PACKAGE}@{VERSION}"]
    installed = subprocess.run(
        [*command, "--prefix", HOME], cwd=HOME, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return None if installed.returncode == 0 else f"npm install {PACKAGE} failed: {installed.stderr.strip()[-500:]}"


def judged(principals: Principals, requests: Sequence[Request]) -> list[str]:
    """What IAM would answer to each: Allowed, ImplicitlyDenied, ExplicitlyDenied, or an error that begins so."""
    asked = json.dumps({"principals": principals, "requests": [asdict(request) for request in requests]})
    node = shutil.which("node")
    assert node is not None
    # a module is looked for beside the script that imports it
    script = HOME / _SCRIPT.name
    if not script.exists() or script.read_text() != _SCRIPT.read_text():
        shutil.copy(_SCRIPT, script)
    answer = subprocess.run([node, script], input=asked, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    answers: list[str] = json.loads(answer.stdout)
    assert len(answers) == len(requests)
    return answers


if __name__ == "__main__":
    problem = install() or missing()
    if problem is not None:
        print(f"{problem}. The grants will be tested without it.", file=sys.stderr)
    else:
        print(f"The policy evaluator is in {HOME}")
