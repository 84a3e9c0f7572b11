"""DynamoDB Local, Amazon's own engine: `python -m tests.engines` downloads it into .engines/, the tests start it.

It comes from the npm registry: the package amplify-dynamodb-simulator carries the jar.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "amplify-dynamodb-simulator@2.9.30"
HOME = Path(__file__).parents[1] / ".engines" / "dynamodb-local"
_JAR = HOME / "DynamoDBLocal.jar"
_OLDEST_JAVA = 17


def missing() -> str | None:
    """Why DynamoDB Local cannot be started here, or None if it can."""
    if (problem := _java_problem()) is not None:
        return problem
    return None if _JAR.exists() else "DynamoDB Local is not there: `make engines` downloads it"


def _java_problem() -> str | None:
    java = shutil.which("java")
    if java is None:
        return f"DynamoDB Local needs Java {_OLDEST_JAVA} or newer, and there is no java on the PATH"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', told)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        return f"DynamoDB Local needs Java {_OLDEST_JAVA} or newer, this is {told.splitlines()[:1] or 'unknown'}"
    return None


def install() -> str | None:
    """Download it unless it is there. Answers with why that cannot be done, or None."""
    if _JAR.exists():
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm on the PATH to download DynamoDB Local with"
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True, check=False
        )
        archives = list(Path(folder).glob("*.tgz"))
        if packed.returncode != 0 or not archives:
            return f"npm pack {PACKAGE} failed: {packed.stderr.strip()[-500:]}"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
        shutil.rmtree(HOME, ignore_errors=True)
        HOME.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(folder) / "package" / "emulator", HOME)
    return None


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """A fresh DynamoDB Local, in memory; answers with its endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["java", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", _JAR.name]
    # no telemetry: it would call out; it cannot be told to listen on 127.0.0.1 only
    options = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    with (
        (HOME.parent / "dynamodb-local.log").open("w") as log,
        subprocess.Popen([*command, *options], cwd=HOME, stdout=log, stderr=log) as process,
    ):
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait_for(endpoint, process)
            yield endpoint
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
        except urllib.error.HTTPError as answer:  # it answers 400 to what is no request of DynamoDB
            answer.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"DynamoDB Local did not start; see {HOME.parent / 'dynamodb-local.log'}")


if __name__ == "__main__":
    problem = install() or missing()
    if problem is not None:
        print(f"{problem}. The contract tests will run without it.", file=sys.stderr)
    else:
        print(f"DynamoDB Local is in {HOME}")
