"""What `.relayq/` keeps: the two tables' rows as JSON, so that a later command can look at them and act on them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from relayq_core.errors import RelayQError
from relayq_core.local.aws import FAILED_TABLE, JOBS_TABLE, EmbeddedAws
from relayq_core.local.private import opened, private_folder, write_private

#: Where the state is, in the current folder.
FOLDER = Path(".relayq")
_FILE = "state.json"
_VERSION = 1


class NoState(RelayQError):
    """Nothing is kept in this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"there is no {folder / _FILE} here: run `relayq demo` in this folder first, "
            "or begin with empty tables by `relayq --local tables create`"
        )


class UnreadableState(RelayQError):
    """The kept state cannot be read."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file} cannot be read ({problem}); run `relayq demo` again, or delete it")


class Held(RelayQError):
    """A running process has this folder for itself."""

    def __init__(self, what: str, pid: str) -> None:
        told = f" (process {pid})" if pid else ""
        super().__init__(f"{what} runs here already{told}: end it, or work in another folder")


def made_folder(folder: Path) -> Path:
    """The folder, made if need be, closed to other users, and kept out of version control."""
    private_folder(folder)
    write_private(folder / ".gitignore", "*\n")
    return folder


@contextlib.contextmanager
def kept(
    folder: Path, *, begin: bool = False, waiting: Callable[[str], None] | None = None
) -> Iterator[tuple[EmbeddedAws, dict[str, str]]]:
    """An embedded AWS with the kept rows, and the settings that were kept with them; the rows are saved at the end.

    One command at a time: another waits, and calls `waiting` with who has them, as "process 123".

    Raises NoState unless this is to `begin` one, and UnreadableState.
    """
    if not begin and not exists(folder):
        raise NoState(folder)
    with _locked(made_folder(folder), waiting):
        state = _read(folder / _FILE)
        aws = EmbeddedAws()
        try:
            aws.create_tables()
            for table, rows in state["tables"].items():
                aws.fill(table, rows)
            try:
                yield aws, state["environ"]
            finally:
                save(folder, aws, state["environ"])
        finally:
            aws.close()


@contextlib.contextmanager
def held(folder: Path, file: str, what: str) -> Iterator[None]:
    """Have a folder's `file` for oneself, until this process ends at the latest. Raises Held where another has it.

    `what` is told of whoever has it.
    """
    import fcntl

    with opened(folder / file, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise Held(what, lock.read().strip()) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def exists(folder: Path) -> bool:
    """Whether rows are kept there."""
    return (folder / _FILE).exists()


def save(folder: Path, aws: EmbeddedAws, environ: Mapping[str, str]) -> None:
    """Write the tables' rows, and settings to use with them, in one step."""
    tables = {table: aws.rows(table) for table in (JOBS_TABLE, FAILED_TABLE)}
    text = json.dumps({"version": _VERSION, "environ": dict(environ), "tables": tables}, indent=1)
    draft = folder / f"{_FILE}.{os.getpid()}"
    write_private(draft, text)
    draft.replace(folder / _FILE)


def delete(folder: Path) -> bool:
    """Forget the kept rows; False if there were none."""
    try:
        (folder / _FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {"environ": {}, "tables": {}}
    try:
        state: dict[str, Any] = json.loads(file.read_text())
        if state["version"] != _VERSION:
            raise UnreadableState(file, f"version {state['version']}, this is version {_VERSION}")
        return {"environ": dict(state["environ"]), "tables": dict(state["tables"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableState(file, type(error).__name__) from error


@contextlib.contextmanager
def _locked(folder: Path, waiting: Callable[[str], None] | None) -> Iterator[None]:
    import fcntl

    with opened(folder / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                file.seek(0)
                waiting(f"process {pid}" if (pid := file.read().strip()) else "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
