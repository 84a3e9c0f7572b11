"""DynamoDB Local, Amazon's own engine: `python -m tests.support.engines` downloads it into .engines/.

The tests start it. It comes from the npm registry: the package amplify-dynamodb-simulator carries the jar.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
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

from tests.support.tools import find_problem

PACKAGE = "amplify-dynamodb-simulator@2.9.30"
#: Of its archive, as `npm view PACKAGE dist.integrity` shows it: what is run here is what was looked at.
INTEGRITY = "sha512-xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ=="
HOME = Path(__file__).parents[2] / ".engines" / "dynamodb-local"
_JAR = HOME / "DynamoDBLocal.jar"
_OLDEST_JAVA = 17
#: Where the address of a DynamoDB Local is that another process has started, as for tests inside of a chroot.
ENDPOINT = "TEST_DYNAMODB_LOCAL"
_LIFELINE = "lifeline"
#: Runs its arguments beside this process until the last writer of its stdin, a pipe, is gone.
_KEEPER = 'exec 3<&0; { "$0" "$@" 3<&- & engine=$!; cat <&3 >/dev/null; kill $engine; wait $engine; } &'


def missing() -> str | None:
    """Why DynamoDB Local cannot be started here, or None if it can."""
    java = find_problem("DynamoDB Local", "java", "-version", r'version "(?:1\.)?(\d+)', oldest=_OLDEST_JAVA)
    if java is not None:
        return java
    return None if _JAR.exists() else "DynamoDB Local is not there: `make engines` downloads it"


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
        if (found := integrity_of(archives[0])) != INTEGRITY:
            return f"{PACKAGE} is not what it was when its hash was recorded: expected {INTEGRITY}, got {found}"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
        shutil.rmtree(HOME, ignore_errors=True)
        HOME.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(Path(folder) / "package" / "emulator", HOME)
    return None


def integrity_of(archive: Path) -> str:
    """The hash of a package's archive, as npm writes it."""
    with archive.open("rb") as file:
        return f"sha512-{base64.b64encode(hashlib.file_digest(file, 'sha512').digest()).decode()}"


@contextmanager
def kept_while_open(folder: Path) -> Iterator[None]:
    """Keep the engines that processes share through this folder alive while the context is open."""
    os.mkfifo(folder / _LIFELINE)
    lifeline = os.open(folder / _LIFELINE, os.O_RDWR)  # for writing alone it would wait for a reader
    try:
        yield
    finally:
        os.close(lifeline)


def shared_dynamodb_local(folder: Path) -> str:
    """The endpoint of this folder's DynamoDB Local, in memory; the first process to ask starts it.

    It ends when `kept_while_open` does, or when the process that holds that open is killed.
    """
    address = folder / "dynamodb-local"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            address.write_text(_started(folder))
    return address.read_text()


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """A fresh DynamoDB Local for this process alone; answers with its endpoint."""
    with tempfile.TemporaryDirectory(prefix="engines-") as folder, kept_while_open(Path(folder)):
        yield shared_dynamodb_local(Path(folder))


def _started(folder: Path) -> str:
    """Its endpoint, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["java", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", _JAR.name]
    # no telemetry: it would call out; it has no option to listen on 127.0.0.1 only
    options = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    lifeline = os.open(folder / _LIFELINE, os.O_RDONLY | os.O_NONBLOCK)  # waits for no writer, who may be dead
    os.set_blocking(lifeline, True)
    try:
        with (folder / "log").open("w") as log:
            subprocess.run(
                ["sh", "-c", _KEEPER, *command, *options],
                cwd=HOME, stdin=lifeline, stdout=log, stderr=log, start_new_session=True, check=True,
            )  # fmt: skip
    finally:
        os.close(lifeline)
    endpoint = f"http://127.0.0.1:{port}"
    _wait_for(endpoint, folder / "log")
    return endpoint


def _wait_for(endpoint: str, log: Path) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
        except urllib.error.HTTPError as answer:  # it answers 400 to what is no request of DynamoDB
            answer.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"DynamoDB Local did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    problem = install() or missing()
    if problem is not None:
        print(f"{problem}. The contract tests will run without it.", file=sys.stderr)
    else:
        print(f"DynamoDB Local is in {HOME}")
